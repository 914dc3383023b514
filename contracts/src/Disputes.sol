// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {DisputesBase} from "./DisputesBase.sol";
import {EpochHash} from "./EpochHash.sol";
import {FraudProofs} from "./FraudProofs.sol";
import {Openings} from "./Openings.sol";
import {Owed} from "./Owed.sol";
import {Slashing} from "./Slashing.sol";
import {ICouncil} from "./interfaces/ICouncil.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title Fraud proofs, demands, omissions, escalations and slashing; documented in IDisputes
/// @dev What follows from a fault, and what is held under a bond. `FraudProofs` says what a fault is, `Slashing` has the
///      reports against workers, `Owed` what receipts are worth.
contract Disputes is Slashing {
    using Address for address;

    /// @dev A header that can still be proven wrong, and which verifiers signed it.
    struct Target {
        bytes32 headerHash;
        IRunLedger.Posting posting;
        uint64 signerBitmap;
    }

    /// @dev One word of bits, and 100 answers fit into a few transactions.
    uint256 public constant MAX_INDICES = 100;
    /// @dev A search among 10^8 leaves takes four. Each makes honest workers wait a response and a challenge window more.
    uint8 public constant MAX_ROUNDS = 4;
    uint128 public constant BONDS_PER_STAKE = BONDS;
    /// @dev The code that what receipts are worth is delegated to.
    address private immutable _owedCode;

    mapping(bytes32 disputeId => Dispute) private _disputes;
    /// @dev Open ones about each header.
    mapping(bytes32 headerHash => uint256) private _numOmissions;

    constructor(IRunLedger ledger_, uint48 responseWindow_, uint64 appealWindow_, uint64 rulingWindow_)
        DisputesBase(
            ledger_,
            IStakeRegistry(ledger_.registry()),
            ICouncil(ledger_.council()),
            address(new FraudProofs(ledger_)),
            IStakeRegistry(ledger_.registry()).unbondPeriod(),
            responseWindow_
        )
        Slashing(appealWindow_, rulingWindow_)
    {
        // The contracts name one another as immutables, so this one, deployed last, checks the circle.
        if (_registry.slasher() != address(this) || _ledger.disputes() != address(this)) {
            revert WrongWiring(_registry.slasher(), _ledger.disputes());
        }
        // Signers' stake outlasts a challenge window (RunLedger keeps it under half of unbonding) and then these two.
        uint64 held = responseWindow_ + rulingWindow_;
        if (responseWindow_ < MIN_WINDOW || rulingWindow_ < MIN_WINDOW || held * 2 >= _unbondPeriod) {
            revert BadWindow(held, MIN_WINDOW, (_unbondPeriod - 1) / 2);
        }
        _owedCode = address(new Owed(_ledger, _registry, _council, _proofs, _unbondPeriod, responseWindow_));
    }

    // ------------------------------------------------------------------ proofs
    // What is named without being used is read by `FraudProofs`, from the call itself.

    function proveBadLeaf(
        IRunLedger.EpochHeader calldata header,
        WorkProof calldata work,
        bytes calldata signature
    ) external {
        (work, signature);
        _condemn(header, Fault.BadLeaf);
    }

    function proveBadPair(
        IRunLedger.EpochHeader calldata header,
        WorkProof calldata left,
        WorkProof calldata right
    ) external {
        (left, right);
        _condemn(header, Fault.BadPair);
    }

    function proveBadEdge(IRunLedger.EpochHeader calldata header, WorkProof calldata work) external {
        work;
        _condemn(header, Fault.BadEdge);
    }

    function proveDuplicate(
        IRunLedger.EpochHeader calldata header,
        WorkProof calldata work,
        IRunLedger.EpochHeader calldata other,
        WorkProof calldata otherWork
    ) external {
        (work, other, otherWork);
        _condemn(header, Fault.Duplicate);
    }

    function proveStaleNonce(
        IRunLedger.EpochHeader calldata header,
        WorkProof calldata work,
        IRunLedger.AccountProof calldata before
    ) external {
        (work, before);
        _condemn(header, Fault.StaleNonce);
    }

    function proveAccountOrder(
        IRunLedger.EpochHeader calldata header,
        IRunLedger.AccountProof calldata left,
        IRunLedger.AccountProof calldata right
    ) external {
        (left, right);
        _condemn(header, Fault.AccountOrder);
    }

    function proveBadAccount(
        IRunLedger.EpochHeader calldata header,
        address worker,
        IRunLedger.AccountProof[] calldata before,
        WorkProof[] calldata work,
        IRunLedger.AccountProof[] calldata account
    ) external {
        (worker, before, work, account);
        _condemn(header, Fault.BadAccount);
    }

    // ------------------------------------------------------------------ demands

    function demand(IRunLedger.EpochHeader calldata header, DisputeKind tree, uint32[] calldata indices)
        external
        returns (bytes32 disputeId)
    {
        _checkIndices(header, tree, indices);
        _checkRounds(header);
        uint128 bond = uint128(indices.length) * _bondOf(header.runId);
        return _open(header, tree, _responseWindow, bond, keccak256(abi.encode(indices)), indices, address(0));
    }

    function answerWork(
        bytes32 disputeId,
        IRunLedger.EpochHeader calldata header,
        uint32[] calldata indices,
        uint256[] calldata slots,
        WorkProof[] calldata work,
        bytes[] calldata signatures
    ) external {
        uint128 left = _requireDemand(disputeId, DisputeKind.Work, header, indices).unanswered;
        _requireLength(slots.length, work.length);
        _requireLength(signatures.length, work.length);
        for (uint256 i = 0; i < work.length; ++i) {
            uint128 bit = _bitOf(indices, slots[i], work[i].index);
            if (left & bit == 0) continue;
            Openings.requireWork(header, work[i]);
            bytes32 hash = keccak256(signatures[i]);
            bytes32 expected = work[i].leaf.signatureHash;
            if (hash != expected) revert WrongSignature(hash, expected);
            left ^= bit;
            emit WorkAnswered(disputeId, work[i].index, work[i].leaf, signatures[i], work[i].proof);
        }
        _answer(disputeId, left);
    }

    function answerAccounts(
        bytes32 disputeId,
        IRunLedger.EpochHeader calldata header,
        uint32[] calldata indices,
        uint256[] calldata slots,
        IRunLedger.AccountProof[] calldata accounts
    ) external {
        uint128 left = _requireDemand(disputeId, DisputeKind.Accounts, header, indices).unanswered;
        _requireLength(slots.length, accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            IRunLedger.AccountProof calldata account = accounts[i];
            uint128 bit = _bitOf(indices, slots[i], account.index);
            if (left & bit == 0) continue;
            Openings.requireAccount(header.accountRoot, header.accountCount, account);
            left ^= bit;
            emit AccountAnswered(
                disputeId,
                account.index,
                account.worker,
                account.earned,
                account.lastNonce,
                account.proof
            );
        }
        _answer(disputeId, left);
    }

    // ------------------------------------------------------------------ omissions

    function proveOmission(
        IRunLedger.EpochHeader calldata header,
        Receipt calldata receipt,
        bytes calldata signature,
        WorkProof[] calldata around,
        IRunLedger.AccountProof[] calldata before
    ) external returns (bytes32 disputeId) {
        (signature, around, before);
        _requireProven();
        return _open(
            header,
            DisputeKind.Omission,
            _responseWindow,
            _bondOf(header.runId),
            EpochHash.work(receipt.work),
            new uint32[](0),
            receipt.work.worker
        );
    }

    function answerOmission(
        bytes32 disputeId,
        uint256 runId,
        bytes32 workHash,
        Condemnation[] calldata verdicts
    ) external {
        Dispute storage dispute = _requireHeld(disputeId, DisputeKind.Omission);
        // Also where it was acquitted since: the work was left out while it stood accused, and cannot come back in order.
        if (!_reported[dispute.runId][dispute.worker]) {
            if (verdicts.length == 0) revert NotAccused(msg.sender, dispute.worker);
            if (runId != dispute.runId || workHash != dispute.indicesHash) revert BadWitness(dispute.worker);
            _requireProven();
        }
        _reject(disputeId, false, msg.sender);
    }

    // ------------------------------------------------------------------ what no epoch has

    function claimOwed(Receipt[] calldata, bytes[] calldata) external {
        _delegate();
    }

    function answerPaid(Work calldata, IRunLedger.EpochHeader calldata, WorkProof calldata) external {
        _delegate();
    }

    function answerCondemned(Work calldata, Condemnation[] calldata) external {
        _delegate();
    }

    function stopOverdue(Work calldata) external {
        _delegate();
    }

    function payOwed(uint256, address) external {
        _delegate();
    }

    function refundRun(uint256) external {
        _delegate();
    }

    // ------------------------------------------------------------------ reading

    function ledger() external view returns (IRunLedger) {
        return _ledger;
    }

    function proofs() external view returns (address) {
        return _proofs;
    }

    function responseWindow() external view returns (uint48) {
        return _responseWindow;
    }

    function claimedAt(bytes32 workHash) external view returns (uint48) {
        return _claimedAt[workHash];
    }

    function owedOf(uint256 runId, address worker) external view returns (uint128) {
        return _owed[runId][worker];
    }

    function booksOf(uint256 runId) external view returns (uint128 units, uint64 claimants) {
        Books storage books = _books[runId];
        return (books.units, books.claimants);
    }

    function decidedAt(uint256 runId) external view returns (uint64 claimsUntil, uint64 paidFrom) {
        return _decidedAt(_run(runId));
    }

    // ------------------------------------------------------------------ escalations

    function escalate(IRunLedger.EpochHeader calldata header, bytes32 reason)
        external
        returns (bytes32 disputeId)
    {
        uint128 bond = _minStakeOf(header.runId);
        return _open(
            header, DisputeKind.Escalation, rulingWindow, bond, reason, new uint32[](0), address(0)
        );
    }

    function rule(bytes32 disputeId, bool isFraud) external {
        _requireArbiter();
        _requireHeld(disputeId, DisputeKind.Escalation);
        if (isFraud) return _uphold(disputeId);
        // No finder: an arbiter must not gain by one ruling rather than the other.
        _reject(disputeId, false, address(0));
    }

    // ------------------------------------------------------------------ deciding

    function expire(bytes32 disputeId) external {
        Dispute storage dispute = _disputes[disputeId];
        if (dispute.status != DisputeStatus.Open) {
            revert WrongDispute(disputeId, dispute.kind, dispute.status);
        }
        bool isHeld = _isHeld(dispute);
        if (isHeld) {
            _requireFrom(dispute.deadline);
            if (dispute.kind != DisputeKind.Escalation) return _uphold(disputeId);
        }
        _close(disputeId, DisputeStatus.Moot);
        // Voiding has reset the epoch's holds; a release would then end somebody else's.
        if (isHeld) _ledger.releaseEpoch(dispute.runId, dispute.epoch, false);
        _registry.returnBond(dispute.by, dispute.bond);
    }

    function disputeOf(bytes32 disputeId) external view returns (Dispute memory) {
        return _disputes[disputeId];
    }

    /// @dev The same call, on this storage, by the other half of the code. Its refusals come through.
    function _delegate() private {
        // slither-disable-next-line unused-return -- none of these functions returns anything
        _owedCode.functionDelegateCall(msg.data);
    }

    /// @dev Proven, so void, and the signers pay.
    function _condemn(IRunLedger.EpochHeader calldata header, Fault fault) private {
        _requireProven();
        Target memory target = _targetOf(header.runId, header.epoch, EpochHash.header(header));
        _void(header.runId, header.epoch, target, fault, msg.sender);
        _slashSigners(header.runId, target.signerBitmap, msg.sender);
    }

    /// @dev The epoch is void, the disputer is the finder, and the bond returns. Signers pay, but for an omission: what
    ///      an orchestrator never showed them they cannot know.
    function _uphold(bytes32 disputeId) private {
        Dispute storage dispute = _disputes[disputeId];
        (uint256 runId, address by) = (dispute.runId, dispute.by);
        Target memory target = _targetOf(runId, dispute.epoch, dispute.headerHash);
        Fault fault = dispute.kind == DisputeKind.Escalation
            ? Fault.Escalation
            : dispute.kind == DisputeKind.Omission ? Fault.Omission : Fault.Unanswered;
        _close(disputeId, DisputeStatus.Upheld);
        if (fault == Fault.Omission) {
            _ledger.releaseEpoch(runId, dispute.epoch, false);
            _requireOmissionsOnly(runId, dispute.epoch);
        }
        _void(runId, dispute.epoch, target, fault, by);
        if (fault == Fault.Omission) {
            _take(_run(runId).operator, _minStakeOf(runId), by);
        } else {
            _slashSigners(runId, target.signerBitmap, by);
        }
        _registry.returnBond(by, dispute.bond);
    }

    /// @dev Void the epoch and every later one, or forget the retracted header.
    function _void(uint256 runId, uint32 epoch, Target memory target, Fault fault, address prover) private {
        emit FraudProven(runId, epoch, target.headerHash, fault, prover);
        bool keepsSigners = fault == Fault.Omission;
        if (target.posting == IRunLedger.Posting.Pending) _ledger.voidEpoch(runId, epoch, keepsSigners);
        else _ledger.clearRetracted(runId, target.headerHash);
    }

    /// @dev Signers that an omission spares must not escape what others hold against them, so it waits for demands and
    ///      escalations about all that it would void. Not for omissions: two would wait for one another for ever.
    function _requireOmissionsOnly(uint256 runId, uint32 epoch) private view {
        uint32 end = _run(runId).numPosted;
        for (uint32 n = epoch; n < end; ++n) {
            IRunLedger.Epoch memory pending = _epoch(runId, n);
            if (pending.holds > _numOmissions[pending.headerHash]) {
                revert IRunLedger.EpochDisputed(n, pending.holds);
            }
        }
    }

    function _slashSigners(uint256 runId, uint64 signerBitmap, address finder) private {
        uint128 minStake = _minStakeOf(runId);
        for (uint256 i = 0; signerBitmap >> i != 0; ++i) {
            if ((signerBitmap >> i) & 1 == 0) continue;
            // slither-disable-next-line unused-return -- whose seat it is does not matter
            (address signer,) = _ledger.verifierAt(runId, i);
            _take(signer, minStake, finder);
        }
    }

    function _answer(bytes32 disputeId, uint128 left) private {
        Dispute storage dispute = _disputes[disputeId];
        dispute.unanswered = left;
        if (left != 0) return;
        // The leaves are known only now: whoever asked gets a window to prove what they show.
        _reject(disputeId, _epoch(dispute.runId, dispute.epoch).rounds < MAX_ROUNDS, msg.sender);
    }

    /// @dev The epoch stands, and the disputer loses its bond.
    function _reject(bytes32 disputeId, bool prolong, address finder) private {
        Dispute storage dispute = _close(disputeId, DisputeStatus.Answered);
        _ledger.releaseEpoch(dispute.runId, dispute.epoch, prolong);
        _registry.forfeitBond(dispute.bond, finder);
    }

    function _close(bytes32 disputeId, DisputeStatus status) private returns (Dispute storage dispute) {
        dispute = _disputes[disputeId];
        dispute.status = status;
        if (dispute.kind == DisputeKind.Omission) --_numOmissions[dispute.headerHash];
        emit DisputeClosed(disputeId, status);
    }

    // ------------------------------------------------------------------ opening

    /// @dev The bond is pulled last; only the registry's own token is called for it.
    function _open(
        IRunLedger.EpochHeader calldata header,
        DisputeKind kind,
        uint64 window,
        uint128 bond,
        bytes32 subject,
        uint32[] memory indices,
        address worker
    ) private returns (bytes32 disputeId) {
        bytes32 headerHash = _requirePending(header);
        disputeId = keccak256(abi.encode(headerHash, kind, subject, msg.sender));
        Dispute storage dispute = _disputes[disputeId];
        if (dispute.status != DisputeStatus.None) revert WrongDispute(disputeId, dispute.kind, dispute.status);
        dispute.kind = kind;
        dispute.status = DisputeStatus.Open;
        dispute.epoch = header.epoch;
        dispute.deadline = uint48(block.timestamp + window);
        dispute.unanswered = uint128((1 << indices.length) - 1);
        dispute.by = msg.sender;
        dispute.runId = uint64(header.runId); // the ledger knows the run, so its number was counted up to
        dispute.bond = bond;
        dispute.worker = worker;
        dispute.headerHash = headerHash;
        dispute.indicesHash = subject;
        emit Disputed(
            disputeId, header.runId, header.epoch, kind, msg.sender, dispute.deadline, indices, subject
        );
        if (kind == DisputeKind.Omission) ++_numOmissions[headerHash];
        _ledger.holdEpoch(header.runId, header.epoch);
        _registry.postBond(msg.sender, bond);
    }

    function _requirePending(IRunLedger.EpochHeader calldata header) private view returns (bytes32 headerHash) {
        headerHash = EpochHash.header(header);
        if (!_isPending(header.runId, header.epoch, headerHash)) {
            revert NotDisputable(header.runId, header.epoch, headerHash);
        }
        // Or a last-moment hold could put off forever an epoch that only waits for somebody to call `advance`.
        _requireBefore(_epoch(header.runId, header.epoch).finalAt);
    }

    // ------------------------------------------------------------------ rules

    function _checkIndices(
        IRunLedger.EpochHeader calldata header,
        DisputeKind tree,
        uint32[] calldata indices
    ) private pure {
        if (indices.length == 0 || indices.length > MAX_INDICES) revert BadIndices(indices.length, MAX_INDICES);
        uint256 count = tree == DisputeKind.Work
            ? header.workCount
            : tree == DisputeKind.Accounts ? header.accountCount : 0;
        for (uint256 i = 0; i < indices.length; ++i) {
            if (indices[i] >= count) revert BadIndices(indices[i], count);
            // A leaf asked for twice would be answered once, and count as withheld.
            if (i > 0 && indices[i] <= indices[i - 1]) revert BadIndices(indices[i], indices[i - 1]);
        }
    }

    function _checkRounds(IRunLedger.EpochHeader calldata header) private view {
        IRunLedger.Epoch memory epoch = _epoch(header.runId, header.epoch);
        if (epoch.rounds < MAX_ROUNDS) return;
        if (block.timestamp >= uint256(epoch.postedAt) + _run(header.runId).challengeWindow) {
            revert TooManyRounds(epoch.rounds, MAX_ROUNDS);
        }
    }

    function _requireDemand(
        bytes32 disputeId,
        DisputeKind tree,
        IRunLedger.EpochHeader calldata header,
        uint32[] calldata indices
    ) private view returns (Dispute storage dispute) {
        dispute = _requireHeld(disputeId, tree);
        bytes32 headerHash = EpochHash.header(header);
        if (headerHash != dispute.headerHash) revert NotDisputable(header.runId, header.epoch, headerHash);
        if (keccak256(abi.encode(indices)) != dispute.indicesHash) {
            revert WrongDispute(disputeId, dispute.kind, dispute.status);
        }
    }

    /// @dev An open dispute of this kind, in time, whose epoch it still holds.
    function _requireHeld(bytes32 disputeId, DisputeKind kind) private view returns (Dispute storage dispute) {
        dispute = _disputes[disputeId];
        if (dispute.kind != kind || dispute.status != DisputeStatus.Open) {
            revert WrongDispute(disputeId, dispute.kind, dispute.status);
        }
        if (!_isHeld(dispute)) revert NotDisputable(dispute.runId, dispute.epoch, dispute.headerHash);
        _requireBefore(dispute.deadline);
    }

    function _isHeld(Dispute storage dispute) private view returns (bool) {
        return _isPending(dispute.runId, dispute.epoch, dispute.headerHash);
    }

    function _isPending(uint256 runId, uint32 epoch, bytes32 headerHash) private view returns (bool) {
        return _targetOf(runId, epoch, headerHash).posting == IRunLedger.Posting.Pending;
    }

    function _targetOf(uint256 runId, uint32 epoch, bytes32 headerHash) private view returns (Target memory) {
        (IRunLedger.Posting posting, uint64 signers) = _ledger.postingOf(runId, epoch, headerHash);
        return Target(headerHash, posting, signers);
    }

    function _epoch(uint256 runId, uint32 epoch) private view returns (IRunLedger.Epoch memory) {
        return _ledger.epochOf(runId, epoch);
    }

    /// @dev The bit of `unanswered` that stands for `index`.
    function _bitOf(uint32[] calldata indices, uint256 slot, uint256 index) private pure returns (uint128) {
        if (slot >= indices.length || indices[slot] != index) revert NotDemanded(index);
        return uint128(1 << slot);
    }

    function _requireLength(uint256 given, uint256 expected) private pure {
        if (given != expected) revert LengthMismatch(given, expected);
    }
}

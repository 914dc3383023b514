// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {EpochHash} from "./EpochHash.sol";
import {Openings} from "./Openings.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title What makes a posted epoch false, and what a receipt is worth; documented in IDisputes
/// @notice Holds nothing and changes nothing: each function returns if what it is shown holds and reverts if not.
///         `Disputes` puts its own calls to these functions and decides what follows.
/// @dev Three steps each: the header was posted, the leaves are in its trees, and what they say cannot all be true. Sums
///      are compared as 256-bit words, so no lie can stop its own proof by an overflow.
contract FraudProofs {
    IRunLedger private immutable _ledger;
    IStakeRegistry private immutable _registry;
    uint64 private immutable _unbondPeriod;

    constructor(IRunLedger ledger_) {
        _ledger = ledger_;
        _registry = IStakeRegistry(ledger_.registry());
        _unbondPeriod = _registry.unbondPeriod();
    }

    function proveBadLeaf(
        IRunLedger.EpochHeader calldata header,
        IDisputes.WorkProof calldata work,
        bytes calldata signature
    ) external view {
        IRunLedger.Posting posting = _postingOf(header);
        Openings.requireWork(header, work);
        IRunLedger.WorkLeaf calldata leaf = work.leaf;
        IDisputes.Work memory signed = EpochHash.workOf(leaf);
        // Nobody knows any more when a retracted header was posted; it was not later than now.
        uint64 postedAt = uint64(block.timestamp);
        // slither-disable-next-line unused-return -- the accounts are not asked for
        if (posting == IRunLedger.Posting.Pending) (postedAt,) = _ledger.postedOf(header.runId, header.epoch);
        if (
            uint256(leaf.units) * EpochHash.TOKENS_PER_UNIT == leaf.tokens
                && _isPayable(header.runId, signed, postedAt)
                && (signature.length == 0 || _isSigned(leaf, signed, signature))
        ) revert IDisputes.NoFault();
    }

    function proveBadPair(
        IRunLedger.EpochHeader calldata header,
        IDisputes.WorkProof calldata left,
        IDisputes.WorkProof calldata right
    ) external view {
        _postingOf(header);
        Openings.requireWork(header, left);
        Openings.requireWork(header, right);
        if (right.index != left.index + 1) revert IDisputes.NotAdjacent(left.index, right.index);
        if (_follows(left.leaf, right.leaf)) revert IDisputes.NoFault();
    }

    function proveBadEdge(IRunLedger.EpochHeader calldata header, IDisputes.WorkProof calldata work)
        external
        view
    {
        _postingOf(header);
        Openings.requireWork(header, work);
        IRunLedger.WorkLeaf calldata leaf = work.leaf;
        bool isBadFirst = work.index == 0
            && (leaf.workerSum != leaf.units || leaf.epochSum != leaf.units || leaf.tokenSum != leaf.tokens
                || leaf.gflopSum != leaf.gflops);
        bool isBadLast = work.index == uint256(header.workCount) - 1
            && (leaf.epochSum != header.total || leaf.tokenSum != header.tokens || leaf.gflopSum != header.gflops);
        if (!isBadFirst && !isBadLast) revert IDisputes.NoFault();
    }

    function proveDuplicate(
        IRunLedger.EpochHeader calldata header,
        IDisputes.WorkProof calldata work,
        IRunLedger.EpochHeader calldata other,
        IDisputes.WorkProof calldata otherWork
    ) external view {
        _requirePaidBeside(header, _postingOf(header), other);
        Openings.requireWork(header, work);
        Openings.requireWork(other, otherWork);
        bool isSameLeaf = other.epoch == header.epoch && otherWork.index == work.index;
        bool isSameWork =
            work.leaf.worker == otherWork.leaf.worker && work.leaf.nonce == otherWork.leaf.nonce;
        if (isSameLeaf || (!isSameWork && work.leaf.payloadDigest != otherWork.leaf.payloadDigest)) {
            revert IDisputes.NoFault();
        }
    }

    function proveStaleNonce(
        IRunLedger.EpochHeader calldata header,
        IDisputes.WorkProof calldata work,
        IRunLedger.AccountProof calldata before
    ) external view {
        uint256 count = _countBefore(header, _postingOf(header));
        Openings.requireWork(header, work);
        Openings.requireAccount(header.prevAccountRoot, count, before);
        if (before.worker != work.leaf.worker) revert IDisputes.BadWitness(work.leaf.worker);
        if (work.leaf.nonce > before.lastNonce) revert IDisputes.NoFault();
    }

    function proveAccountOrder(
        IRunLedger.EpochHeader calldata header,
        IRunLedger.AccountProof calldata left,
        IRunLedger.AccountProof calldata right
    ) external view {
        _postingOf(header);
        Openings.requireAccount(header.accountRoot, header.accountCount, left);
        Openings.requireAccount(header.accountRoot, header.accountCount, right);
        if (right.index != left.index + 1) revert IDisputes.NotAdjacent(left.index, right.index);
        if (left.worker < right.worker) revert IDisputes.NoFault();
    }

    function proveBadAccount(
        IRunLedger.EpochHeader calldata header,
        address worker,
        IRunLedger.AccountProof[] calldata before,
        IDisputes.WorkProof[] calldata work,
        IRunLedger.AccountProof[] calldata account
    ) external view {
        uint256 count = _countBefore(header, _postingOf(header));
        (bool isExpected, uint256 earned, uint64 nonce) =
            Openings.accountOf(header.prevAccountRoot, count, worker, before);
        (bool hasWork, uint128 workerSum, uint64 lastNonce) = Openings.lastWorkOf(header, worker, work);
        if (hasWork) (isExpected, earned, nonce) = (true, earned + workerSum, lastNonce);
        (bool isFound, uint128 statedEarned, uint64 statedNonce) =
            Openings.accountOf(header.accountRoot, header.accountCount, worker, account);
        if (isFound == isExpected && statedEarned == earned && statedNonce == nonce) revert IDisputes.NoFault();
    }

    function proveOmission(
        IRunLedger.EpochHeader calldata header,
        IDisputes.Receipt calldata receipt,
        bytes calldata signature,
        IDisputes.WorkProof[] calldata around,
        IRunLedger.AccountProof[] calldata before
    ) external view {
        IRunLedger.Posting posting = _postingOf(header);
        IRunLedger.Run memory run = _runOf(header.runId);
        _requireReceipt(run, receipt, signature);
        IRunLedger.Epoch memory epoch = _ledger.epochOf(header.runId, header.epoch);
        IDisputes.Work calldata work = receipt.work;
        // Somebody who joined can be paid or reported; of an invented worker an operator's leaked key could tell for ever.
        if (!_ledger.isJoined(header.runId, work.worker)) revert IDisputes.NotJoined(header.runId, work.worker);
        // A receipt given after posting is for the next epoch.
        if (receipt.receivedAt > epoch.postedAt || !_isPayable(header.runId, work, epoch.postedAt)) {
            revert IDisputes.NoFault();
        }
        uint256 count = _countBefore(header, posting);
        // slither-disable-next-line unused-return -- nothing earned and no account count alike here
        (,, uint64 lastNonce) = Openings.accountOf(header.prevAccountRoot, count, work.worker, before);
        if (work.nonce <= lastNonce) revert IDisputes.NoFault();
        bool isLaterPaid = Openings.requireSkipped(header, work.worker, work.nonce, around);
        uint256 dueAt = _dueAt(run, receipt);
        // Nor for ever: what is older than that was settled or given up long ago.
        bool isOverdue = dueAt <= epoch.openedAt && epoch.openedAt <= dueAt + _unbondPeriod;
        if (!isLaterPaid && !isOverdue) revert IDisputes.NotYetDue(work.nonce);
    }

    // ------------------------------------------------------------------ receipts and what answers them

    function claimOwed(IDisputes.Receipt[] calldata receipts, bytes[] calldata signatures) external view {
        if (signatures.length != receipts.length) {
            revert IDisputes.LengthMismatch(signatures.length, receipts.length);
        }
        (uint256 runId, address worker) = (receipts[0].work.runId, receipts[0].work.worker);
        if (!_ledger.isJoined(runId, worker)) revert IDisputes.NotJoined(runId, worker);
        IRunLedger.Run memory run = _runOf(runId);
        for (uint256 i = 0; i < receipts.length; ++i) {
            IDisputes.Receipt calldata receipt = receipts[i];
            _requireReceipt(run, receipt, signatures[i]);
            IDisputes.Work calldata work = receipt.work;
            // Work of no units would be a claimant's that is owed nothing.
            bool isNothing = work.worker != worker || work.tokens < EpochHash.TOKENS_PER_UNIT;
            if (isNothing || !_isPayable(runId, work, uint64(block.timestamp))) {
                revert IDisputes.NotPayable(work.nonce);
            }
            if (run.status != IRunLedger.Status.Closed && _dueAt(run, receipt) > block.timestamp) {
                revert IDisputes.NotYetDue(work.nonce);
            }
        }
    }

    function answerPaid(
        IDisputes.Work calldata work,
        IRunLedger.EpochHeader calldata header,
        IDisputes.WorkProof calldata paid
    ) external view {
        // slither-disable-next-line unused-return -- who signed is not asked for
        (IRunLedger.Posting posting,) = _ledger.postingOf(work.runId, header.epoch, EpochHash.header(header));
        Openings.requireWork(header, paid);
        if (
            (posting != IRunLedger.Posting.Pending && posting != IRunLedger.Posting.Final)
                || paid.leaf.worker != work.worker || paid.leaf.nonce != work.nonce
        ) revert IDisputes.BadWitness(work.worker);
    }

    function answerCondemned(IDisputes.Work calldata work, IDisputes.Condemnation[] calldata verdicts) external view {
        _requireCondemned(work.runId, EpochHash.work(work), verdicts);
    }

    /// @dev Whether they are about the dispute is for `Disputes`.
    function answerOmission(
        bytes32,
        uint256 runId,
        bytes32 workHash,
        IDisputes.Condemnation[] calldata verdicts
    ) external view {
        _requireCondemned(runId, workHash, verdicts);
    }

    // ------------------------------------------------------------------ rules

    /// @dev As many verifiers as sign an epoch, each by its own replay. They may have left since: a verdict stays true.
    function _requireCondemned(uint256 runId, bytes32 workHash, IDisputes.Condemnation[] calldata verdicts)
        private
        view
    {
        IRunLedger.Run memory run = _runOf(runId);
        if (verdicts.length < run.threshold) revert IRunLedger.QuorumTooSmall(verdicts.length, run.threshold);
        bytes32 workDigest = _digest(workHash);
        uint256 heard = 0;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            IDisputes.Condemnation calldata verdict = verdicts[i];
            (address verifier, uint256 seat) = _ledger.verifierAt(runId, verdict.place);
            // Each seat once, or a verifier in league with the operator, which names its successors, is a quorum.
            if ((heard >> seat) & 1 == 1) revert IDisputes.HeardBefore(verdict.place, seat);
            heard |= 1 << seat;
            bytes32 digest = _digest(EpochHash.rejection(runId, workDigest, verifier, verdict));
            // slither-disable-next-line unused-return -- a signature that fails recovers to nobody, who is refused below
            (address signer,,) = ECDSA.tryRecoverCalldata(digest, verdict.signature);
            if (!_registry.spokeFor(signer, verifier, verdict.decidedAt)) {
                revert IRunLedger.WrongSigner(signer, verifier);
            }
        }
    }

    /// @dev A run has its settle window to pay what it took, running or stopped.
    function _dueAt(IRunLedger.Run memory run, IDisputes.Receipt calldata receipt) private pure returns (uint256) {
        return uint256(receipt.receivedAt) + run.settleWindow;
    }

    /// @dev Whether this work can be paid by an epoch posted then: what a leaf must be, and what was skipped must have
    ///      been.
    function _isPayable(uint256 runId, IDisputes.Work memory work, uint64 postedAt) private view returns (bool) {
        if (work.runId != runId || work.nonce == 0 || work.submittedAt > postedAt) return false;
        uint256 gflops = (2 * uint256(_ledger.numParametersOf(runId)) * work.tokens + 1e9 - 1) / 1e9;
        return work.gflops == gflops && _ledger.isOwed(runId, work.submittedAt);
    }

    function _isSigned(
        IRunLedger.WorkLeaf calldata leaf,
        IDisputes.Work memory signed,
        bytes calldata signature
    ) private view returns (bool) {
        bytes32 hash = keccak256(signature);
        if (hash != leaf.signatureHash) revert IDisputes.WrongSignature(hash, leaf.signatureHash);
        // slither-disable-next-line unused-return -- a signature that fails recovers to nobody, who is refused below
        (address signer,,) = ECDSA.tryRecoverCalldata(_digest(EpochHash.work(signed)), signature);
        return signer != address(0) && _registry.spokeFor(signer, leaf.worker, leaf.submittedAt);
    }

    function _follows(IRunLedger.WorkLeaf calldata left, IRunLedger.WorkLeaf calldata right)
        private
        pure
        returns (bool)
    {
        uint256 workerBefore = left.worker == right.worker ? left.workerSum : 0;
        return Openings.workKey(left.worker, left.nonce) < Openings.workKey(right.worker, right.nonce)
            && right.workerSum == workerBefore + right.units
            && right.epochSum == uint256(left.epochSum) + right.units
            && right.tokenSum == uint256(left.tokenSum) + right.tokens
            && right.gflopSum == uint256(left.gflopSum) + right.gflops;
    }

    function _requireReceipt(
        IRunLedger.Run memory run,
        IDisputes.Receipt calldata receipt,
        bytes calldata signature
    ) private view {
        bytes32 workDigest = _digest(EpochHash.work(receipt.work));
        bytes32 digest = _digest(EpochHash.receipt(receipt.work, workDigest, receipt.receivedAt));
        // slither-disable-next-line unused-return -- a signature that fails recovers to nobody, who is refused below
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (!_registry.spokeFor(signer, run.operator, receipt.receivedAt)) {
            revert IDisputes.NotOperatorsKey(signer, run.operator);
        }
    }

    // ------------------------------------------------------------------ what was posted

    function _postingOf(IRunLedger.EpochHeader calldata header)
        private
        view
        returns (IRunLedger.Posting posting)
    {
        bytes32 headerHash = EpochHash.header(header);
        // slither-disable-next-line unused-return -- who signed is for Disputes
        (posting,) = _ledger.postingOf(header.runId, header.epoch, headerHash);
        if (posting != IRunLedger.Posting.Pending && posting != IRunLedger.Posting.Retracted) {
            revert IDisputes.NotDisputable(header.runId, header.epoch, headerHash);
        }
    }

    /// @dev How many accounts there were before this epoch, under its `prevAccountRoot`. Since a header was retracted,
    ///      another epoch may have been posted before it, with as many accounts as a liar likes; such a one is final only
    ///      after the header is forgotten.
    function _countBefore(IRunLedger.EpochHeader calldata header, IRunLedger.Posting posting)
        private
        view
        returns (uint256)
    {
        if (header.epoch == 0) return 0;
        uint32 before = header.epoch - 1;
        if (posting == IRunLedger.Posting.Retracted) {
            _requireFinal(header.runId, before, _ledger.epochOf(header.runId, before).headerHash);
        }
        // slither-disable-next-line unused-return -- when it was posted is not asked for
        (, uint32 count) = _ledger.postedOf(header.runId, before);
        return count;
    }

    /// @dev `other` must pay beside `header`: it is the same, or an earlier one of the run that was there when `header`
    ///      was posted. Beside a retracted header only a final one surely was: honest work may have been posted anew.
    function _requirePaidBeside(
        IRunLedger.EpochHeader calldata header,
        IRunLedger.Posting posting,
        IRunLedger.EpochHeader calldata other
    ) private view {
        bytes32 otherHash = EpochHash.header(other);
        if (otherHash == EpochHash.header(header)) return;
        if (other.runId != header.runId || other.epoch >= header.epoch) {
            revert IDisputes.NotDisputable(other.runId, other.epoch, otherHash);
        }
        // slither-disable-next-line unused-return -- who signed is for Disputes
        (IRunLedger.Posting otherPosting,) = _ledger.postingOf(other.runId, other.epoch, otherHash);
        bool isBeside = posting == IRunLedger.Posting.Pending && otherPosting == IRunLedger.Posting.Pending;
        if (!isBeside) _requireFinal(other.runId, other.epoch, otherHash);
    }

    function _requireFinal(uint256 runId, uint32 epoch, bytes32 headerHash) private view {
        // slither-disable-next-line unused-return -- who signed is for Disputes
        (IRunLedger.Posting posting,) = _ledger.postingOf(runId, epoch, headerHash);
        if (posting != IRunLedger.Posting.Final) revert IDisputes.NotDisputable(runId, epoch, headerHash);
    }

    function _runOf(uint256 runId) private view returns (IRunLedger.Run memory run) {
        // slither-disable-next-line unused-return -- the members are not asked for
        (run,,) = _ledger.runOf(runId);
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(_ledger.domainSeparator(), structHash);
    }
}

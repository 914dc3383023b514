// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {EpochHash} from "./EpochHash.sol";
import {PositionalMerkle} from "./PositionalMerkle.sol";
import {IGate} from "./interfaces/IGate.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title Runs, escrow, epochs and claims; documented in IRunLedger
contract RunLedger is IRunLedger, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev Bounds the work of `advance` and `voidEpoch`, which walk pending epochs.
    uint256 public constant MAX_PENDING = 8;
    uint256 public constant MAX_MEMBERS = 64;
    uint32 public constant MAX_WINDOW = 30 days;

    address public immutable registry;
    address public immutable disputes;
    uint32 public immutable minWindow;

    uint256 public numRuns;
    mapping(uint256 runId => Run) private _runs;
    mapping(uint256 runId => mapping(uint32 epoch => Epoch)) private _epochs;
    mapping(uint256 runId => mapping(address worker => bool)) public isJoined;
    mapping(uint256 runId => mapping(address worker => uint256)) public claimedOf;
    mapping(address account => mapping(address token => uint256)) public creditOf;
    mapping(address operator => Meter) private _meters;

    constructor(address registry_, address disputes_, uint32 minWindow_) EIP712("Rollcall", "1") {
        if (registry_ == address(0) || disputes_ == address(0)) revert ZeroAddress();
        if (minWindow_ == 0 || minWindow_ > MAX_WINDOW) revert BadWindow(minWindow_, 1, MAX_WINDOW);
        registry = registry_;
        disputes = disputes_;
        minWindow = minWindow_;
    }

    // ------------------------------------------------------------------ runs and escrow

    function createRun(RunParams calldata params, uint256 budget, string calldata specURI)
        external
        nonReentrant
        returns (uint256 runId)
    {
        _checkParams(params);
        runId = ++numRuns;
        Run storage run = _runs[runId];
        run.operator = msg.sender;
        run.status = Status.Active;
        run.token = params.token;
        run.gate = params.gate;
        run.rate = params.rate;
        run.minStake = params.minStake;
        run.challengeWindow = params.challengeWindow;
        run.settleWindow = params.settleWindow;
        run.resumeDelay = params.resumeDelay;
        run.threshold = params.threshold;
        run.stewardThreshold = params.stewardThreshold;
        run.computeCap = params.computeCap;
        run.specHash = params.specHash;
        run.verifiers = params.verifiers;
        run.stewards = params.stewards;
        emit RunCreated(runId, msg.sender, params.token, params.specHash, specURI);
        if (budget > 0) _fund(runId, run, budget);
    }

    function fundRun(uint256 runId, uint256 amount) external nonReentrant {
        Run storage run = _runs[runId];
        if (run.status != Status.Active && run.status != Status.Halted) revert WrongStatus(runId, run.status);
        if (amount == 0) revert ZeroAmount();
        _fund(runId, run, amount);
    }

    function joinRun(uint256 runId, bytes calldata evidence) external {
        Run storage run = _requireStatus(runId, Status.Active);
        if (isJoined[runId][msg.sender]) revert AlreadyJoined(runId, msg.sender);
        if (!IStakeRegistry(registry).isRegistered(msg.sender)) revert NotRegistered(msg.sender);
        _requireStake(msg.sender, run.minStake);
        if (run.gate != address(0) && !IGate(run.gate).isEligible(runId, msg.sender, evidence)) {
            revert NotEligible(msg.sender);
        }
        isJoined[runId][msg.sender] = true;
        emit WorkerJoined(runId, msg.sender);
    }

    // ------------------------------------------------------------------ epochs

    function openEpoch(uint256 runId, bytes32 secretHash) external {
        Run storage run = _requireStatus(runId, Status.Active);
        if (msg.sender != run.operator && IStakeRegistry(registry).ownerOf(msg.sender) != run.operator) {
            revert NotOperator(msg.sender, run.operator);
        }
        if (run.computeCap != 0 && run.gflops >= run.computeCap) {
            revert ComputeCapReached(run.gflops, run.computeCap);
        }
        uint256 open = run.numOpened - run.numPosted;
        if (open >= MAX_PENDING) revert TooManyOpenEpochs(open, MAX_PENDING);
        uint32 epoch = run.numOpened++;
        _epochs[runId][epoch].secretHash = secretHash;
        _epochs[runId][epoch].openedAt = uint64(block.timestamp);
        emit EpochOpened(runId, epoch, secretHash);
    }

    function postEpoch(
        EpochHeader calldata header,
        bytes32 secret,
        uint256 signerBitmap,
        bytes[] calldata signatures,
        string calldata dataURI
    ) external {
        Run storage run = _requireRun(header.runId);
        if (run.status == Status.Closed) revert WrongStatus(header.runId, run.status);
        if (run.status == Status.Stopped && block.timestamp > run.settleUntil) {
            revert SettleWindowOver(run.settleUntil);
        }
        _advance(header.runId, run);
        uint128 cost = _checkHeader(run, header, secret);
        bytes32 headerHash = EpochHash.header(header);
        _requireQuorum(run, _hashTypedDataV4(headerHash), signerBitmap, signatures);

        Epoch storage epoch = _epochs[header.runId][header.epoch];
        run.numPosted++;
        run.committed += cost;
        epoch.headerHash = headerHash;
        epoch.accountRoot = header.accountRoot;
        epoch.accountCount = header.accountCount;
        epoch.finalAt = uint64(block.timestamp) + run.challengeWindow;
        epoch.cutoff = run.cutoff == 0 ? type(uint64).max : run.cutoff;
        epoch.cost = cost;
        epoch.tokens = header.tokens;
        epoch.gflops = header.gflops;
        epoch.signerBitmap = uint64(signerBitmap);
        emit EpochPosted(
            header.runId,
            header.epoch,
            header.generation,
            headerHash,
            header.accountRoot,
            header.dataHash,
            secret,
            cost,
            uint64(signerBitmap),
            epoch.finalAt,
            dataURI
        );
    }

    function advance(uint256 runId) external {
        _advance(runId, _requireRun(runId));
    }

    function voidEpoch(uint256 runId, uint32 epoch) external {
        if (msg.sender != disputes) revert NotDisputes(msg.sender);
        Run storage run = _requireRun(runId);
        if (epoch < run.numFinal || epoch >= run.numPosted) {
            revert EpochNotPending(epoch, run.numFinal, run.numPosted);
        }
        run.generation++;
        for (uint32 n = run.numPosted; n > epoch; --n) {
            Epoch storage voided = _epochs[runId][n - 1];
            uint128 cost = voided.cost;
            run.committed -= cost;
            _epochs[runId][n - 1] = Epoch(voided.secretHash, 0, 0, voided.openedAt, 0, 0, 0, 0, 0, 0, 0);
            emit EpochVoided(runId, n - 1, run.generation, cost);
        }
        run.numPosted = epoch;
        // Honest work of a voided epoch must still find time to be posted.
        if (run.status == Status.Stopped) run.settleUntil = uint64(block.timestamp) + run.settleWindow;
    }

    function claim(uint256 runId, uint32 epoch, AccountProof calldata account) external nonReentrant {
        Run storage run = _requireRun(runId);
        if (epoch >= run.numFinal) _advance(runId, run);
        if (epoch >= run.numFinal) revert EpochNotFinal(epoch, run.numFinal);
        Epoch storage stated = _epochs[runId][epoch];
        bytes32 leaf = EpochHash.account(account.worker, account.earned, account.lastNonce);
        if (!PositionalMerkle.verify(stated.accountRoot, leaf, account.index, stated.accountCount, account.proof)) {
            revert BadProof(account.worker, account.index);
        }
        uint256 earned = uint256(account.earned) * run.rate;
        uint256 claimed = claimedOf[runId][account.worker];
        if (earned <= claimed) revert NothingToClaim(earned, claimed);
        uint256 amount = earned - claimed;
        // Whatever the roots say, a run never pays more than its final epochs committed.
        if (amount > run.finalised - run.claimed) revert ClaimExceedsFinal(run.claimed + amount, run.finalised);

        claimedOf[runId][account.worker] = earned;
        run.claimed += uint128(amount);
        address payout = IStakeRegistry(registry).payoutOf(account.worker);
        emit Claimed(runId, account.worker, payout, amount, earned);
        IERC20(run.token).safeTransfer(payout, amount);
    }

    // ------------------------------------------------------------------ halting and ending

    function haltRun(uint256 runId, bytes32 reason) external {
        Run storage run = _requireRun(runId);
        if (run.status != Status.Active && (run.status != Status.Halted || run.haltedByStewards)) {
            revert WrongStatus(runId, run.status);
        }
        if (msg.sender == run.operator) {
            if (run.status == Status.Halted) revert WrongStatus(runId, run.status);
        } else {
            run.haltVotes = _vote(run, run.haltVotes);
            emit HaltVoted(runId, msg.sender, reason);
            if (_count(run.haltVotes) < run.stewardThreshold) return;
            run.haltedByStewards = true;
            run.haltVotes = 0;
        }
        run.resumeVotes = 0;
        run.haltedAt = uint64(block.timestamp);
        if (run.status == Status.Active) run.cutoff = uint64(block.timestamp);
        run.status = Status.Halted;
        emit RunHalted(runId, msg.sender, run.cutoff, reason);
    }

    function resumeRun(uint256 runId) external {
        Run storage run = _requireStatus(runId, Status.Halted);
        uint256 earliest = uint256(run.haltedAt) + run.resumeDelay;
        if (block.timestamp < earliest) revert TooEarly(block.timestamp, earliest);
        if (run.haltedByStewards) {
            run.resumeVotes = _vote(run, run.resumeVotes);
            emit ResumeVoted(runId, msg.sender);
            if (_count(run.resumeVotes) < run.stewardThreshold) return;
        } else if (msg.sender != run.operator) {
            revert NotOperator(msg.sender, run.operator);
        }
        // Halt votes stay: an operator that halts and resumes must not wipe its stewards' ballots.
        run.haltedByStewards = false;
        run.resumeVotes = 0;
        run.cutoff = 0;
        run.status = Status.Active;
        emit RunResumed(runId);
    }

    function stopRun(uint256 runId) external {
        Run storage run = _requireRun(runId);
        if (msg.sender != run.operator) revert NotOperator(msg.sender, run.operator);
        if (run.status != Status.Active && run.status != Status.Halted) revert WrongStatus(runId, run.status);
        if (run.status == Status.Active) run.cutoff = uint64(block.timestamp);
        run.status = Status.Stopped;
        run.settleUntil = uint64(block.timestamp) + run.settleWindow;
        emit RunStopped(runId, run.cutoff, run.settleUntil);
    }

    function closeRun(uint256 runId) external {
        Run storage run = _requireStatus(runId, Status.Stopped);
        if (block.timestamp <= run.settleUntil) revert TooEarly(block.timestamp, uint256(run.settleUntil) + 1);
        _advance(runId, run);
        if (run.numFinal < run.numPosted) revert EpochsPending(run.numFinal, run.numPosted);
        uint128 refund = run.budget - run.committed;
        run.status = Status.Closed;
        run.budget = run.committed;
        creditOf[run.operator][run.token] += refund;
        emit RunClosed(runId, refund);
    }

    function withdrawCredit(address token) external nonReentrant {
        uint256 amount = creditOf[msg.sender][token];
        if (amount == 0) revert NoCredit(msg.sender);
        creditOf[msg.sender][token] = 0;
        emit CreditWithdrawn(msg.sender, token, amount);
        IERC20(token).safeTransfer(msg.sender, amount);
    }

    // ------------------------------------------------------------------ reading

    function requireQuorum(uint256 runId, bytes32 digest, uint256 signerBitmap, bytes[] calldata signatures)
        external
        view
    {
        _requireQuorum(_requireRun(runId), digest, signerBitmap, signatures);
    }

    function runOf(uint256 runId) external view returns (Run memory) {
        return _requireRun(runId);
    }

    function epochOf(uint256 runId, uint32 epoch) external view returns (Epoch memory) {
        return _epochs[runId][epoch];
    }

    function minStakeOf(uint256 runId) external view returns (uint128) {
        return _requireRun(runId).minStake;
    }

    function meterOf(address operator) external view returns (Meter memory) {
        return _meters[operator];
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    // ------------------------------------------------------------------ rules

    function _checkParams(RunParams calldata params) private view {
        if (params.token == address(0)) revert ZeroAddress();
        if (params.rate == 0) revert ZeroAmount();
        // Rule: stake outlasts the time in which its owner's fraud can be shown.
        uint64 unbond = IStakeRegistry(registry).unbondPeriod();
        uint256 most = unbond <= MAX_WINDOW ? unbond - 1 : MAX_WINDOW;
        _checkWindow(params.challengeWindow, most);
        _checkWindow(params.settleWindow, MAX_WINDOW);
        _checkWindow(params.resumeDelay, MAX_WINDOW);
        _checkMembers(params.verifiers);
        _checkMembers(params.stewards);
        // More than half: two quorums that disagree then share a verifier.
        uint256 count = params.verifiers.length;
        if (params.threshold > count || uint256(params.threshold) * 2 <= count) {
            revert BadThreshold(params.threshold, count);
        }
        count = params.stewards.length;
        if (params.stewardThreshold > count || (params.stewardThreshold == 0) != (count == 0)) {
            revert BadThreshold(params.stewardThreshold, count);
        }
    }

    function _checkWindow(uint256 given, uint256 most) private view {
        if (given < minWindow || given > most) revert BadWindow(given, minWindow, most);
    }

    function _checkMembers(address[] calldata members) private pure {
        if (members.length > MAX_MEMBERS) revert AmountTooLarge(members.length, MAX_MEMBERS);
        address before = address(0);
        for (uint256 i = 0; i < members.length; ++i) {
            if (members[i] <= before) revert NotAscending(before, members[i]);
            before = members[i];
        }
    }

    function _checkHeader(Run storage run, EpochHeader calldata header, bytes32 secret)
        private
        view
        returns (uint128)
    {
        if (header.epoch != run.numPosted) revert WrongEpoch(header.epoch, run.numPosted);
        if (header.epoch >= run.numOpened) revert EpochNotOpen(header.epoch, run.numOpened);
        if (header.generation != run.generation) revert WrongGeneration(header.generation, run.generation);
        uint256 pending = run.numPosted - run.numFinal;
        if (pending >= MAX_PENDING) revert TooManyPendingEpochs(pending, MAX_PENDING);
        bytes32 secretHash = _epochs[header.runId][header.epoch].secretHash;
        bytes32 revealed = keccak256(abi.encodePacked(secret));
        if (revealed != secretHash) revert WrongSecret(revealed, secretHash);
        _checkTrees(header);
        uint256 cost = uint256(header.total) * run.rate;
        uint256 available = run.budget - run.committed;
        if (cost > available) revert BudgetExceeded(cost, available);
        return uint128(cost);
    }

    function _checkTrees(EpochHeader calldata header) private view {
        bytes32 rootBefore = 0;
        uint32 accountsBefore = 0;
        if (header.epoch > 0) {
            Epoch storage before = _epochs[header.runId][header.epoch - 1];
            (rootBefore, accountsBefore) = (before.accountRoot, before.accountCount);
        }
        if (header.prevAccountRoot != rootBefore) revert WrongPreviousRoot(header.prevAccountRoot, rootBefore);
        bool isEmpty = header.workCount == 0;
        bool saysNothing = header.workRoot == 0 && header.total == 0 && header.tokens == 0 && header.gflops == 0
            && header.accountRoot == rootBefore;
        if (
            header.accountCount < accountsBefore
                || uint256(header.accountCount) > uint256(accountsBefore) + header.workCount
                || (isEmpty && !saysNothing)
        ) revert InconsistentCounts(header.workCount, header.accountCount, accountsBefore);
    }

    function _requireQuorum(
        Run storage run,
        bytes32 digest,
        uint256 signerBitmap,
        bytes[] calldata signatures
    ) private view {
        uint256 used = 0;
        for (uint256 i = 0; signerBitmap >> i != 0; ++i) {
            if ((signerBitmap >> i) & 1 == 0) continue;
            if (i >= run.verifiers.length) revert NoSuchVerifier(i);
            if (used >= signatures.length) revert SignatureCountMismatch(signatures.length, used + 1);
            address verifier = run.verifiers[i];
            (address signer,,) = ECDSA.tryRecover(digest, signatures[used++]);
            if (signer == address(0) || IStakeRegistry(registry).ownerOf(signer) != verifier) {
                revert WrongSigner(signer, verifier);
            }
            _requireStake(verifier, run.minStake);
        }
        if (used != signatures.length) revert SignatureCountMismatch(signatures.length, used);
        if (used < run.threshold) revert QuorumTooSmall(used, run.threshold);
    }

    function _requireStake(address who, uint256 need) private view {
        uint256 have = IStakeRegistry(registry).stakeOf(who);
        if (have < need) revert StakeTooLow(who, have, need);
    }

    function _advance(uint256 runId, Run storage run) private {
        while (run.numFinal < run.numPosted) {
            Epoch storage epoch = _epochs[runId][run.numFinal];
            if (block.timestamp < epoch.finalAt) return;
            Meter storage meter = _meters[run.operator];
            bool wasUnder = run.gflops < run.computeCap;
            run.finalised += epoch.cost;
            run.tokens += epoch.tokens;
            run.gflops += epoch.gflops;
            meter.tokens += epoch.tokens;
            meter.gflops += epoch.gflops;
            emit EpochFinal(runId, run.numFinal++, epoch.cost, epoch.tokens, epoch.gflops);
            if (wasUnder && run.gflops >= run.computeCap) {
                emit ComputeCapCrossed(runId, run.gflops, run.computeCap);
            }
        }
    }

    /// @dev The effect precedes the transfer; a token that delivers less than asked reverts it.
    function _fund(uint256 runId, Run storage run, uint256 amount) private {
        uint256 most = type(uint128).max - run.budget;
        if (amount > most) revert AmountTooLarge(amount, most);
        run.budget += uint128(amount);
        emit RunFunded(runId, msg.sender, amount, run.budget);
        uint256 before = IERC20(run.token).balanceOf(address(this));
        IERC20(run.token).safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = IERC20(run.token).balanceOf(address(this)) - before;
        if (received != amount) revert TransferMismatch(amount, received);
    }

    function _vote(Run storage run, uint64 votes) private view returns (uint64) {
        for (uint256 i = 0; i < run.stewards.length; ++i) {
            if (run.stewards[i] != msg.sender) continue;
            if ((votes >> i) & 1 == 1) revert AlreadyVoted(msg.sender);
            return votes | uint64(1 << i);
        }
        revert NotSteward(msg.sender);
    }

    function _count(uint64 votes) private pure returns (uint256 count) {
        for (; votes != 0; votes &= votes - 1) ++count;
    }

    function _requireRun(uint256 runId) private view returns (Run storage run) {
        run = _runs[runId];
        if (run.status == Status.None) revert NoSuchRun(runId);
    }

    function _requireStatus(uint256 runId, Status status) private view returns (Run storage run) {
        run = _requireRun(runId);
        if (run.status != status) revert WrongStatus(runId, run.status);
    }
}

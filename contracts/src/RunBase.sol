// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

import {Roster} from "./Roster.sol";
import {RunRules} from "./RunRules.sol";
import {ICouncil} from "./interfaces/ICouncil.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";
import {IRunStore} from "./interfaces/IRunStore.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title What all parts of the ledger stand on: storage, who may call, and since when a run owes nothing
/// @dev RunLedger and RunSteering work on the same storage, so every variable of either is declared here.
abstract contract RunBase is IRunStore, EIP712 {
    using Checkpoints for Checkpoints.Trace208;

    /// @param until When its signers stop answering for it.
    struct Retraction {
        uint64 signerBitmap;
        uint48 until;
    }

    /// @dev Bounds the work of finality and of voiding, which walk pending epochs.
    uint256 public constant MAX_PENDING = 8;

    address public immutable registry;
    address public immutable disputes;
    address public immutable council;
    uint32 public immutable minWindow;
    uint128 public immutable warnGflops;

    uint256 public numRuns;
    // slither-disable-next-line uninitialized-state -- written through storage references
    mapping(uint256 runId => IRunLedger.Run) internal _runs;
    mapping(uint256 runId => mapping(uint32 epoch => IRunLedger.Epoch)) internal _epochs;
    mapping(uint256 runId => mapping(address worker => bool)) public isJoined;
    mapping(uint256 runId => mapping(address worker => uint256)) public claimedOf;
    mapping(address account => mapping(address token => uint256)) public creditOf;
    // slither-disable-next-line uninitialized-state -- written through storage references
    mapping(bytes32 subject => IRunLedger.Meter) internal _meters;
    /// @dev 1 from the first second of a time for which nothing is owed, 0 from its end. Keys ascend because every
    ///      change is written when it happens; only a lapse is not, and it is written before any other change.
    mapping(uint256 runId => Checkpoints.Trace208) internal _unowed;
    mapping(uint256 runId => mapping(bytes32 headerHash => Retraction)) internal _retractions;
    // slither-disable-next-line uninitialized-state -- written by RunSteering, on this storage
    mapping(uint256 runId => IRunLedger.Replacement) internal _replacements;

    constructor(
        address registry_,
        address disputes_,
        address council_,
        uint32 minWindow_,
        uint128 warnGflops_
    ) EIP712("Rollcall", "1") {
        if (registry_ == address(0) || disputes_ == address(0) || council_ == address(0)) {
            revert IRunLedger.ZeroAddress();
        }
        if (minWindow_ == 0 || minWindow_ > RunRules.MAX_WINDOW) {
            revert IRunLedger.BadWindow(minWindow_, 1, RunRules.MAX_WINDOW);
        }
        registry = registry_;
        disputes = disputes_;
        council = council_;
        minWindow = minWindow_;
        warnGflops = warnGflops_;
    }

    modifier onlyDisputes() {
        if (msg.sender != disputes) revert IRunLedger.NotDisputes(msg.sender);
        _;
    }

    modifier whenUnpaused() {
        _requireUnpaused();
        _;
    }

    // ------------------------------------------------------------------ status

    function _requireUnpaused() private view {
        uint48 until = _pausedUntil();
        if (until > block.timestamp) revert IRunLedger.Paused(until);
    }

    function _pausedUntil() internal view returns (uint48) {
        return ICouncil(council).pausedUntil();
    }

    function _now() internal view returns (uint48) {
        return uint48(block.timestamp);
    }

    function _requireRun(uint256 runId) internal view returns (IRunLedger.Run storage run) {
        run = _runs[runId];
        if (run.status == IRunLedger.Status.None) revert IRunLedger.NoSuchRun(runId);
    }

    /// @dev Active, under a permit that has not lapsed.
    function _requireLive(uint256 runId) internal view returns (IRunLedger.Run storage run) {
        run = _requireRun(runId);
        if (run.status != IRunLedger.Status.Active) revert IRunLedger.WrongStatus(runId, run.status);
        if (_isLapsed(run)) revert IRunLedger.PermitLapsed(runId, run.permitUntil);
    }

    function _isLapsed(IRunLedger.Run storage run) internal view returns (bool) {
        return run.status == IRunLedger.Status.Active && block.timestamp > run.permitUntil;
    }

    function _isCapped(IRunLedger.Run storage run) internal view returns (bool) {
        return run.computeCap != 0 && run.gflops >= run.computeCap;
    }

    function _requireOperator(IRunLedger.Run storage run) internal view {
        if (msg.sender != run.operator) revert IRunLedger.NotOperator(msg.sender, run.operator);
    }

    /// @dev What runs from day to day is done by a hot key; what touches money or powers is not.
    function _requireOperatorsKey(IRunLedger.Run storage run) internal view {
        if (msg.sender != run.operator && IStakeRegistry(registry).ownerOf(msg.sender) != run.operator) {
            revert IRunLedger.NotOperator(msg.sender, run.operator);
        }
    }

    // ------------------------------------------------------------------ what is owed

    /// @dev Nothing dated `from` or later is owed. Where that is so already, an earlier second stands.
    function _endOwing(uint256 runId, uint48 from) internal {
        if (_unowed[runId].latest() == 0) _setUnowed(runId, from, 1);
    }

    /// @dev Work dated now or later is owed again, unless the cap has ended that for good.
    function _startOwing(uint256 runId, IRunLedger.Run storage run) internal {
        if (!_isCapped(run)) _setUnowed(runId, _now(), 0);
    }

    function _setUnowed(uint256 runId, uint48 from, uint208 isUnowed) private {
        // slither-disable-next-line unused-return -- it returns what stood there before
        _unowed[runId].push(from, isUnowed);
    }

    /// @dev A lapse dates from the permit's end, so it must be written before anything that dates from now.
    function _recordLapse(uint256 runId, IRunLedger.Run storage run) internal {
        if (!_isLapsed(run)) return;
        run.status = IRunLedger.Status.Halted;
        run.haltedAt = run.permitUntil;
        run.resumeVotes = 0;
        _endOwing(runId, run.permitUntil + 1);
        emit IRunLedger.RunLapsed(runId, run.permitUntil);
    }

    function _permit(uint256 runId, IRunLedger.Run storage run) internal {
        uint48 until = _now() + run.permitPeriod;
        run.permitUntil = until;
        emit IRunLedger.PermitRenewed(runId, until);
    }

    // ------------------------------------------------------------------ stakes and quorums

    function _requireStake(address who, uint256 need) internal view {
        uint256 have = IStakeRegistry(registry).stakeOf(who);
        if (have < need) revert IRunLedger.StakeTooLow(who, have, need);
    }

    function _requireQuorum(
        IRunLedger.Run storage run,
        bytes32 digest,
        uint256 signerBitmap,
        bytes[] calldata signatures
    ) internal view {
        bytes memory roster = run.roster.code;
        uint256 places = Roster.numVerifiers(roster);
        (uint256 replaced, uint256 need) = (run.replaced, run.minStake);
        uint256 used = 0;
        for (uint256 i = 0; signerBitmap >> i != 0; ++i) {
            if ((signerBitmap >> i) & 1 == 0) continue;
            if (i >= places) revert IRunLedger.NoSuchVerifier(i);
            address verifier = Roster.memberAt(roster, i);
            // A replaced verifier may have its stake back by now; its successor holds the vote.
            if ((replaced >> i) & 1 == 1) revert IRunLedger.VerifierReplaced(i, verifier);
            if (used >= signatures.length) {
                revert IRunLedger.SignatureCountMismatch(signatures.length, used + 1);
            }
            // slither-disable-next-line unused-return -- a signature that fails recovers to nobody, who is no verifier
            (address signer,,) = ECDSA.tryRecover(digest, signatures[used++]);
            (address owner, uint256 have) = IStakeRegistry(registry).standingOf(signer);
            if (owner != verifier) revert IRunLedger.WrongSigner(signer, verifier);
            if (have < need) revert IRunLedger.StakeTooLow(verifier, have, need);
        }
        if (used != signatures.length) revert IRunLedger.SignatureCountMismatch(signatures.length, used);
        if (used < run.threshold) revert IRunLedger.QuorumTooSmall(used, run.threshold);
    }
}

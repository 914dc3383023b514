// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

import {EpochHash} from "./EpochHash.sol";
import {Roster} from "./Roster.sol";
import {RunBase} from "./RunBase.sol";
import {RunFinality} from "./RunFinality.sol";
import {RunRules} from "./RunRules.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title What people decide about a run: permits, halting, ending, retracting, replacing; documented in IRunLedger
/// @notice Code only: RunLedger creates one, calls it by delegation on its own storage, and can never exchange it.
///         At its own address there is no run. No pause reaches any of it.
contract RunSteering is RunFinality {
    using Checkpoints for Checkpoints.Trace208;

    constructor(
        address registry_,
        address disputes_,
        address council_,
        uint32 minWindow_,
        uint128 warnGflops_
    ) RunBase(registry_, disputes_, council_, minWindow_, warnGflops_) {}

    // ------------------------------------------------------------------ permits and halting

    function renewPermit(uint256 runId) external {
        IRunLedger.Run storage run = _requireLive(runId);
        _requireOperatorsKey(run);
        _permit(runId, run);
    }

    function lapseRun(uint256 runId) external {
        IRunLedger.Run storage run = _requireRun(runId);
        if (run.status != IRunLedger.Status.Active) revert IRunLedger.WrongStatus(runId, run.status);
        if (!_isLapsed(run)) revert IRunLedger.NotLapsed(runId, run.permitUntil);
        _recordLapse(runId, run);
    }

    function haltRun(uint256 runId, bytes32 reason) external {
        IRunLedger.Run storage run = _requireRun(runId);
        if (msg.sender == run.operator) {
            _requireLive(runId);
        } else {
            _recordLapse(runId, run);
            // The stewards may make the operator's halt, or a lapse, their own: only they can end it then.
            if (
                run.status != IRunLedger.Status.Active
                    && (run.status != IRunLedger.Status.Halted || run.haltedByStewards)
            ) {
                revert IRunLedger.WrongStatus(runId, run.status);
            }
            run.haltVotes = _vote(run, run.haltVotes);
            emit IRunLedger.HaltVoted(runId, msg.sender, reason);
            if (_numVotes(run.haltVotes) < run.stewardThreshold) return;
            run.haltedByStewards = true;
            run.haltVotes = 0;
        }
        run.status = IRunLedger.Status.Halted;
        run.haltedAt = _now();
        run.resumeVotes = 0;
        _endOwing(runId, _now() + 1);
        // slither-disable-next-line unused-return -- only when it began is announced
        (, uint48 from,) = _unowed[runId].latestCheckpoint();
        emit IRunLedger.RunHalted(runId, msg.sender, from - 1, reason);
    }

    function resumeRun(uint256 runId) external {
        IRunLedger.Run storage run = _requireRun(runId);
        _recordLapse(runId, run);
        if (run.status != IRunLedger.Status.Halted) revert IRunLedger.WrongStatus(runId, run.status);
        uint256 earliest = uint256(run.haltedAt) + run.resumeDelay;
        if (block.timestamp < earliest) revert IRunLedger.TooEarly(block.timestamp, earliest);
        if (run.haltedByStewards) {
            run.resumeVotes = _vote(run, run.resumeVotes);
            emit IRunLedger.ResumeVoted(runId, msg.sender);
            if (_numVotes(run.resumeVotes) < run.stewardThreshold) return;
        } else {
            _requireOperator(run);
        }
        // Halt votes stay: an operator that halts and resumes must not wipe its stewards' ballots.
        run.haltedByStewards = false;
        run.resumeVotes = 0;
        run.status = IRunLedger.Status.Active;
        _startOwing(runId, run);
        _permit(runId, run);
        emit IRunLedger.RunResumed(runId, run.permitUntil);
    }

    function stopRun(uint256 runId) external {
        IRunLedger.Run storage run = _requireRun(runId);
        if (msg.sender != disputes) _requireOperator(run);
        _recordLapse(runId, run);
        if (run.status != IRunLedger.Status.Active && run.status != IRunLedger.Status.Halted) {
            revert IRunLedger.WrongStatus(runId, run.status);
        }
        run.status = IRunLedger.Status.Stopped;
        run.settleUntil = _now() + run.settleWindow;
        _endOwing(runId, _now() + 1);
        emit IRunLedger.RunStopped(runId, run.settleUntil);
    }

    function closeRun(uint256 runId) external {
        IRunLedger.Run storage run = _requireRun(runId);
        if (run.status != IRunLedger.Status.Stopped) revert IRunLedger.WrongStatus(runId, run.status);
        uint256 earliest = uint256(_lastPosting(run)) + 1;
        if (block.timestamp < earliest) revert IRunLedger.TooEarly(block.timestamp, earliest);
        _advance(runId, run);
        if (run.numFinal < run.numPosted) revert IRunLedger.EpochsPending(run.numFinal, run.numPosted);
        run.status = IRunLedger.Status.Closed;
        run.closedAt = _now();
        emit IRunLedger.RunClosed(runId, run.budget - run.committed);
    }

    function creditUncommitted(uint256 runId, address to, uint256 amount) external onlyDisputes {
        IRunLedger.Run storage run = _requireRun(runId);
        if (run.status != IRunLedger.Status.Closed) revert IRunLedger.WrongStatus(runId, run.status);
        uint256 most = run.budget - run.committed;
        if (amount > most) revert IRunLedger.AmountTooLarge(amount, most);
        run.budget -= uint128(amount);
        creditOf[to][run.token] += amount;
        emit IRunLedger.UncommittedCredited(runId, to, amount);
    }

    // ------------------------------------------------------------------ taking back

    function retractEpoch(uint256 runId, uint32 epoch, uint256 signerBitmap, bytes[] calldata signatures)
        external
    {
        IRunLedger.Run storage run = _requireRun(runId);
        _advance(runId, run);
        _requirePending(run, epoch);
        bytes32 headerHash = _epochs[runId][epoch].headerHash;
        bytes32 digest = _hashTypedDataV4(EpochHash.retract(runId, epoch, run.generation, headerHash));
        _requireQuorum(run, digest, signerBitmap, signatures);
        for (uint32 n = epoch; n < run.numPosted; ++n) {
            IRunLedger.Epoch storage retracted = _epochs[runId][n];
            // What a demand would show must not be taken back in front of it.
            if (retracted.holds > 0) revert IRunLedger.EpochDisputed(n, retracted.holds);
        }
        _retract(runId, run, epoch);
    }

    // ------------------------------------------------------------------ replacing a verifier

    function proposeReplacement(uint256 runId, uint8 index, address next) external {
        IRunLedger.Run storage run = _requireRun(runId);
        _requireOperator(run);
        if (run.status == IRunLedger.Status.Closed) revert IRunLedger.WrongStatus(runId, run.status);
        if (next == address(0)) revert IRunLedger.ZeroAddress();
        bytes memory roster = run.roster.code;
        uint256 places = Roster.numVerifiers(roster);
        if (places == RunRules.MAX_MEMBERS) {
            revert IRunLedger.AmountTooLarge(places + 1, RunRules.MAX_MEMBERS);
        }
        _requireShort(run, roster, index);
        for (uint256 i = 0; i < places; ++i) {
            if (Roster.memberAt(roster, i) != next) continue;
            // Back in its own seat it is who it was; in another one it would have two voices.
            bool hasLeft = (run.replaced >> i) & 1 == 1;
            if (!hasLeft || Roster.seatAt(roster, i) != Roster.seatAt(roster, index)) {
                revert IRunLedger.AlreadyVerifier(next);
            }
        }
        uint48 earliest = _now() + run.challengeWindow;
        _replacements[runId] = IRunLedger.Replacement(index, next, earliest);
        emit IRunLedger.ReplacementProposed(runId, index, next, earliest);
    }

    function replaceVerifier(uint256 runId) external {
        IRunLedger.Run storage run = _requireRun(runId);
        if (run.status == IRunLedger.Status.Closed) revert IRunLedger.WrongStatus(runId, run.status);
        IRunLedger.Replacement memory due = _replacements[runId];
        // Not for ever, or one that staked again in time would have no such time when it next falls short.
        if (due.next == address(0) || block.timestamp > uint256(due.earliest) + run.settleWindow) {
            revert IRunLedger.NoReplacement(runId);
        }
        if (block.timestamp < due.earliest) revert IRunLedger.TooEarly(block.timestamp, due.earliest);
        bytes memory roster = run.roster.code;
        // It has had the time to stake again.
        address before = _requireShort(run, roster, due.index);
        _requireStake(due.next, run.minStake);

        run.replaced |= uint64(1 << due.index);
        run.roster = Roster.extend(roster, due.index, due.next);
        delete _replacements[runId];
        uint8 place = uint8(Roster.numVerifiers(roster));
        emit IRunLedger.VerifierChanged(runId, due.index, before, place, due.next);
    }

    // ------------------------------------------------------------------ rules

    /// @dev An operator cannot be rid of a verifier that keeps its stake.
    function _requireShort(IRunLedger.Run storage run, bytes memory roster, uint256 index)
        private
        view
        returns (address verifier)
    {
        if (index >= Roster.numVerifiers(roster)) revert IRunLedger.NoSuchVerifier(index);
        verifier = Roster.memberAt(roster, index);
        if ((run.replaced >> index) & 1 == 1) revert IRunLedger.VerifierReplaced(index, verifier);
        uint256 have = IStakeRegistry(registry).stakeOf(verifier);
        if (have >= run.minStake) revert IRunLedger.VerifierStillStaked(verifier, have, run.minStake);
    }

    function _vote(IRunLedger.Run storage run, uint64 votes) private view returns (uint64) {
        // slither-disable-next-line unused-return -- verifiers have no vote
        (, address[] memory stewards) = Roster.split(run.roster.code);
        for (uint256 i = 0; i < stewards.length; ++i) {
            if (stewards[i] != msg.sender) continue;
            if ((votes >> i) & 1 == 1) revert IRunLedger.AlreadyVoted(msg.sender);
            return votes | uint64(1 << i);
        }
        revert IRunLedger.NotSteward(msg.sender);
    }

    function _numVotes(uint64 votes) private pure returns (uint256 count) {
        for (; votes != 0; votes &= votes - 1) {
            ++count;
        }
    }
}

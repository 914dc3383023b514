// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {RunBase} from "./RunBase.sol";
import {RunRules} from "./RunRules.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";

/// @title How a posted epoch becomes final, with its meters, or is undone
abstract contract RunFinality is RunBase {
    /// @dev The most that a pause adds to the time for posting after it. With the longest pause it is well below the
    ///      time between two, or guardians could keep a stopped run from closing by pausing again and again.
    uint48 public constant MAX_PAUSE_GRACE = 7 days;

    /// @dev In order: an epoch's accounts build on those before it.
    function _advance(uint256 runId, IRunLedger.Run storage run) internal {
        (uint32 first, uint32 next, uint32 end) = (run.numFinal, run.numFinal, run.numPosted);
        uint128 cost = 0;
        IRunLedger.Meter memory done;
        for (; next < end; ++next) {
            IRunLedger.Epoch storage epoch = _epochs[runId][next];
            if (block.timestamp < epoch.finalAt || epoch.holds > 0) break;
            cost += epoch.cost;
            done.tokens += epoch.tokens;
            done.gflops += epoch.gflops;
            emit IRunLedger.EpochFinal(runId, next, epoch.cost, epoch.tokens, epoch.gflops);
        }
        if (next == first) return;
        bool wasCapped = _isCapped(run);
        run.numFinal = next;
        run.finalised += cost;
        run.tokens += done.tokens;
        run.gflops += done.gflops;
        if (!wasCapped && _isCapped(run)) _cap(runId, run);
        _count(bytes32(uint256(uint160(run.operator))), done);
        _count(run.baseModel, done);
    }

    /// @dev Once only, for final work never shrinks. What was dated until now is owed, unless a lapse came first.
    function _cap(uint256 runId, IRunLedger.Run storage run) private {
        _endOwing(runId, (_isLapsed(run) ? run.permitUntil : _now()) + 1);
        emit IRunLedger.ComputeCapCrossed(runId, run.gflops, run.computeCap);
    }

    function _count(bytes32 subject, IRunLedger.Meter memory done) private {
        IRunLedger.Meter storage meter = _meters[subject];
        uint128 before = meter.gflops;
        uint128 gflops = before + done.gflops;
        meter.tokens += done.tokens;
        meter.gflops = gflops;
        uint128 threshold = RunRules.crossed(warnGflops, before, gflops);
        if (threshold != 0) emit IRunLedger.ComputeWarning(subject, gflops, threshold);
    }

    /// @dev Undone for no fault that was shown. Its signers answer for it a challenge window longer, or a lie could be
    ///      taken back in front of its proof.
    function _retract(uint256 runId, IRunLedger.Run storage run, uint32 epoch) internal {
        uint48 until = _now() + run.challengeWindow;
        for (uint32 n = epoch; n < run.numPosted; ++n) {
            IRunLedger.Epoch storage retracted = _epochs[runId][n];
            _retractions[runId][retracted.headerHash] = Retraction(retracted.signerBitmap, until);
            emit IRunLedger.EpochRetracted(runId, n, retracted.headerHash);
        }
        _void(runId, run, epoch);
    }

    /// @dev Undoes every epoch from `epoch` on, the latest first. Their holds go with them.
    function _void(uint256 runId, IRunLedger.Run storage run, uint32 epoch) internal {
        uint32 generation = ++run.generation;
        for (uint32 n = run.numPosted; n > epoch; --n) {
            IRunLedger.Epoch storage voided = _epochs[runId][n - 1];
            uint128 cost = voided.cost;
            run.committed -= cost;
            // All but the secret and its date: a struct deleted and written anew costs 4,400 gas more.
            (voided.headerHash, voided.accountRoot) = (0, 0);
            (voided.cost, voided.tokens, voided.gflops) = (0, 0, 0);
            (voided.postedAt, voided.finalAt, voided.accountCount) = (0, 0, 0);
            (voided.signerBitmap, voided.holds, voided.rounds) = (0, 0, 0);
            emit IRunLedger.EpochVoided(runId, n - 1, generation, cost);
        }
        run.numPosted = epoch;
        // Honest work of a voided epoch must still find time to be posted.
        if (run.status == IRunLedger.Status.Stopped) run.settleUntil = _now() + run.settleWindow;
    }

    function _requirePending(IRunLedger.Run storage run, uint32 epoch) internal view {
        if (epoch < run.numFinal || epoch >= run.numPosted) {
            revert IRunLedger.EpochNotPending(epoch, run.numFinal, run.numPosted);
        }
    }

    /// @dev The last second in which a stopped run's epochs are taken. A pause must not eat that time up.
    function _lastPosting(IRunLedger.Run storage run) internal view returns (uint48) {
        uint48 grace = run.settleWindow < MAX_PAUSE_GRACE ? run.settleWindow : MAX_PAUSE_GRACE;
        uint48 afterPause = _pausedUntil() + grace;
        return afterPause > run.settleUntil ? afterPause : run.settleUntil;
    }
}

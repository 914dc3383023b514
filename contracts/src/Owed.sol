// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DisputesBase} from "./DisputesBase.sol";
import {EpochHash} from "./EpochHash.sol";
import {ICouncil} from "./interfaces/ICouncil.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title What receipts are worth where no epoch has their work; documented in IDisputes
/// @notice Code only: Disputes creates one, calls it by delegation on its own storage, and can never exchange it. At its
///         own address nothing is owed.
/// @dev `FraudProofs` says what a receipt and an answer are; here is only what follows. Money moves when a run's books
///      are closed: what one receipt is paid no epoch can pay again.
contract Owed is DisputesBase {
    uint48 private constant CONDEMNED = type(uint48).max;

    constructor(
        IRunLedger ledger_,
        IStakeRegistry registry_,
        ICouncil council_,
        address proofs_,
        uint64 unbondPeriod_,
        uint48 responseWindow_
    ) DisputesBase(ledger_, registry_, council_, proofs_, unbondPeriod_, responseWindow_) {}

    // ------------------------------------------------------------------ claiming

    function claimOwed(IDisputes.Receipt[] calldata receipts, bytes[] calldata signatures) external {
        signatures;
        _requireProven();
        IDisputes.Work calldata first = receipts[0].work;
        (uint256 runId, address worker) = (first.runId, first.worker);
        // Nobody else: a false claim costs the worker's stake.
        if (msg.sender != worker && _registry.ownerOf(msg.sender) != worker) {
            revert IDisputes.NotTheWorker(msg.sender, worker);
        }
        if (_reported[runId][worker]) revert IDisputes.WasReported(runId, worker);
        IRunLedger.Run memory run = _run(runId);
        uint256 have = _registry.stakeOf(worker);
        if (have < run.minStake) revert IRunLedger.StakeTooLow(worker, have, run.minStake);
        (uint64 claimsUntil,) = _decidedAt(run);
        if (claimsUntil != 0) _requireBefore(claimsUntil);

        uint128 units = 0;
        for (uint256 i = 0; i < receipts.length; ++i) {
            IDisputes.Work calldata work = receipts[i].work;
            bytes32 hash = EpochHash.work(work);
            if (_claimedAt[hash] != 0) revert IDisputes.AlreadyClaimed(work.nonce, _claimedAt[hash]);
            _claimedAt[hash] = uint48(block.timestamp);
            units += _unitsOf(work);
            emit IDisputes.OwedClaimed(runId, worker, work);
        }
        if (_owed[runId][worker] == 0) ++_books[runId].claimants;
        _owed[runId][worker] += units;
        _books[runId].units += units;
    }

    // ------------------------------------------------------------------ answering

    function answerPaid(
        IDisputes.Work calldata work,
        IRunLedger.EpochHeader calldata header,
        IDisputes.WorkProof calldata paid
    ) external {
        paid;
        _requireProven();
        uint48 since = _requireClaimed(work);
        _strike(work, 0);
        // An epoch can be voided, so the work may be claimed again. Who claims what was paid for good before has lied.
        IRunLedger.Run memory run = _run(work.runId);
        // slither-disable-next-line unused-return -- the accounts are not asked for
        (uint48 postedAt,) = _ledger.postedOf(work.runId, header.epoch);
        if (postedAt + run.challengeWindow <= since) {
            _take(work.worker, run.minStake / BONDS, msg.sender);
        }
    }

    function answerCondemned(IDisputes.Work calldata work, IDisputes.Condemnation[] calldata verdicts)
        external
    {
        verdicts;
        _requireProven();
        _requireClaimed(work);
        _strike(work, CONDEMNED);
    }

    // ------------------------------------------------------------------ what follows

    function stopOverdue(IDisputes.Work calldata work) external {
        uint64 since = _requireClaimed(work);
        // While posting is paused nobody can answer by posting.
        uint64 pausedUntil = _council.pausedUntil();
        _requireFrom((since > pausedUntil ? since : pausedUntil) + _responseWindow);
        _ledger.stopRun(work.runId);
    }

    function payOwed(uint256 runId, address worker) external {
        IRunLedger.Run memory run = _requireDecided(runId);
        uint128 units = _owed[runId][worker];
        if (units == 0) revert IDisputes.NothingOwed(runId, worker);
        uint256 amount = uint256(units) * run.rate;
        uint256 left = run.budget - run.committed;
        Books memory books = _books[runId];
        _settle(runId, worker, units);
        if (uint256(books.units) * run.rate > left) {
            // The operator signed for more than there was. Receipts cost it nothing and joined identities with stake do,
            // so each of these gets an equal part, and who comes short is the finder of the fault.
            uint256 part = left / books.claimants;
            if (amount > part) {
                amount = part;
                _take(run.operator, run.minStake, worker);
            }
        }
        emit IDisputes.OwedPaid(runId, worker, units, amount);
        _ledger.creditUncommitted(runId, worker, amount);
    }

    function refundRun(uint256 runId) external {
        IRunLedger.Run memory run = _requireDecided(runId);
        uint256 owed = uint256(_books[runId].units) * run.rate;
        uint256 left = run.budget - run.committed;
        if (left <= owed) revert IDisputes.NothingLeft(runId, left, owed);
        _ledger.creditUncommitted(runId, run.operator, left - owed);
    }

    // ------------------------------------------------------------------ rules

    function _requireDecided(uint256 runId) private view returns (IRunLedger.Run memory run) {
        run = _run(runId);
        if (run.status != IRunLedger.Status.Closed) revert IRunLedger.WrongStatus(runId, run.status);
        (, uint64 paidFrom) = _decidedAt(run);
        _requireFrom(paidFrom);
    }

    /// @dev A claim that stands and is not decided.
    function _requireClaimed(IDisputes.Work calldata work) private view returns (uint48 since) {
        since = _claimedAt[EpochHash.work(work)];
        if (since == 0 || since == CONDEMNED) revert IDisputes.NotClaimed(work.nonce);
        if (_reported[work.runId][work.worker]) revert IDisputes.WasReported(work.runId, work.worker);
        (, uint64 paidFrom) = _decidedAt(_run(work.runId));
        if (paidFrom != 0) _requireBefore(paidFrom);
    }

    function _strike(IDisputes.Work calldata work, uint48 mark) private {
        _claimedAt[EpochHash.work(work)] = mark;
        _settle(work.runId, work.worker, _unitsOf(work));
        emit IDisputes.OwedAnswered(work.runId, work.worker, work.nonce, mark == CONDEMNED);
    }

    function _unitsOf(IDisputes.Work calldata work) private pure returns (uint128) {
        return uint128(work.tokens / EpochHash.TOKENS_PER_UNIT);
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {Base} from "./Base.sol";
import {Lie} from "./Prover.sol";
import {Market} from "./Market.sol";
import {IToken} from "./World.sol";

/// @title What stays true of the money whatever anybody does
/// @notice Every amount is read from the chain; the market only says who and which there are.
contract InvariantsTest is Base {
    Market internal market;
    IRunLedger internal ledger;
    IStakeRegistry internal registry;
    IDisputes internal disputes;

    function setUp() public {
        market = new Market();
        (ledger, registry, disputes) = (market.ledger(), market.registry(), market.disputes());
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(market);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// @dev Epochs and proofs more often than the rest: most of the time something must be at stake.
    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(market), market.actions());
    }

    function run(uint256 runId) internal view returns (IRunLedger.Run memory value) {
        (value,,) = ledger.runOf(runId);
    }

    /// @dev One campaign for all: each `invariant_` function would be given a market of its own.
    function invariant_WhateverAnybodyDoes() public view {
        theLedgerHoldsWhatItOwes();
        theRegistryHoldsWhatItOwes();
        bondsAreThoseOfOpenDisputes();
        whatIsLockedIsHeldForOpenReports();
        noRunTakesMoreThanItsMinimumStake();
        claimedFinalCommittedBudget();
        totalsAreThoseOfTheEpochs();
        metersAreThoseOfTheRuns();
        holdsAreThoseOfOpenDisputes();
        whatIsFinalNeverChanges();
        booksAreThoseOfTheWorkers();
        liesAreProvableAndTruthsAreNot();
    }

    // ------------------------------------------------------------ money

    function theLedgerHoldsWhatItOwes() internal view {
        for (uint256 runId = 1; runId <= 3; runId += 2) checkLedger(run(runId).token);
    }

    function checkLedger(address token) internal view {
        uint256 owed = 0;
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            IRunLedger.Run memory value = run(runId);
            if (value.token == token) owed += value.budget - value.claimed;
        }
        for (uint256 i = 0; i < market.numPeople(); ++i) owed += ledger.creditOf(market.everybody(i), token);
        same(IToken(token).balanceOf(address(ledger)), owed, "ledger");
    }

    function theRegistryHoldsWhatItOwes() internal view {
        uint256 owed = registry.bonds();
        for (uint256 i = 0; i < market.numPeople(); ++i) {
            address person = market.everybody(i);
            IStakeRegistry.Account memory account = registry.accountOf(person);
            owed += account.stake + account.unbonding + registry.creditOf(person);
        }
        same(IToken(registry.token()).balanceOf(address(registry)), owed, "registry");
    }

    function bondsAreThoseOfOpenDisputes() internal view {
        uint256 bonds = 0;
        for (uint256 i = 0; i < market.numDisputes(); ++i) {
            IDisputes.Dispute memory dispute = market.disputeAt(i);
            if (dispute.status == IDisputes.DisputeStatus.Open) bonds += dispute.bond;
        }
        // Demands that prove a lie were made and decided in one step.
        same(registry.bonds(), bonds, "bonds");
    }

    function whatIsLockedIsHeldForOpenReports() internal view {
        for (uint256 i = 0; i < market.numPeople(); ++i) {
            address person = market.everybody(i);
            uint256 held = 0;
            for (uint256 j = 0; j < market.numSlashes(); ++j) {
                IDisputes.Slash memory slash = market.slashAt(j);
                bool isOpen = slash.status == IDisputes.SlashStatus.Proposed
                    || slash.status == IDisputes.SlashStatus.Appealed;
                if (isOpen && slash.worker == person) held += slash.held;
            }
            same(registry.accountOf(person).locked, held, "locked");
        }
    }

    function noRunTakesMoreThanItsMinimumStake() internal view {
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            for (uint256 i = 0; i < market.numPeople(); ++i) {
                checkAtRisk(runId, market.everybody(i));
            }
        }
    }

    function checkAtRisk(uint256 runId, address person) internal view {
        uint256 sum = 0;
        for (uint256 j = 0; j < market.numSlashes(); ++j) {
            IDisputes.Slash memory slash = market.slashAt(j);
            bool counts = slash.runId == runId && slash.worker == person
                && slash.status != IDisputes.SlashStatus.Dismissed;
            if (counts) sum += slash.amount;
        }
        same(disputes.atRiskOf(runId, person), sum, "at risk");
        check(sum <= ledger.minStakeOf(runId), "at risk <= minStake");
    }

    // ------------------------------------------------------------ runs and epochs

    function claimedFinalCommittedBudget() internal view {
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            IRunLedger.Run memory value = run(runId);
            check(value.claimed <= value.finalised, "claimed <= finalised");
            check(value.finalised <= value.committed, "finalised <= committed");
            check(value.committed <= value.budget, "committed <= budget");
            check(value.numFinal <= value.numPosted, "final <= posted");
            check(value.numPosted <= value.numOpened, "posted <= opened");
            check(value.numPosted - value.numFinal <= 8, "pending <= 8");
            uint256 paid = 0;
            for (uint256 i = 0; i < market.numPeople(); ++i) {
                paid += ledger.claimedOf(runId, market.everybody(i));
            }
            // A lie may pay an address made up by it; then it is paid out of the lie's own cost.
            check(paid <= value.claimed, "paid");
            if (market.isClean(runId, value.numPosted)) same(paid, value.claimed, "paid");
        }
    }

    function totalsAreThoseOfTheEpochs() internal view {
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            IRunLedger.Run memory value = run(runId);
            (uint256 committed, uint256 finalised, uint256 tokens, uint256 gflops) = (0, 0, 0, 0);
            for (uint32 i = 0; i < value.numOpened; ++i) {
                IRunLedger.Epoch memory epoch = ledger.epochOf(runId, i);
                check(epoch.openedAt != 0 && epoch.secretHash != 0, "opened");
                check((epoch.postedAt != 0) == (i < value.numPosted), "posted");
                committed += epoch.cost;
                if (i >= value.numFinal) continue;
                check(epoch.holds == 0, "a held epoch is not final");
                check(clock() >= epoch.finalAt, "not before its window");
                finalised += epoch.cost;
                tokens += epoch.tokens;
                gflops += epoch.gflops;
            }
            same(value.committed, committed, "committed");
            same(value.finalised, finalised, "finalised");
            same(value.tokens, tokens, "tokens");
            same(value.gflops, gflops, "gflops");
        }
    }

    function metersAreThoseOfTheRuns() internal view {
        (uint256 tokens, uint256 gflops) = (0, 0);
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            tokens += run(runId).tokens;
            gflops += run(runId).gflops;
        }
        IRunLedger.Run memory first = run(1);
        for (uint256 i = 0; i < 2; ++i) {
            bytes32 subject = i == 0 ? bytes32(uint256(uint160(first.operator))) : first.baseModel;
            IRunLedger.Meter memory meter = ledger.meterOf(subject);
            same(meter.tokens, tokens, "meter's tokens");
            same(meter.gflops, gflops, "meter's gflops");
        }
    }

    function holdsAreThoseOfOpenDisputes() internal view {
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            IRunLedger.Run memory value = run(runId);
            for (uint32 i = value.numFinal; i < value.numPosted; ++i) {
                IRunLedger.Epoch memory epoch = ledger.epochOf(runId, i);
                uint256 holds = 0;
                for (uint256 j = 0; j < market.numDisputes(); ++j) {
                    IDisputes.Dispute memory dispute = market.disputeAt(j);
                    bool isOfIt = dispute.status == IDisputes.DisputeStatus.Open && dispute.runId == runId
                        && dispute.epoch == i && dispute.headerHash == epoch.headerHash;
                    if (isOfIt) ++holds;
                }
                same(epoch.holds, holds, "holds");
            }
        }
    }

    function booksAreThoseOfTheWorkers() internal view {
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            (uint256 sum, uint256 count) = (0, 0);
            for (uint256 i = 0; i < market.numPeople(); ++i) {
                uint128 owed = disputes.owedOf(runId, market.everybody(i));
                sum += owed;
                if (owed > 0) ++count;
            }
            (uint128 units, uint64 claimants) = disputes.booksOf(runId);
            same(units, sum, "owed");
            same(claimants, count, "claimants");
        }
    }

    function whatIsFinalNeverChanges() internal view {
        check(!market.hasFinalChanged(), "a final epoch changed");
    }

    function liesAreProvableAndTruthsAreNot() internal view {
        check(!market.wasTruthProven(), "a truth was proven false");
        same(uint8(market.unproven()), uint8(Lie.None), "a lie could not be proven");
    }

    // ------------------------------------------------------------ nothing is kept by doing nothing

    /// @notice 3,000 steps of one seeded market: every action goes through, and every invariant holds after each 50.
    function test_TheMarketDoesAllOfIt() public {
        bytes4[] memory actions = market.actions();
        for (uint256 i = 0; i < 3000; ++i) {
            uint256 seed = uint256(keccak256(abi.encode("market", i)));
            bytes4 action = actions[seed % actions.length];
            // A refusal is part of the game.
            (bool isDone,) = address(market).call(abi.encodeWithSelector(action, seed >> 8, seed >> 128));
            // From outside, which frees what memory it took.
            if (isDone && i % 50 == 0) this.invariant_WhateverAnybodyDoes();
        }
        for (uint256 i = 0; i < actions.length; ++i) {
            check(market.done(actions[i]) > 0, vm.toString(uint32(actions[i])));
        }
        (uint256 claimed, uint256 voided) = (0, 0);
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            claimed += run(runId).claimed;
            voided += run(runId).generation;
        }
        check(claimed > 0 && voided > 0, "claimed and voided");
        afterInvariant();
    }

    // ------------------------------------------------------------ the end

    /// @notice Whatever happened, everybody gets everything out; only what a lie committed to nobody stays.
    function afterInvariant() public {
        market.windUp();
        uint256 stuck = 0;
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            IRunLedger.Run memory value = run(runId);
            check(value.status == IRunLedger.Status.Closed, "closed");
            same(value.budget, value.committed, "refunded");
            same(value.committed, value.finalised, "nothing pending");
            if (market.isClean(runId, value.numFinal)) same(value.claimed, value.finalised, "all claimed");
            if (value.token == registry.token()) stuck += value.finalised - value.claimed;
        }
        same(IToken(registry.token()).balanceOf(address(ledger)), stuck, "ledger empty");
        same(IToken(registry.token()).balanceOf(address(registry)), 0, "registry empty");
        check(!market.hasFinalChanged(), "a final epoch changed");
    }
}

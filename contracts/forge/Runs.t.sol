// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {Log} from "./Base.sol";
import {Account, EpochFile, EpochFiles} from "./EpochFiles.sol";
import {World} from "./World.sol";

/// @title Permits, halts, ends, the cap and replacements: since when a run owes nothing, and who decides it
contract RunsTest is World {
    uint256 internal runId;
    uint64 internal start;

    function setUp() public {
        build();
        runId = create(params(), BUDGET);
        join(runId);
        start = clock();
    }

    function settle(uint64 tokens) internal returns (EpochFile memory file) {
        uint32 epoch = run(runId).numPosted;
        Account[] memory before = new Account[](epoch == 0 ? 0 : 1);
        if (epoch > 0) before[0] = Account(workers[0], uint128(tokens) * epoch, epoch);
        openEpoch(runId);
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](1);
        leaves[0] = leaf(runId, workers[0], epoch + 1, tokens, clock());
        file = write(runId, before, leaves);
        post(file);
        later(WINDOW);
        ledger.advance(runId);
    }

    function halt(address by) internal {
        vm.prank(by);
        ledger.haltRun(runId, "reason");
    }

    function resume(address by) internal {
        vm.prank(by);
        ledger.resumeRun(runId);
    }

    function owed(uint64 when) internal view returns (bool) {
        return ledger.isOwed(runId, when);
    }

    // ------------------------------------------------------------ permits

    function test_SilenceStopsARun() public {
        uint64 last = run(runId).permitUntil;
        same(last, start + PERMIT, "a first permit");
        vm.warp(last);
        openEpoch(runId);
        vm.prank(verifiers[0]);
        ledger.joinRun(runId, "");
        later(1);
        check(owed(last) && !owed(last + 1), "owed to the last second");
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.PermitLapsed.selector);
        ledger.openEpoch(runId, "secret");
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.PermitLapsed.selector);
        ledger.renewPermit(runId);
        vm.prank(verifiers[1]);
        vm.expectPartialRevert(IRunLedger.PermitLapsed.selector);
        ledger.joinRun(runId, "");
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.PermitLapsed.selector);
        ledger.haltRun(runId, "");
        halted(last);
    }

    /// @dev A lapse counts from the permit's end, whoever records it and when.
    function halted(uint64 last) internal {
        later(5);
        ledger.lapseRun(runId);
        vm.expectPartialRevert(IRunLedger.WrongStatus.selector);
        ledger.lapseRun(runId);
        check(run(runId).status == IRunLedger.Status.Halted, "halted");
        same(run(runId).haltedAt, last, "since the permit's end");
        check(owed(last) && !owed(last + 1) && !owed(clock()), "the same seconds");
        later(RESUME);
        resume(operator);
        check(owed(last) && !owed(last + 1) && !owed(clock() - 1) && owed(clock()), "owed again from now");
        same(run(runId).permitUntil, clock() + PERMIT, "a new permit");
    }

    function test_ALapseIsNotRecordedEarly() public {
        vm.warp(start + PERMIT);
        vm.expectPartialRevert(IRunLedger.NotLapsed.selector);
        ledger.lapseRun(runId);
    }

    function test_RenewingIsTheOperatorsAndCountsFromNow() public {
        later(100);
        vm.prank(stranger);
        vm.expectPartialRevert(IRunLedger.NotOperator.selector);
        ledger.renewPermit(runId);
        vm.prank(operator);
        ledger.renewPermit(runId);
        same(run(runId).permitUntil, clock() + PERMIT, "from now");
    }

    function test_ResumingALapsedRunWaitsFromTheLapse() public {
        vm.warp(start + PERMIT + RESUME - 1);
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.TooEarly.selector);
        ledger.resumeRun(runId);
        later(1);
        vm.prank(stewards[0]);
        vm.expectPartialRevert(IRunLedger.NotOperator.selector);
        ledger.resumeRun(runId);
        resume(operator);
        check(!owed(start + PERMIT + 1) && owed(clock()), "the lapse stays");
    }

    function test_StoppingALapsedRunDatesFromTheLapse() public {
        vm.warp(start + PERMIT + 50);
        vm.prank(operator);
        ledger.stopRun(runId);
        check(owed(start + PERMIT) && !owed(start + PERMIT + 1), "the lapse came first");
    }

    // ------------------------------------------------------------ halts

    function test_TheOperatorHaltsAtOnceAndResumesAfterADelay() public {
        later(10);
        halt(operator);
        uint64 last = clock();
        check(owed(last) && !owed(last + 1), "owed to the second of halting");
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.WrongStatus.selector);
        ledger.haltRun(runId, "");
        later(RESUME - 1);
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.TooEarly.selector);
        ledger.resumeRun(runId);
        later(1);
        vm.prank(stranger);
        vm.expectPartialRevert(IRunLedger.NotOperator.selector);
        ledger.resumeRun(runId);
        resume(operator);
        check(!owed(last + 1) && owed(clock()), "owed from the second of resuming");
    }

    function test_TwoStewardsHaltAndOnlyTheyResume() public {
        halt(stewards[0]);
        check(run(runId).status == IRunLedger.Status.Active, "one vote is none");
        vm.prank(stewards[0]);
        vm.expectPartialRevert(IRunLedger.AlreadyVoted.selector);
        ledger.haltRun(runId, "");
        vm.prank(stranger);
        vm.expectPartialRevert(IRunLedger.NotSteward.selector);
        ledger.haltRun(runId, "");
        halt(stewards[2]);
        check(run(runId).haltedByStewards, "theirs");
        later(RESUME);
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.NotSteward.selector);
        ledger.resumeRun(runId);
        resume(stewards[0]);
        check(run(runId).status == IRunLedger.Status.Halted, "one vote is none");
        resume(stewards[1]);
        check(run(runId).status == IRunLedger.Status.Active, "resumed");
    }

    function test_StewardsMakeTheOperatorsHaltTheirOwn() public {
        halt(operator);
        uint64 last = clock();
        later(RESUME - 1);
        halt(stewards[0]);
        halt(stewards[1]);
        check(owed(last) && !owed(last + 1), "owed to the first halt");
        later(1);
        vm.prank(stewards[0]);
        vm.expectPartialRevert(IRunLedger.TooEarly.selector);
        ledger.resumeRun(runId);
        later(RESUME - 1);
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.NotSteward.selector);
        ledger.resumeRun(runId);
    }

    function test_AnOperatorCannotWipeVotesByHaltingItself() public {
        halt(stewards[0]);
        halt(operator);
        later(RESUME);
        resume(operator);
        halt(stewards[1]);
        check(run(runId).haltedByStewards, "both votes count");
    }

    function test_WorkBeforeAHaltIsPaidAndWorkAfterItIsNot() public {
        openEpoch(runId);
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](1);
        leaves[0] = leaf(runId, workers[0], 1, 10, clock());
        halt(operator);
        later(10);
        EpochFile memory file = write(runId, new Account[](0), leaves);
        post(file);
        vm.expectPartialRevert(bytes4(keccak256("NoFault()")));
        disputes.proveBadLeaf(file.header, openWork(file, 0), file.signatures[0]);
        later(WINDOW);
        claim(file, 0);
        same(token.balanceOf(workers[0]), uint256(STAKE) * 99 + 10 * RATE, "paid in full");
    }

    // ------------------------------------------------------------ the cap and the meters

    function test_TheCapEndsOwingForGood() public {
        IRunLedger.RunParams memory p = params();
        p.computeCap = 141;
        runId = create(p, BUDGET);
        settle(100);
        same(run(runId).gflops, 140, "one short");
        check(owed(clock()), "owed");
        openEpoch(runId);
        settle(100);
        check(owed(clock()) && !owed(clock() + 1), "what was done until now");
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.ComputeCapReached.selector);
        ledger.openEpoch(runId, "secret");
        halt(operator);
        later(RESUME);
        resume(operator);
        check(!owed(clock()), "no resuming brings it back");
    }

    function test_MetersSumRunsOfOneOperatorAndOneModel() public {
        settle(100);
        IRunLedger.RunParams memory p = params();
        p.baseModel = keccak256("another");
        runId = create(p, BUDGET);
        settle(10);
        same(ledger.meterOf(bytes32(uint256(uint160(operator)))).gflops, 154, "the operator's");
        same(ledger.meterOf(bytes32(uint256(uint160(operator)))).tokens, 110, "the operator's");
        same(ledger.meterOf(MODEL).gflops, 140, "the model's");
        same(ledger.meterOf(p.baseModel).gflops, 14, "the other's");
    }

    function test_WarningsNameTheLargestThresholdCrossed() public {
        warned(500, 0);
        warned(500, 1000);
        warned(500, 2000);
        warned(100, 0);
        warned(5000, 8000);
    }

    /// @dev WARN is 1,000 gflops; a token is 1.4. The sums: 700, 1400, 2100, 2240, 9240.
    function warned(uint64 tokens, uint256 threshold) internal {
        bytes32 warning = keccak256("ComputeWarning(bytes32,uint128,uint128)");
        runId = create(params(), BUDGET);
        vm.recordLogs();
        settle(tokens);
        uint256 seen = 0;
        Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != warning || logs[i].topics[1] != MODEL) continue;
            (, seen) = abi.decode(logs[i].data, (uint256, uint256));
        }
        same(seen, threshold, "threshold");
    }

    // ------------------------------------------------------------ ends

    function test_AStoppedRunSettlesAndThenRefundsWhatWasNeverCommitted() public {
        EpochFile memory file = settle(100);
        openEpoch(runId);
        vm.prank(stranger);
        vm.expectPartialRevert(IRunLedger.NotOperator.selector);
        ledger.stopRun(runId);
        vm.prank(operator);
        ledger.stopRun(runId);
        later(SETTLE);
        vm.expectPartialRevert(IRunLedger.TooEarly.selector);
        ledger.closeRun(runId);
        uint256 snapshot = vm.snapshotState();
        EpochFile memory next = write(runId, file.accounts, new IRunLedger.WorkLeaf[](0));
        post(next);
        later(1);
        vm.expectPartialRevert(IRunLedger.EpochsPending.selector);
        ledger.closeRun(runId);
        vm.revertToState(snapshot);
        later(1);
        bytes[] memory signatures = quorum(runId, EpochFiles.headerHash(next.header), 3);
        vm.expectPartialRevert(IRunLedger.SettleWindowOver.selector);
        ledger.postEpoch(next.header, SECRET, 3, signatures, "");
        ledger.closeRun(runId);
        claim(file, 0);
        same(run(runId).claimed, 100 * RATE, "claims go on");
        later(SETTLE + RESPONSE);
        disputes.refundRun(runId);
        same(ledger.creditOf(operator, address(token)), BUDGET - 100 * RATE, "the rest");
        vm.expectPartialRevert(IRunLedger.WrongStatus.selector);
        ledger.closeRun(runId);
    }

    function test_VoidingAStoppedRunsEpochGivesTimeToPostItAnew() public {
        EpochFile memory file = settle(100);
        openEpoch(runId);
        vm.prank(operator);
        ledger.stopRun(runId);
        later(SETTLE);
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](1);
        leaves[0] = leaf(runId, workers[0], 2, 10, start);
        EpochFile memory next = write(runId, file.accounts, leaves);
        next.header.total += 1;
        post(next);
        disputes.proveBadEdge(next.header, openWork(next, 0));
        same(run(runId).settleUntil, clock() + SETTLE, "from the void");
    }

    function test_APauseNeitherEatsPostingTimeNorReachesClaims() public {
        EpochFile memory file = settle(100);
        openEpoch(runId);
        EpochFile memory next = write(runId, file.accounts, new IRunLedger.WorkLeaf[](0));
        vm.prank(operator);
        ledger.stopRun(runId);
        vm.prank(guardian);
        council.pause(SETTLE * 2, "reason");
        bytes[] memory signatures = quorum(runId, EpochFiles.headerHash(next.header), 3);
        vm.expectPartialRevert(IRunLedger.Paused.selector);
        ledger.postEpoch(next.header, SECRET, 3, signatures, "");
        claim(file, 0);
        later(SETTLE * 2 - 1);
        vm.expectPartialRevert(IRunLedger.Paused.selector);
        ledger.postEpoch(next.header, SECRET, 3, signatures, "");
        later(1);
        vm.expectPartialRevert(IRunLedger.TooEarly.selector);
        ledger.closeRun(runId);
        post(next);
    }

    function test_APauseStopsMoneyAndPeopleFromComingIn() public {
        vm.prank(guardian);
        council.pause(100, "reason");
        address newcomer = who("newcomer");
        enlist(newcomer, STAKE);
        vm.prank(newcomer);
        vm.expectPartialRevert(IRunLedger.Paused.selector);
        ledger.joinRun(runId, "");
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.Paused.selector);
        ledger.createRun(params(), 0, "");
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.Paused.selector);
        ledger.fundRun(runId, 1);
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.Paused.selector);
        ledger.openEpoch(runId, "secret");
        halt(operator);
        later(RESUME);
        resume(operator);
        vm.prank(operator);
        ledger.renewPermit(runId);
        vm.prank(operator);
        ledger.stopRun(runId);
    }

    // ------------------------------------------------------------ replacing a verifier

    function test_AVerifierThatKeepsItsStakeIsNotReplaced() public {
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.VerifierStillStaked.selector);
        ledger.proposeReplacement(runId, 0, workers[0]);
        vm.prank(verifiers[0]);
        registry.unbond(1);
        vm.prank(stranger);
        vm.expectPartialRevert(IRunLedger.NotOperator.selector);
        ledger.proposeReplacement(runId, 0, workers[0]);
        vm.prank(operator);
        ledger.proposeReplacement(runId, 0, workers[0]);
        vm.prank(verifiers[0]);
        registry.stake(1);
        later(WINDOW);
        vm.expectPartialRevert(IRunLedger.VerifierStillStaked.selector);
        ledger.replaceVerifier(runId);
    }

    function test_AReplacedVerifierSignsNoMoreAndItsSuccessorDoes() public {
        vm.prank(verifiers[0]);
        registry.unbond(1);
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.AlreadyVerifier.selector);
        ledger.proposeReplacement(runId, 0, verifiers[1]);
        vm.prank(operator);
        ledger.proposeReplacement(runId, 0, workers[0]);
        later(WINDOW - 1);
        vm.expectPartialRevert(IRunLedger.TooEarly.selector);
        ledger.replaceVerifier(runId);
        later(SETTLE + 2);
        vm.expectPartialRevert(IRunLedger.NoReplacement.selector);
        ledger.replaceVerifier(runId);
        vm.prank(operator);
        ledger.proposeReplacement(runId, 0, workers[0]);
        later(WINDOW);
        vm.prank(workers[0]);
        registry.unbond(1);
        vm.expectPartialRevert(IRunLedger.StakeTooLow.selector);
        ledger.replaceVerifier(runId);
        vm.prank(workers[0]);
        registry.stake(1);
        ledger.replaceVerifier(runId);
        vm.prank(verifiers[0]);
        registry.stake(1);
        openEpoch(runId);
        EpochFile memory file = write(runId, new Account[](0), new IRunLedger.WorkLeaf[](0));
        bytes[] memory signatures = quorum(runId, EpochFiles.headerHash(file.header), 3);
        vm.expectPartialRevert(IRunLedger.VerifierReplaced.selector);
        ledger.postEpoch(file.header, SECRET, 3, signatures, "");
        post(file.header, 8 + 2);
        vm.expectPartialRevert(IRunLedger.NoReplacement.selector);
        ledger.replaceVerifier(runId);
    }

    // ------------------------------------------------------------ parameters

    function test_ParametersThatCannotHoldAreRefused() public {
        IRunLedger.RunParams memory p = params();
        p.threshold = 1;
        refused(p, IRunLedger.BadThreshold.selector);
        p = params();
        p.threshold = 4;
        refused(p, IRunLedger.BadThreshold.selector);
        // Half is no majority: two halves could disagree.
        p.threshold = 1;
        p.verifiers = new address[](2);
        (p.verifiers[0], p.verifiers[1]) = (verifiers[0], verifiers[1]);
        refused(p, IRunLedger.BadThreshold.selector);
        p = params();
        p.threshold = 0;
        refused(p, IRunLedger.BadThreshold.selector);
        p = params();
        p.verifiers = new address[](0);
        refused(p, IRunLedger.BadThreshold.selector);
        p = params();
        p.stewardThreshold = 0;
        refused(p, IRunLedger.BadThreshold.selector);
        p.stewardThreshold = uint8(stewards.length + 1);
        refused(p, IRunLedger.BadThreshold.selector);
        p = params();
        p.stewards = new address[](0);
        refused(p, IRunLedger.BadThreshold.selector);
        p = params();
        p.token = address(0);
        refused(p, IRunLedger.ZeroAddress.selector);
        p = params();
        p.settleWindow = MIN_WINDOW - 1;
        refused(p, IRunLedger.BadWindow.selector);
        p = params();
        p.resumeDelay = 30 days + 1;
        refused(p, IRunLedger.BadWindow.selector);
        p = params();
        p.permitPeriod = MIN_WINDOW - 1;
        refused(p, IRunLedger.BadWindow.selector);
        p.permitPeriod = 30 days + 1;
        refused(p, IRunLedger.BadWindow.selector);
        // Silence must stop a run within a month.
        p.permitPeriod = 30 days;
        create(p, 0);
        p = params();
        (p.verifiers[0], p.verifiers[1]) = (verifiers[1], verifiers[0]);
        refused(p, IRunLedger.NotAscending.selector);
        p = params();
        p.challengeWindow = uint32(UNBOND / 2);
        refused(p, IRunLedger.BadWindow.selector);
        p = params();
        p.challengeWindow = MIN_WINDOW - 1;
        refused(p, IRunLedger.BadWindow.selector);
        p.challengeWindow = MIN_WINDOW;
        create(p, 0);
        p = params();
        p.verifiers[0] = p.verifiers[1];
        refused(p, IRunLedger.NotAscending.selector);
        p = params();
        p.minStake = 99;
        refused(p, IRunLedger.AmountTooSmall.selector);
        p = params();
        p.rate = 0;
        refused(p, IRunLedger.ZeroAmount.selector);
        p = params();
        p.numParameters = 0;
        refused(p, IRunLedger.ZeroAmount.selector);
        p = params();
        p.baseModel = bytes32(uint256(uint160(workers[0])));
        refused(p, IRunLedger.AmountTooSmall.selector);
        p.baseModel = bytes32(uint256(type(uint160).max) + 1);
        create(p, 0);
        p = params();
        p.parentRun = 99;
        refused(p, IRunLedger.NoSuchRun.selector);
        p = params();
        p.challengeWindow = uint32(UNBOND / 2) - 1;
        create(p, 0);
    }

    function refused(IRunLedger.RunParams memory p, bytes4 why) internal {
        vm.prank(operator);
        vm.expectPartialRevert(why);
        ledger.createRun(p, 0, "");
    }
}

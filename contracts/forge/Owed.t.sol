// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {Account, EpochFile, EpochFiles} from "./EpochFiles.sol";
import {World} from "./World.sol";

/// @title What an operator owes by its receipts, whatever becomes of the run
contract OwedTest is World {
    uint256 internal constant UNITS = BUDGET / RATE;
    uint256 internal runId;
    uint64 internal start;

    function setUp() public {
        build();
        runId = create(params(), BUDGET);
        join(runId);
        start = clock();
        later(1);
    }

    // ------------------------------------------------------------ stages

    function taken(address worker, uint64 nonce, uint64 tokens)
        internal
        view
        returns (IDisputes.Receipt memory receipt, bytes memory signature)
    {
        return receiptFor(leaf(runId, worker, nonce, tokens, start), start, operator);
    }

    function workOf(address worker, uint64 nonce, uint64 tokens)
        internal
        view
        returns (IDisputes.Work memory)
    {
        (IDisputes.Receipt memory receipt,) = taken(worker, nonce, tokens);
        return receipt.work;
    }

    function claimOne(address worker, uint64 nonce, uint64 tokens, bytes4 refusal) internal {
        IDisputes.Receipt[] memory receipts = new IDisputes.Receipt[](1);
        bytes[] memory signatures = new bytes[](1);
        (receipts[0], signatures[0]) = taken(worker, nonce, tokens);
        send(worker, receipts, signatures, refusal);
    }

    function send(address by, IDisputes.Receipt[] memory receipts, bytes[] memory signatures, bytes4 refusal)
        internal
    {
        vm.prank(by);
        if (refusal != 0) vm.expectPartialRevert(refusal);
        disputes.claimOwed(receipts, signatures);
    }

    function claimSum(address worker, uint64 tokens) internal {
        claimOne(worker, 1, tokens, 0);
    }

    function stop() internal {
        vm.prank(operator);
        ledger.stopRun(runId);
    }

    function close() internal {
        later(SETTLE + 1);
        ledger.closeRun(runId);
    }

    function decide() internal {
        (, uint64 paidFrom) = disputes.decidedAt(runId);
        vm.warp(paidFrom);
    }

    function credit(address person) internal view returns (uint256) {
        return ledger.creditOf(person, address(token));
    }

    /// @dev An epoch with one leaf of the first worker.
    function paid(uint64 nonce, uint64 tokens) internal returns (EpochFile memory file) {
        openEpoch(runId);
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](1);
        leaves[0] = leaf(runId, workers[0], nonce, tokens, start);
        file = write(runId, new Account[](0), leaves);
        post(file);
    }

    // ------------------------------------------------------------ the attack

    function test_AnOperatorThatStopsAndClosesKeepsTheMoneyWhereNobodyClaims() public {
        stop();
        close();
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        disputes.refundRun(runId);
        decide();
        disputes.refundRun(runId);
        same(credit(operator), BUDGET, "receipts that nobody showed are worth nothing");
    }

    function test_AnOperatorThatStopsAndClosesPaysItsReceipts() public {
        stop();
        close();
        claimSum(workers[0], uint64(UNITS / 2));
        decide();
        disputes.refundRun(runId);
        same(credit(operator), BUDGET / 2, "what it does not owe");
        vm.expectPartialRevert(IDisputes.NothingLeft.selector);
        disputes.refundRun(runId);
        disputes.payOwed(runId, workers[0]);
        same(credit(workers[0]), BUDGET / 2, "what it owes");
        vm.expectPartialRevert(IDisputes.NothingOwed.selector);
        disputes.payOwed(runId, workers[0]);
        uint256 before = token.balanceOf(workers[0]);
        vm.prank(workers[0]);
        ledger.withdrawCredit(address(token));
        same(token.balanceOf(workers[0]) - before, BUDGET / 2, "in hand");
        same(run(runId).budget, run(runId).committed, "nothing is kept");
    }

    function test_NothingIsPaidOrRefundedBeforeEverybodyHadTheTime() public {
        stop();
        close();
        claimSum(workers[0], 10);
        (uint64 claimsUntil, uint64 paidFrom) = disputes.decidedAt(runId);
        same(claimsUntil, clock() + SETTLE, "a settle window for claims");
        same(paidFrom, claimsUntil + RESPONSE, "and a response window");
        vm.warp(claimsUntil - 1);
        claimOne(workers[1], 1, 10, 0);
        vm.warp(claimsUntil);
        claimOne(workers[2], 1, 10, IDisputes.TooLate.selector);
        vm.warp(paidFrom - 1);
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        disputes.payOwed(runId, workers[0]);
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        disputes.refundRun(runId);
        vm.warp(paidFrom);
        disputes.payOwed(runId, workers[0]);
    }

    function test_OnlyDisputesMovesWhatWasNeverCommitted() public {
        vm.expectPartialRevert(IRunLedger.NotDisputes.selector);
        ledger.creditUncommitted(runId, stranger, 1);
        vm.prank(address(disputes));
        vm.expectPartialRevert(IRunLedger.WrongStatus.selector);
        ledger.creditUncommitted(runId, stranger, 1);
        EpochFile memory file = paid(1, 100);
        stop();
        later(WINDOW);
        close();
        vm.prank(address(disputes));
        vm.expectPartialRevert(IRunLedger.AmountTooLarge.selector);
        ledger.creditUncommitted(runId, stranger, BUDGET - 100 * RATE + 1);
        claim(file, 0);
    }

    // ------------------------------------------------------------ silence

    function test_AnOperatorThatGoesSilentIsStoppedAndPays() public {
        uint64 due = start + SETTLE;
        vm.warp(due - 1);
        claimOne(workers[0], 1, 100, IDisputes.NotYetDue.selector);
        vm.warp(due);
        claimSum(workers[0], 100);
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        later(RESPONSE - 1);
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        disputes.stopOverdue(work);
        later(1);
        vm.prank(stranger);
        disputes.stopOverdue(work);
        check(run(runId).status == IRunLedger.Status.Stopped, "stopped");
        vm.expectPartialRevert(IRunLedger.WrongStatus.selector);
        disputes.stopOverdue(work);
        close();
        decide();
        disputes.payOwed(runId, workers[0]);
        same(credit(workers[0]), 100 * RATE, "paid");
    }

    function test_ALapsedRunIsStoppedToo() public {
        vm.warp(start + PERMIT + 10);
        claimSum(workers[0], 100);
        later(RESPONSE);
        disputes.stopOverdue(workOf(workers[0], 1, 100));
        check(run(runId).status == IRunLedger.Status.Stopped, "stopped");
        check(!ledger.isOwed(runId, start + PERMIT + 1), "the lapse came first");
    }

    function test_WorkThatNobodyClaimedStopsNothing() public {
        later(SETTLE + RESPONSE);
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        vm.expectPartialRevert(IDisputes.NotClaimed.selector);
        disputes.stopOverdue(work);
        vm.prank(stranger);
        vm.expectPartialRevert(IRunLedger.NotOperator.selector);
        ledger.stopRun(runId);
    }

    function test_AnOperatorIsNotStoppedForAPauseInWhichItCannotPost() public {
        later(SETTLE);
        claimSum(workers[0], 100);
        vm.prank(guardian);
        council.pause(100, "reason");
        later(100 + RESPONSE - 1);
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        disputes.stopOverdue(work);
        later(1);
        disputes.stopOverdue(work);
    }

    function test_AnOperatorThatPaysLateIsNotStopped() public {
        later(SETTLE);
        claimSum(workers[0], 100);
        EpochFile memory file = paid(1, 100);
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        disputes.answerPaid(work, file.header, openWork(file, 0));
        same(registry.stakeOf(workers[0]), STAKE, "it was owed when it was claimed");
        later(RESPONSE);
        vm.expectPartialRevert(IDisputes.NotClaimed.selector);
        disputes.stopOverdue(work);
        same(disputes.owedOf(runId, workers[0]), 0, "off the books");
    }

    function test_WorkOfAVoidedEpochIsClaimedAgain() public {
        later(SETTLE);
        claimSum(workers[0], 100);
        EpochFile memory file = paid(1, 100);
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        IDisputes.WorkProof memory proof = openWork(file, 0);
        disputes.answerPaid(work, file.header, proof);
        retract(file.header, 3);
        vm.expectPartialRevert(IDisputes.BadWitness.selector);
        disputes.answerPaid(work, file.header, proof);
        claimSum(workers[0], 100);
        vm.expectPartialRevert(IDisputes.BadWitness.selector);
        disputes.answerPaid(work, file.header, proof);
        later(RESPONSE);
        disputes.stopOverdue(work);
    }

    // ------------------------------------------------------------ false claims

    function test_PaidWorkIsNotPaidAgainAndItsClaimCostsStake() public {
        EpochFile memory file = paid(1, 100);
        stop();
        close();
        claimSum(workers[0], 100);
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        vm.prank(stranger);
        disputes.answerPaid(work, file.header, openWork(file, 0));
        same(registry.stakeOf(workers[0]), STAKE - STAKE / 100, "a hundredth");
        same(registry.creditOf(stranger), STAKE / 400, "a quarter of it");
        decide();
        vm.expectPartialRevert(IDisputes.NothingOwed.selector);
        disputes.payOwed(runId, workers[0]);
        disputes.refundRun(runId);
        same(credit(operator), BUDGET - 100 * RATE, "the rest");
    }

    function test_PaidWorkUnderAnotherReceiptIsAnsweredToo() public {
        EpochFile memory file = paid(1, 100);
        stop();
        close();
        claimSum(workers[0], 99);
        disputes.answerPaid(workOf(workers[0], 1, 99), file.header, openWork(file, 0));
        same(disputes.owedOf(runId, workers[0]), 0, "one nonce is paid once");
        claimOne(workers[1], 1, 100, 0);
        IDisputes.Work memory others = workOf(workers[1], 1, 100);
        vm.expectPartialRevert(IDisputes.BadWitness.selector);
        disputes.answerPaid(others, file.header, openWork(file, 0));
    }

    function test_CondemnedWorkIsNotPaidAndNotClaimedAgain() public {
        stop();
        close();
        claimSum(workers[0], 100);
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        refuseVerdicts(work);
        disputes.answerCondemned(work, condemned(work, 2));
        same(disputes.owedOf(runId, workers[0]), 0, "off the books");
        same(registry.stakeOf(workers[0]), STAKE, "it may not have been told");
        claimOne(workers[0], 1, 100, IDisputes.AlreadyClaimed.selector);
    }

    function refuseVerdicts(IDisputes.Work memory work) internal {
        IDisputes.Condemnation[] memory verdicts = condemned(work, 1);
        vm.expectPartialRevert(IRunLedger.QuorumTooSmall.selector);
        disputes.answerCondemned(work, verdicts);
        verdicts = condemned(work, 2);
        verdicts[1] = verdicts[0];
        vm.expectPartialRevert(IDisputes.HeardBefore.selector);
        disputes.answerCondemned(work, verdicts);
        verdicts = condemned(work, 2);
        // What accepts does not condemn.
        verdicts[0].reason = abi.encodePacked(hex"a0");
        vm.expectPartialRevert(IRunLedger.WrongSigner.selector);
        disputes.answerCondemned(work, verdicts);
        verdicts = condemned(workOf(workers[0], 2, 100), 2);
        vm.expectPartialRevert(IRunLedger.WrongSigner.selector);
        disputes.answerCondemned(work, verdicts);
    }

    function test_AVerdictStaysTrueWhenItsVerifierHasLeft() public {
        stop();
        close();
        claimSum(workers[0], 100);
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        IDisputes.Condemnation[] memory verdicts = condemned(work, 2);
        vm.prank(verifiers[0]);
        registry.unbond(STAKE);
        disputes.answerCondemned(work, verdicts);
    }

    function test_AReportedWorkersClaimTakesNobodysPay() public {
        later(SETTLE);
        claimSum(workers[0], uint64((UNITS * 6) / 10));
        claimSum(workers[1], uint64((UNITS * 5) / 10));
        accuse(report(runId, workers[1], "work", 1), 3);
        stop();
        close();
        decide();
        disputes.payOwed(runId, workers[0]);
        same(credit(workers[0]), (BUDGET * 6) / 10, "all of it, whoever is asked first");
        disputes.refundRun(runId);
        same(credit(operator), (BUDGET * 4) / 10, "the rest");
    }

    function test_AReportedWorkerIsNotPaid() public {
        later(SETTLE);
        claimSum(workers[0], 100);
        accuse(report(runId, workers[0], "work", 1), 3);
        claimOne(workers[0], 2, 100, IDisputes.WasReported.selector);
        later(RESPONSE);
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        vm.expectPartialRevert(IDisputes.WasReported.selector);
        disputes.stopOverdue(work);
        stop();
        close();
        decide();
        vm.expectPartialRevert(IDisputes.NothingOwed.selector);
        disputes.payOwed(runId, workers[0]);
        disputes.refundRun(runId);
        same(credit(operator), BUDGET, "all of it");
    }

    function test_WhatIsDecidedIsNotAnsweredAnyMore() public {
        EpochFile memory file = paid(1, 100);
        stop();
        close();
        claimSum(workers[0], 100);
        decide();
        IDisputes.Work memory work = workOf(workers[0], 1, 100);
        vm.expectPartialRevert(IDisputes.TooLate.selector);
        disputes.answerPaid(work, file.header, openWork(file, 0));
        IDisputes.Condemnation[] memory verdicts = condemned(work, 2);
        vm.expectPartialRevert(IDisputes.TooLate.selector);
        disputes.answerCondemned(work, verdicts);
    }

    function test_WhatIsNoReceiptForOwedWorkIsRefused() public {
        stop();
        close();
        claimOne(workers[0], 0, 100, IDisputes.NotPayable.selector);
        claimOne(workers[0], 1, 0, IDisputes.NotPayable.selector);
        claimOne(stranger, 1, 100, IDisputes.NotJoined.selector);
        IDisputes.Receipt[] memory receipts = new IDisputes.Receipt[](1);
        bytes[] memory signatures = new bytes[](1);
        // Dated after the stop.
        (receipts[0], signatures[0]) = receiptFor(leaf(runId, workers[0], 1, 100, clock()), clock(), operator);
        send(workers[0], receipts, signatures, IDisputes.NotPayable.selector);
        (receipts[0], signatures[0]) = receiptFor(leaf(runId, workers[0], 1, 100, start), start, stranger);
        send(workers[0], receipts, signatures, IDisputes.NotOperatorsKey.selector);
        (receipts[0], signatures[0]) = receiptFor(leaf(runId, workers[0], 1, 100, start), start, operator);
        receipts[0].work.tokens = 200;
        send(workers[0], receipts, signatures, IDisputes.NotOperatorsKey.selector);
        send(workers[0], receipts, new bytes[](0), IDisputes.LengthMismatch.selector);
        receipts[0].work.tokens = 100;
        // What a false claim costs is the worker's stake, so nobody claims for it.
        send(operator, receipts, signatures, IDisputes.NotTheWorker.selector);
        vm.prank(workers[0]);
        registry.unbond(1);
        send(workers[0], receipts, signatures, IRunLedger.StakeTooLow.selector);
        vm.prank(workers[0]);
        registry.stake(1);
        send(workers[0], receipts, signatures, 0);
        send(workers[0], receipts, signatures, IDisputes.AlreadyClaimed.selector);
    }

    function test_OneClaimIsOfOneWorkerInOneRun() public {
        stop();
        close();
        IDisputes.Receipt[] memory receipts = new IDisputes.Receipt[](2);
        bytes[] memory signatures = new bytes[](2);
        (receipts[0], signatures[0]) = taken(workers[0], 1, 100);
        (receipts[1], signatures[1]) = taken(workers[1], 1, 100);
        send(workers[0], receipts, signatures, IDisputes.NotPayable.selector);
        (receipts[1], signatures[1]) = taken(workers[0], 2, 100);
        send(workers[0], receipts, signatures, 0);
        same(disputes.owedOf(runId, workers[0]), 200, "both");
        (receipts[1], signatures[1]) = (receipts[0], signatures[0]);
        send(workers[0], receipts, signatures, IDisputes.AlreadyClaimed.selector);
    }

    // ------------------------------------------------------------ more than there is

    function test_AnOperatorsInventedWorkerDoesNotTakeARealOnesPay() public {
        stop();
        close();
        claimSum(workers[1], uint64(1) << 60);
        claimSum(workers[0], uint64(UNITS / 2));
        decide();
        vm.expectPartialRevert(IDisputes.NothingLeft.selector);
        disputes.refundRun(runId);
        uint256 first = vm.snapshotState();
        disputes.payOwed(runId, workers[0]);
        same(credit(workers[0]), BUDGET / 2, "in full");
        disputes.payOwed(runId, workers[1]);
        same(credit(workers[1]), BUDGET / 2, "the rest");
        same(registry.stakeOf(operator), 0, "who signed for more than there was");
        vm.revertToState(first);
        disputes.payOwed(runId, workers[1]);
        disputes.payOwed(runId, workers[0]);
        same(credit(workers[0]), BUDGET / 2, "in whatever order");
    }

    function testFuzz_WhateverIsClaimedTheBudgetIsPaidOutOnce(uint64[3] memory tokens, uint256 order) public {
        // As often below the budget as above it.
        for (uint256 i = 0; i < 3; ++i) {
            tokens[i] %= (order >> i) & 1 == 0 ? uint64(UNITS) : uint64(1) << 60;
        }
        stop();
        close();
        uint256 sum = 0;
        uint256 claimants = 0;
        for (uint256 i = 0; i < 3; ++i) {
            if (tokens[i] == 0) continue;
            claimSum(workers[i], tokens[i]);
            sum += uint256(tokens[i]) * RATE;
            ++claimants;
        }
        decide();
        if (sum < BUDGET) disputes.refundRun(runId);
        for (uint256 i = 0; i < 3; ++i) {
            uint256 place = (i + order % 3) % 3;
            if (tokens[place] == 0) continue;
            disputes.payOwed(runId, workers[place]);
            uint256 due = uint256(tokens[place]) * RATE;
            if (sum > BUDGET && due > BUDGET / claimants) due = BUDGET / claimants;
            check(credit(workers[place]) >= due, "its claim or its part");
            check(credit(workers[place]) <= uint256(tokens[place]) * RATE, "and never more than it claims");
        }
        if (run(runId).budget > run(runId).committed) disputes.refundRun(runId);
        uint256 all = credit(operator);
        for (uint256 i = 0; i < 3; ++i) {
            all += credit(workers[i]);
        }
        same(all, BUDGET, "all of it, once");
        (uint128 units, uint64 left) = disputes.booksOf(runId);
        check(units == 0 && left == 0, "the books are closed");
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {Account, EpochFile, EpochFiles} from "./EpochFiles.sol";
import {Prover} from "./Prover.sol";

/// @title What is asked under a bond, and what a quorum reports
contract DisputesTest is Prover {
    uint256 internal runId;
    bytes internal encoded;

    function setUp() public {
        build();
        runId = create(params(), BUDGET);
        join(runId);
        openEpoch(runId);
        later(10);
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](4);
        leaves[0] = leaf(runId, workers[0], 4, 10, clock());
        leaves[1] = leaf(runId, workers[0], 6, 10, clock());
        leaves[2] = leaf(runId, workers[1], 2, 10, clock());
        leaves[3] = leaf(runId, workers[2], 2, 10, clock());
        EpochFile memory file = write(runId, new Account[](0), leaves);
        post(file);
        encoded = abi.encode(file);
    }

    function posted() internal view returns (EpochFile memory) {
        return abi.decode(encoded, (EpochFile));
    }

    function epoch() internal view returns (IRunLedger.Epoch memory) {
        return ledger.epochOf(runId, 0);
    }

    // ------------------------------------------------------------ demands

    function ask(uint32[] memory indices) internal returns (bytes32) {
        vm.prank(stranger);
        return disputes.demand(posted().header, IDisputes.DisputeKind.Work, indices);
    }

    function two() internal pure returns (uint32[] memory indices) {
        indices = new uint32[](2);
        (indices[0], indices[1]) = (0, 3);
    }

    function answer(bytes32 disputeId, uint256 slot, uint256 index, bytes4 refusal) internal {
        EpochFile memory file = posted();
        uint256[] memory slots = new uint256[](1);
        IDisputes.WorkProof[] memory work = new IDisputes.WorkProof[](1);
        bytes[] memory signatures = new bytes[](1);
        (slots[0], work[0], signatures[0]) = (slot, openWork(file, index), file.signatures[index]);
        if (refusal == IDisputes.WrongSignature.selector) signatures[0] = hex"00";
        if (refusal != 0) vm.expectPartialRevert(refusal);
        vm.prank(workers[2]);
        disputes.answerWork(disputeId, file.header, two(), slots, work, signatures);
    }

    function test_AnAnsweredDemandCostsItsBondAndPutsFinalityOff() public {
        bytes32 disputeId = ask(two());
        same(registry.bonds(), STAKE / 50, "a hundredth for each leaf");
        same(epoch().holds, 1, "held");
        later(RESPONSE - 1);
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        disputes.expire(disputeId);
        answer(disputeId, 0, 3, IDisputes.NotDemanded.selector);
        answer(disputeId, 0, 0, IDisputes.WrongSignature.selector);
        answer(disputeId, 0, 0, 0);
        same(epoch().holds, 1, "half an answer is none");
        answer(disputeId, 0, 0, 0);
        same(epoch().holds, 1, "twice the same neither");
        answer(disputeId, 1, 3, 0);
        same(epoch().holds, 0, "released");
        same(epoch().finalAt, clock() + WINDOW, "time to prove what was shown");
        same(epoch().rounds, 1, "counted");
        same(registry.creditOf(workers[2]), STAKE / 200, "a quarter to who completed it");
        same(registry.creditOf(treasury), STAKE / 50 - STAKE / 200, "the rest");
        vm.expectPartialRevert(IDisputes.WrongDispute.selector);
        disputes.expire(disputeId);
    }

    function test_AnUnansweredDemandVoidsTheEpoch() public {
        bytes32 disputeId = ask(two());
        answer(disputeId, 0, 0, 0);
        later(RESPONSE);
        answer(disputeId, 1, 3, IDisputes.TooLate.selector);
        disputes.expire(disputeId);
        same(run(runId).numPosted, 0, "void");
        same(registry.stakeOf(verifiers[0]), 0, "signers pay");
        same(registry.creditOf(stranger), STAKE / 50 + STAKE / 2, "the bond and a quarter of each");
    }

    function test_AHeldEpochWaitsAndLaterOnesWaitForIt() public {
        openEpoch(runId);
        post(write(runId, posted().accounts, new IRunLedger.WorkLeaf[](0)));
        bytes32 disputeId = ask(two());
        later(WINDOW);
        ledger.advance(runId);
        same(run(runId).numFinal, 0, "neither");
        vm.expectPartialRevert(IRunLedger.EpochNotFinal.selector);
        claim(posted(), 0);
        disputes.expire(disputeId);
        same(run(runId).numPosted, 0, "both void");
    }

    function test_ADemandIsRefusedOnceTheEpochCouldBeFinal() public {
        later(WINDOW);
        EpochFile memory file = posted();
        vm.prank(stranger);
        vm.expectPartialRevert(IDisputes.TooLate.selector);
        disputes.demand(file.header, IDisputes.DisputeKind.Work, two());
    }

    function test_ADemandNamesOneToAHundredLeavesThatAreThere() public {
        EpochFile memory file = posted();
        uint32[] memory indices = new uint32[](101);
        vm.expectPartialRevert(IDisputes.BadIndices.selector);
        disputes.demand(file.header, IDisputes.DisputeKind.Work, indices);
        vm.expectPartialRevert(IDisputes.BadIndices.selector);
        disputes.demand(file.header, IDisputes.DisputeKind.Work, new uint32[](0));
        // A leaf asked for twice could be answered once only.
        indices = two();
        indices[1] = 0;
        vm.expectPartialRevert(IDisputes.BadIndices.selector);
        disputes.demand(file.header, IDisputes.DisputeKind.Work, indices);
        indices[1] = 4;
        vm.expectPartialRevert(IDisputes.BadIndices.selector);
        disputes.demand(file.header, IDisputes.DisputeKind.Work, indices);
        indices[1] = 3;
        vm.expectPartialRevert(IDisputes.BadIndices.selector);
        disputes.demand(file.header, IDisputes.DisputeKind.Accounts, indices);
        vm.expectPartialRevert(IDisputes.BadIndices.selector);
        disputes.demand(file.header, IDisputes.DisputeKind.Escalation, indices);
    }

    function test_AnsweredDemandsStopPuttingFinalityOff() public {
        uint256 rounds = 0;
        for (; rounds < 7; ++rounds) {
            vm.warp(epoch().finalAt - 1);
            uint32[] memory indices = two();
            EpochFile memory file = posted();
            vm.prank(treasury);
            (bool accepted,) = address(disputes).call(
                abi.encodeCall(disputes.demand, (file.header, IDisputes.DisputeKind.Work, indices))
            );
            // Without the bond nothing is accepted; with it, only so often.
            check(!accepted, "no bond, no demand");
            vm.prank(stranger);
            (accepted,) = address(disputes).call(
                abi.encodeCall(disputes.demand, (file.header, IDisputes.DisputeKind.Accounts, chosen(rounds)))
            );
            if (!accepted) break;
            later(1);
            answerAccount(rounds);
        }
        check(rounds >= 1 && rounds <= 5, "bounded");
        later(1);
        ledger.advance(runId);
        same(run(runId).numFinal, 1, "final in the end");
    }

    /// @dev One of the seven choices of three accounts: other indices make it another dispute.
    function chosen(uint256 times) internal pure returns (uint32[] memory indices) {
        uint256 bits = 1 + times % 7;
        indices = new uint32[]((bits & 1) + ((bits >> 1) & 1) + (bits >> 2));
        uint256 count = 0;
        for (uint32 i = 0; i < 3; ++i) {
            if ((bits >> i) & 1 == 1) indices[count++] = i;
        }
    }

    function answerAccount(uint256 times) internal {
        EpochFile memory file = posted();
        bytes32 disputeId = keccak256(
            abi.encode(
                EpochFiles.headerHash(file.header),
                IDisputes.DisputeKind.Accounts,
                keccak256(abi.encode(chosen(times))),
                stranger
            )
        );
        uint32[] memory indices = chosen(times);
        uint256[] memory slots = new uint256[](indices.length);
        IRunLedger.AccountProof[] memory accounts = new IRunLedger.AccountProof[](indices.length);
        for (uint256 i = 0; i < indices.length; ++i) {
            (slots[i], accounts[i]) = (i, EpochFiles.open(file.accounts, indices[i]));
        }
        disputes.answerAccounts(disputeId, file.header, indices, slots, accounts);
    }

    function test_ADisputeAboutAVoidedEpochIsMootAndLeavesItsSuccessorAlone() public {
        EpochFile memory file = posted();
        bytes32 disputeId = ask(two());
        vm.prank(workers[0]);
        bytes32 other = disputes.demand(file.header, IDisputes.DisputeKind.Work, two());
        later(RESPONSE);
        disputes.expire(other);
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(verifiers[i]);
            registry.stake(STAKE);
        }
        file.header.generation = 1;
        post(file);
        vm.prank(workers[1]);
        disputes.demand(file.header, IDisputes.DisputeKind.Work, two());
        answer(disputeId, 0, 0, IDisputes.NotDisputable.selector);
        disputes.expire(disputeId);
        same(epoch().holds, 1, "the new demand holds on");
        same(registry.creditOf(stranger), STAKE / 50, "only the bond");
        check(disputes.disputeOf(disputeId).status == IDisputes.DisputeStatus.Moot, "moot");
    }

    // ------------------------------------------------------------ omissions

    function omit(uint64 nonce, uint64 receivedAt, uint256 left, bool isAlone, bytes4 refusal)
        internal
        returns (bytes32 disputeId)
    {
        EpochFile memory file = posted();
        IRunLedger.WorkLeaf memory skipped = leaf(runId, workers[0], nonce, 7, file.leaves[0].submittedAt);
        (IDisputes.Receipt memory receipt, bytes memory signature) = receiptFor(skipped, receivedAt, operator);
        IDisputes.WorkProof[] memory around = new IDisputes.WorkProof[](isAlone ? 1 : 2);
        around[0] = openWork(file, left);
        if (!isAlone) around[1] = openWork(file, left + 1);
        if (refusal != 0) vm.expectPartialRevert(refusal);
        vm.prank(workers[0]);
        return disputes.proveOmission(
            file.header, receipt, signature, around, new IRunLedger.AccountProof[](0)
        );
    }

    function test_SkippedWorkIsShownAndTheOperatorPays() public {
        bytes32 disputeId = omit(5, clock(), 0, false, 0);
        later(RESPONSE);
        disputes.expire(disputeId);
        same(run(runId).numPosted, 0, "void");
        same(registry.stakeOf(verifiers[0]), STAKE, "verifiers could not know");
        same(registry.stakeOf(operator), 0, "the operator did");
        check(registry.creditOf(workers[0]) > STAKE / 4, "bond and quarter");
    }

    function test_OnlyWorkThatWasReceivedInTimeAndPassedOverCounts() public {
        omit(3, clock(), 0, true, 0);
        omit(7, clock(), 1, false, IDisputes.NotYetDue.selector);
        omit(5, clock() + 1, 0, false, IDisputes.NoFault.selector);
        omit(4, clock(), 0, false, IDisputes.BadWitness.selector);
        omit(5, clock(), 1, false, IDisputes.BadWitness.selector);
        omit(0, clock(), 0, true, IDisputes.NoFault.selector);
    }

    function test_AReceiptMustBeTheOperators() public {
        EpochFile memory file = posted();
        IRunLedger.WorkLeaf memory skipped = leaf(runId, workers[0], 5, 7, clock());
        (IDisputes.Receipt memory receipt, bytes memory signature) =
            receiptFor(skipped, clock(), stranger);
        IDisputes.WorkProof[] memory around = new IDisputes.WorkProof[](2);
        (around[0], around[1]) = (openWork(file, 0), openWork(file, 1));
        vm.prank(workers[0]);
        vm.expectPartialRevert(IDisputes.NotOperatorsKey.selector);
        disputes.proveOmission(file.header, receipt, signature, around, new IRunLedger.AccountProof[](0));
    }

    function test_AnAccusationAnswersAnOmission() public {
        bytes32 disputeId = omit(5, clock(), 0, false, 0);
        vm.prank(verifiers[2]);
        vm.expectPartialRevert(IDisputes.NotAccused.selector);
        answerOmission(disputeId);
        accuse(report(runId, workers[0], "work", 1), 3);
        vm.prank(verifiers[2]);
        answerOmission(disputeId);
        same(epoch().holds, 0, "released");
        check(registry.creditOf(verifiers[2]) > 0, "a quarter of the bond");
        later(WINDOW);
        ledger.advance(runId);
        same(run(runId).numFinal, 1, "final");
    }

    function test_AQuorumsVerdictsAnswerAnOmission() public {
        bytes32 disputeId = omit(5, clock(), 0, false, 0);
        IRunLedger.WorkLeaf memory skipped = leaf(runId, workers[0], 5, 7, posted().leaves[0].submittedAt);
        (IDisputes.Receipt memory receipt,) = receiptFor(skipped, clock(), operator);
        bytes32 hash = hashOf(receipt.work);
        IDisputes.Condemnation[] memory verdicts = condemned(receipt.work, 2);
        IDisputes.Condemnation[] memory few = condemned(receipt.work, 1);
        vm.expectPartialRevert(IRunLedger.QuorumTooSmall.selector);
        disputes.answerOmission(disputeId, runId, hash, few);
        // About other work than is asked about they say nothing.
        receipt.work.nonce = 3;
        bytes32 other = hashOf(receipt.work);
        few = condemned(receipt.work, 2);
        vm.expectPartialRevert(IDisputes.BadWitness.selector);
        disputes.answerOmission(disputeId, runId, other, few);
        vm.expectPartialRevert(IRunLedger.WrongSigner.selector);
        disputes.answerOmission(disputeId, runId, hash, few);
        disputes.answerOmission(disputeId, runId, hash, verdicts);
        same(epoch().holds, 0, "released");
        same(registry.stakeOf(operator), STAKE, "the operator did nothing wrong");
    }

    function test_AnAcquittalDoesNotMakeAnOmissionOfWorkLeftOutInGoodFaith() public {
        bytes32 slashId = accuse(report(runId, workers[0], "work", 1), 3);
        vm.prank(workers[0]);
        disputes.appealSlash(slashId, "");
        vm.prank(arbiter);
        disputes.resolveAppeal(slashId, false);
        answerOmission(omit(5, clock(), 0, false, 0));
        same(epoch().holds, 0, "released");
    }

    function test_AnOmissionDoesNotSpareItsSignersAnyOtherProof() public {
        EpochFile memory file = posted();
        openEpoch(runId);
        EpochFile memory next = write(runId, file.accounts, new IRunLedger.WorkLeaf[](0));
        post(next.header, 5);
        bytes32 disputeId = omit(5, clock(), 0, false, 0);
        later(RESPONSE);
        disputes.expire(disputeId);
        same(run(runId).numPosted, 0, "both void");
        (IRunLedger.Posting posting, uint64 signers) =
            ledger.postingOf(runId, 1, EpochFiles.headerHash(next.header));
        check(posting == IRunLedger.Posting.Retracted, "still answered for");
        same(signers, 5, "by who signed it");
    }

    function test_AnOmissionWaitsForDemandsAndNotForOmissions() public {
        bytes32 first = omit(5, clock(), 0, false, 0);
        bytes32 second = omit(3, clock(), 0, true, 0);
        bytes32 demanded = ask(two());
        later(RESPONSE);
        vm.expectPartialRevert(IRunLedger.EpochDisputed.selector);
        disputes.expire(first);
        disputes.expire(demanded);
        disputes.expire(first);
        same(run(runId).numPosted, 0, "void");
        disputes.expire(second);
        same(registry.bonds(), 0, "every bond is back or spent");
    }

    function test_TwoOmissionsDoNotWaitForOneAnother() public {
        bytes32 first = omit(5, clock(), 0, false, 0);
        bytes32 second = omit(3, clock(), 0, true, 0);
        later(RESPONSE);
        disputes.expire(first);
        disputes.expire(second);
        same(registry.bonds(), 0, "both bonds are back");
        same(registry.stakeOf(operator), 0, "the operator pays once");
        same(registry.stakeOf(verifiers[0]), STAKE, "verifiers do not");
    }

    function test_NothingIsRetractedInFrontOfADispute() public {
        bytes32 disputeId = ask(two());
        bytes32 hash = keccak256(
            abi.encode(RETRACT, runId, uint32(0), uint64(0), EpochFiles.headerHash(posted().header))
        );
        bytes[] memory signatures = quorum(runId, hash, 3);
        vm.expectPartialRevert(IRunLedger.EpochDisputed.selector);
        ledger.retractEpoch(runId, 0, 3, signatures);
        answer(disputeId, 0, 0, 0);
        answer(disputeId, 1, 3, 0);
        ledger.retractEpoch(runId, 0, 3, signatures);
        same(run(runId).numPosted, 0, "taken back");
    }

    // ------------------------------------------------------------ escalations

    function escalated() internal returns (bytes32 disputeId) {
        EpochFile memory file = posted();
        vm.prank(stranger);
        disputeId = disputes.escalate(file.header, "reason");
        same(registry.bonds(), STAKE, "a whole stake");
    }

    function test_AnArbiterVoidsAnEscalatedEpoch() public {
        bytes32 disputeId = escalated();
        vm.expectRevert();
        disputes.rule(disputeId, true);
        vm.prank(arbiter);
        disputes.rule(disputeId, true);
        same(run(runId).numPosted, 0, "void");
        same(registry.creditOf(stranger), STAKE + STAKE / 2, "bond and two quarters");
    }

    function test_AnArbiterLetsItStandAndNobodyButTheTreasuryGains() public {
        bytes32 disputeId = escalated();
        vm.prank(arbiter);
        disputes.rule(disputeId, false);
        same(registry.creditOf(treasury), STAKE, "all of the bond");
        later(WINDOW);
        ledger.advance(runId);
        same(run(runId).numFinal, 1, "final");
    }

    function test_AnArbitersSilenceLetsItStand() public {
        bytes32 disputeId = escalated();
        later(RULING - 1);
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        disputes.expire(disputeId);
        later(1);
        vm.prank(arbiter);
        vm.expectPartialRevert(IDisputes.TooLate.selector);
        disputes.rule(disputeId, true);
        disputes.expire(disputeId);
        same(registry.creditOf(stranger), STAKE, "the bond returns");
        ledger.advance(runId);
        same(run(runId).numFinal, 1, "final");
        EpochFile memory file = posted();
        vm.prank(stranger);
        vm.expectPartialRevert(IDisputes.NotDisputable.selector);
        disputes.escalate(file.header, "again");
    }

    // ------------------------------------------------------------ slashing

    function test_ASilentWorkerLosesItsStakeAfterTheWindow() public {
        bytes32 slashId = accuse(report(runId, workers[0], "work", STAKE), 3);
        same(registry.accountOf(workers[0]).locked, STAKE, "held at once");
        later(APPEAL - 1);
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        disputes.executeSlash(slashId);
        later(1);
        vm.prank(workers[0]);
        vm.expectPartialRevert(IDisputes.TooLate.selector);
        disputes.appealSlash(slashId, "");
        vm.prank(stranger);
        disputes.executeSlash(slashId);
        same(registry.stakeOf(workers[0]), 0, "taken");
        same(registry.creditOf(treasury), STAKE, "by the treasury");
        same(registry.creditOf(stranger), 0, "and nobody else");
    }

    function test_AWrongReportIsAppealedAndReversed() public {
        bytes32 slashId = accuse(report(runId, workers[0], "work", STAKE), 3);
        vm.prank(stranger);
        vm.expectPartialRevert(IDisputes.NotAccused.selector);
        disputes.appealSlash(slashId, "");
        vm.prank(workers[0]);
        disputes.appealSlash(slashId, "");
        later(APPEAL);
        vm.expectPartialRevert(IDisputes.WrongStatus.selector);
        disputes.executeSlash(slashId);
        vm.expectRevert();
        disputes.resolveAppeal(slashId, true);
        vm.prank(arbiter);
        disputes.resolveAppeal(slashId, false);
        same(registry.accountOf(workers[0]).locked, 0, "free");
        same(disputes.atRiskOf(runId, workers[0]), 0, "cleared");
    }

    function test_AnArbitersSilenceAcquits() public {
        bytes32 slashId = accuse(report(runId, workers[0], "work", STAKE), 3);
        vm.prank(workers[0]);
        disputes.appealSlash(slashId, "");
        later(RULING - 1);
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        disputes.expireAppeal(slashId);
        later(1);
        vm.prank(arbiter);
        vm.expectPartialRevert(IDisputes.TooLate.selector);
        disputes.resolveAppeal(slashId, true);
        disputes.expireAppeal(slashId);
        same(registry.stakeOf(workers[0]), STAKE, "kept");
        same(registry.accountOf(workers[0]).locked, 0, "free");
    }

    function test_ReportsAreBoundedInAmountTimeAndPeople() public {
        // However much more it has staked.
        vm.prank(workers[0]);
        registry.stake(5 * STAKE);
        reported(report(runId, stranger, "work", 1), 3, IDisputes.NotJoined.selector);
        reported(report(runId, workers[0], "work", 0), 3, IDisputes.ZeroAmount.selector);
        reported(report(runId, workers[0], "work", STAKE + 1), 3, IDisputes.SlashTooLarge.selector);
        reported(report(runId, workers[0], "work", 1), 1, IRunLedger.QuorumTooSmall.selector);
        IDisputes.FraudReport memory value = report(runId, workers[0], "work", 1);
        value.reportedAt = clock() + 1;
        reported(value, 3, IDisputes.BadReportTime.selector);
        value.reportedAt = clock() - UNBOND - 1;
        reported(value, 3, IDisputes.BadReportTime.selector);
        accuse(report(runId, workers[0], "work", STAKE - 1), 3);
        reported(report(runId, workers[0], "work", 1), 3, IDisputes.AlreadyReported.selector);
        reported(report(runId, workers[0], "more", 2), 3, IDisputes.SlashTooLarge.selector);
    }

    function reported(IDisputes.FraudReport memory value, uint256 bitmap, bytes4 refusal) internal {
        bytes[] memory signatures = quorum(runId, keccak256(abi.encode(REPORT, value)), bitmap);
        vm.expectPartialRevert(refusal);
        disputes.proposeSlash(value, bitmap, signatures);
    }

    function test_UnbondingIsNoWayOut() public {
        vm.prank(workers[0]);
        registry.unbond(STAKE);
        later(UNBOND);
        bytes32 slashId = accuse(report(runId, workers[0], "work", STAKE - 1), 3);
        vm.prank(workers[0]);
        registry.withdrawStake();
        same(registry.accountOf(workers[0]).unbonding, STAKE - 1, "what is held stays");
        vm.prank(workers[0]);
        vm.expectPartialRevert(IStakeRegistry.StakeLocked.selector);
        registry.withdrawStake();
        later(APPEAL);
        disputes.executeSlash(slashId);
        same(registry.creditOf(treasury), STAKE - 1, "taken");
    }
}

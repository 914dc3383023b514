// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {FeeToken} from "../test/HostileTokens.sol";
import {Account, EpochFile, EpochFiles} from "./EpochFiles.sol";
import {World} from "./World.sol";

/// @title What an epoch must say to be posted, and what it pays
contract EpochsTest is World {
    uint256 internal runId;

    function setUp() public {
        build();
        runId = create(params(), BUDGET);
        openEpoch(runId);
    }

    function file(uint64 tokens) internal view returns (EpochFile memory) {
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](2);
        leaves[0] = leaf(runId, workers[0], 1, tokens, clock());
        leaves[1] = leaf(runId, workers[1], 1, tokens, clock());
        return write(runId, new Account[](0), leaves);
    }

    function refused(IRunLedger.EpochHeader memory header, uint256 bitmap, bytes4 why) internal {
        bytes[] memory signatures = quorum(runId, EpochFiles.headerHash(header), bitmap);
        vm.expectPartialRevert(why);
        ledger.postEpoch(header, SECRET, bitmap, signatures, "");
    }

    // ------------------------------------------------------------ headers

    function test_HeadersThatCannotFollowAreRefused() public {
        IRunLedger.EpochHeader memory header = file(10).header;
        header.epoch = 1;
        refused(header, 3, IRunLedger.WrongEpoch.selector);
        header = file(10).header;
        header.generation = 1;
        refused(header, 3, IRunLedger.WrongGeneration.selector);
        header = file(10).header;
        header.prevAccountRoot = "root";
        refused(header, 3, IRunLedger.WrongPreviousRoot.selector);
        header = file(10).header;
        header.accountCount = 3;
        refused(header, 3, IRunLedger.InconsistentCounts.selector);
        header = write(runId, new Account[](0), new IRunLedger.WorkLeaf[](0)).header;
        header.total = 1;
        refused(header, 3, IRunLedger.InconsistentCounts.selector);
        header.total = 0;
        header.tokens = 1;
        refused(header, 3, IRunLedger.InconsistentCounts.selector);
        header.tokens = 0;
        header.gflops = 1;
        refused(header, 3, IRunLedger.InconsistentCounts.selector);
        header.gflops = 0;
        header.accountRoot = "root";
        refused(header, 3, IRunLedger.InconsistentCounts.selector);
        header = file(10).header;
        header.total = uint128(BUDGET / RATE) + 1;
        refused(header, 3, IRunLedger.BudgetExceeded.selector);
        header.total = uint128(BUDGET / RATE);
        post(header, 3);
    }

    function test_ASecretThatWasNotCommittedIsRefused() public {
        IRunLedger.EpochHeader memory header = file(10).header;
        bytes[] memory signatures = quorum(runId, EpochFiles.headerHash(header), 3);
        vm.expectPartialRevert(IRunLedger.WrongSecret.selector);
        ledger.postEpoch(header, "other", 3, signatures, "");
    }

    function test_OnlyOpenedEpochsArePosted() public {
        post(file(10));
        IRunLedger.EpochHeader memory header = file(10).header;
        header.prevAccountRoot = ledger.epochOf(runId, 0).accountRoot;
        refused(header, 3, IRunLedger.EpochNotOpen.selector);
    }

    function test_EightEpochsMayBePendingAndEightOpen() public {
        for (uint256 i = 0; i < 7; ++i) openEpoch(runId);
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.TooManyOpenEpochs.selector);
        ledger.openEpoch(runId, "secret");
        for (uint256 i = 0; i < 8; ++i) {
            post(write(runId, new Account[](0), new IRunLedger.WorkLeaf[](0)));
        }
        openEpoch(runId);
        IRunLedger.EpochHeader memory header =
            write(runId, new Account[](0), new IRunLedger.WorkLeaf[](0)).header;
        refused(header, 3, IRunLedger.TooManyPendingEpochs.selector);
        later(WINDOW);
        post(header, 3);
        same(run(runId).numFinal, 8, "posting makes the earlier ones final");
    }

    function test_OnlyTheOperatorOpens() public {
        vm.prank(stranger);
        vm.expectPartialRevert(IRunLedger.NotOperator.selector);
        ledger.openEpoch(runId, "secret");
    }

    // ------------------------------------------------------------ quorums

    function test_AQuorumIsOfPresentStakedVerifiers() public {
        IRunLedger.EpochHeader memory header = file(10).header;
        bytes32 hash = EpochFiles.headerHash(header);
        refused(header, 1, IRunLedger.QuorumTooSmall.selector);
        bytes[] memory signatures = quorum(runId, hash, 3);
        vm.expectPartialRevert(IRunLedger.WrongSigner.selector);
        ledger.postEpoch(header, SECRET, 5, signatures, "");
        vm.expectPartialRevert(IRunLedger.NoSuchVerifier.selector);
        ledger.postEpoch(header, SECRET, 9, signatures, "");
        vm.expectPartialRevert(IRunLedger.NoSuchVerifier.selector);
        ledger.postEpoch(header, SECRET, 1 << 255 | 1, signatures, "");
        vm.expectPartialRevert(IRunLedger.SignatureCountMismatch.selector);
        ledger.postEpoch(header, SECRET, 7, signatures, "");
        vm.expectPartialRevert(IRunLedger.SignatureCountMismatch.selector);
        ledger.postEpoch(header, SECRET, 1, signatures, "");
        vm.prank(verifiers[0]);
        registry.unbond(1);
        refused(header, 3, IRunLedger.StakeTooLow.selector);
        post(header, 6);
    }

    // ------------------------------------------------------------ claims

    function test_AClaimPaysOnceAndOnlyWhatIsFinal() public {
        EpochFile memory posted = file(10);
        post(posted);
        later(WINDOW - 1);
        vm.expectPartialRevert(IRunLedger.EpochNotFinal.selector);
        claim(posted, 0);
        later(1);
        uint256 before = token.balanceOf(workers[0]);
        vm.prank(stranger);
        claim(posted, 0);
        same(token.balanceOf(workers[0]) - before, 10 * RATE, "paid, whoever asks");
        vm.expectPartialRevert(IRunLedger.NothingToClaim.selector);
        claim(posted, 0);
        posted.accounts[1].earned += 1;
        vm.expectPartialRevert(IRunLedger.BadProof.selector);
        claim(posted, 1);
    }

    function test_ALaterClaimPaysTheDifference() public {
        EpochFile memory first = file(10);
        post(first);
        later(WINDOW);
        claim(first, 0);
        openEpoch(runId);
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](1);
        leaves[0] = leaf(runId, workers[0], 2, 5, clock());
        EpochFile memory second = write(runId, first.accounts, leaves);
        post(second);
        later(WINDOW);
        uint256 before = token.balanceOf(workers[0]);
        claim(second, 0);
        same(token.balanceOf(workers[0]) - before, 5 * RATE, "the difference");
        same(ledger.claimedOf(runId, workers[0]), 15 * RATE, "in all");
    }

    function test_MoneyGoesToThePayoutAddress() public {
        vm.prank(workers[0]);
        registry.setPayout(treasury);
        EpochFile memory posted = file(10);
        post(posted);
        later(WINDOW);
        claim(posted, 0);
        same(token.balanceOf(treasury), 10 * RATE, "paid out");
    }

    /// @notice Accounts that promise more than the epoch committed are paid up to it, and out of nobody else's money.
    function test_ALieDividesItsOwnTotalAndReachesNoFurther() public {
        create(params(), BUDGET);
        EpochFile memory posted = file(10);
        posted.accounts[0].earned = 1000;
        EpochFiles.plant(posted);
        post(posted);
        later(WINDOW);
        vm.expectPartialRevert(IRunLedger.ClaimExceedsFinal.selector);
        claim(posted, 0);
        claim(posted, 1);
        same(run(runId).claimed, 10 * RATE, "the honest part");
    }

    // ------------------------------------------------------------ who may take back

    function test_OnlyDisputesVoidsAndHolds() public {
        post(file(10));
        vm.expectPartialRevert(IRunLedger.NotDisputes.selector);
        ledger.voidEpoch(runId, 0, false);
        vm.expectPartialRevert(IRunLedger.NotDisputes.selector);
        ledger.holdEpoch(runId, 0);
        vm.expectPartialRevert(IRunLedger.NotDisputes.selector);
        ledger.releaseEpoch(runId, 0, false);
        vm.expectPartialRevert(IRunLedger.NotDisputes.selector);
        ledger.clearRetracted(runId, "hash");
        later(WINDOW);
        ledger.advance(runId);
        vm.prank(address(disputes));
        vm.expectPartialRevert(IRunLedger.EpochNotPending.selector);
        ledger.voidEpoch(runId, 0, false);
    }

    function test_AFinalEpochIsNotRetracted() public {
        EpochFile memory posted = file(10);
        post(posted);
        later(WINDOW);
        bytes32 hash =
            keccak256(abi.encode(RETRACT, runId, 0, 0, EpochFiles.headerHash(posted.header)));
        bytes[] memory signatures = quorum(runId, hash, 3);
        vm.expectPartialRevert(IRunLedger.EpochNotPending.selector);
        ledger.retractEpoch(runId, 0, 3, signatures);
    }

    function test_ARetractionNeedsAQuorum() public {
        EpochFile memory posted = file(10);
        post(posted);
        bytes32 hash =
            keccak256(abi.encode(RETRACT, runId, 0, 0, EpochFiles.headerHash(posted.header)));
        bytes[] memory signatures = quorum(runId, hash, 1);
        vm.expectPartialRevert(IRunLedger.QuorumTooSmall.selector);
        ledger.retractEpoch(runId, 0, 1, signatures);
    }

    // ------------------------------------------------------------ money coming in

    function test_ATokenThatDeliversLessThanAskedIsRefused() public {
        FeeToken fee = new FeeToken();
        IRunLedger.RunParams memory p = params();
        p.token = address(fee);
        fee.mint(operator, BUDGET);
        vm.prank(operator);
        fee.approve(address(ledger), BUDGET);
        vm.prank(operator);
        vm.expectPartialRevert(IRunLedger.TransferMismatch.selector);
        ledger.createRun(p, BUDGET, "");
    }

    // ------------------------------------------------------------ joining

    function test_JoiningTakesAStakeAndHappensOnce() public {
        vm.prank(stranger);
        vm.expectPartialRevert(IRunLedger.NotRegistered.selector);
        ledger.joinRun(runId, "");
        vm.prank(workers[0]);
        registry.unbond(1);
        vm.prank(workers[0]);
        vm.expectPartialRevert(IRunLedger.StakeTooLow.selector);
        ledger.joinRun(runId, "");
        vm.prank(workers[1]);
        ledger.joinRun(runId, "");
        vm.prank(workers[1]);
        vm.expectPartialRevert(IRunLedger.AlreadyJoined.selector);
        ledger.joinRun(runId, "");
    }
}

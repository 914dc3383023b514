// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {Account, EpochFile, EpochFiles} from "./EpochFiles.sol";
import {Lie, Prover} from "./Prover.sol";

/// @title Every lie in an epoch can be proven, and no truth
contract ProofsTest is Prover {
    uint256 internal runId;
    bytes internal first;

    /// @dev One epoch is final before the one in question, so that there are accounts to carry on.
    function setUp() public {
        build();
        runId = create(params(), BUDGET);
        openEpoch(runId);
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](3);
        leaves[0] = leaf(runId, workers[0], 5, 10, clock());
        leaves[1] = leaf(runId, workers[2], 3, 20, clock());
        leaves[2] = leaf(runId, workers[2], 7, 30, clock());
        EpochFile memory file = write(runId, new Account[](0), leaves);
        post(file);
        first = abi.encode(file);
        later(WINDOW);
        ledger.advance(runId);
        openEpoch(runId);
        later(1);
    }

    function before() internal view returns (EpochFile memory) {
        return abi.decode(first, (EpochFile));
    }

    /// @notice An honest second epoch of up to six works by up to three workers, all drawn from the seed.
    function drawn(uint256 seed) internal view returns (EpochFile memory) {
        uint256 count = seed % 7;
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](count);
        for (uint64 i = 0; i < count; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            leaves[i] = leaf(runId, workers[seed % 3], 10 + i, uint64((seed >> 8) % 500), clock() - 1);
        }
        return write(runId, before().accounts, leaves);
    }

    /// @notice All three workers, twice each but the first.
    function rich() internal view returns (EpochFile memory) {
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](5);
        for (uint64 i = 0; i < 5; ++i) leaves[i] = leaf(runId, workers[(i + 1) / 2], 10 + i, 100 + i, clock() - 1);
        return write(runId, before().accounts, leaves);
    }

    // ------------------------------------------------------------ lies

    function test_EveryLieIsProvenWhereverItIsTold() public {
        uint256 start = vm.snapshotState();
        for (uint8 lie = 1; lie < NUM_LIES; ++lie) {
            uint256 told = 0;
            for (uint256 i = 0; i < 5; ++i) {
                if (tellAndProve(rich(), Lie(lie), i, 1 + uint64(i) * 7)) ++told;
                vm.revertToState(start);
            }
            check(told > 0, string.concat("told ", vm.toString(lie)));
        }
    }

    function testFuzz_EveryLieIsProven(uint256 seed, uint8 lie, uint256 i, uint64 by) public {
        lie = uint8(bound(lie, 1, NUM_LIES - 1));
        // Beyond it, 64 bits overflow in Solidity's own arithmetic, and so in this test's.
        by = uint64(bound(by, 1, type(uint64).max / 8));
        tellAndProve(drawn(seed), Lie(lie), i % 64, by);
    }

    /// @notice Tell a lie, see the chain believe it, prove it, and see the epoch void and its signers poorer. False
    ///         where it could not be told.
    function tellAndProve(EpochFile memory file, Lie lie, uint256 i, uint64 by) internal returns (bool) {
        EpochFile memory honest = abi.decode(abi.encode(file), (EpochFile));
        if (lie == Lie.Unowed) {
            vm.prank(operator);
            ledger.haltRun(runId, "");
            later(1);
        }
        if (!tamper(file, lie, i, by)) return false;
        if (EpochFiles.headerHash(file.header) == EpochFiles.headerHash(honest.header)) return false;
        // More than the budget is refused at once.
        if (file.header.total > BUDGET / RATE / 2) return false;
        post(file);
        check(run(runId).numPosted == 2, "believed");
        check(run(runId).committed == 600 + uint256(file.header.total) * RATE, "the lie became money");
        prove(file, honest, lie, i);
        IRunLedger.Run memory value = run(runId);
        same(value.numPosted, 1, "void");
        same(value.generation, 1, "generation");
        same(value.committed, 600, "the money is back");
        same(registry.stakeOf(verifiers[0]) + registry.stakeOf(verifiers[1]), 0, "signers pay");
        same(registry.stakeOf(verifiers[2]), STAKE, "others do not");
        return true;
    }

    function test_AFirstEpochThatStatesNoAccountIsProven() public {
        runId = create(params(), BUDGET);
        openEpoch(runId);
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](1);
        leaves[0] = leaf(runId, workers[0], 1, 5, clock());
        EpochFile memory file = write(runId, new Account[](0), leaves);
        check(tamper(file, Lie.AccountCount, 0, 1), "told");
        same(file.header.accountCount, 0, "of the only account");
        post(file);
        prove(file, file, Lie.AccountCount, 0);
        same(run(runId).numPosted, 0, "void");
    }

    /// @notice ceil(2 * parameters * tokens / 1e9), for every size of model: a gflop more or less is provable.
    function testFuzz_GflopsAreTwiceParametersTimesTokensRoundedUp(uint48 parameters, uint32 tokens) public {
        IRunLedger.RunParams memory p = params();
        p.numParameters = uint48(bound(parameters, 1, type(uint48).max));
        runId = create(p, BUDGET);
        openEpoch(runId);
        // At most half of the budget, and no more gflops than 64 bits hold.
        uint64 done = uint64(bound(tokens, 0, BUDGET / RATE / 2));
        uint256 exact = 2 * uint256(p.numParameters) * done;
        uint64 right = uint64(exact / 1e9 + (exact % 1e9 == 0 ? 0 : 1));
        uint256 start = vm.snapshotState();
        stated(done, right, true);
        vm.revertToState(start);
        stated(done, right + 1, false);
        vm.revertToState(start);
        if (right > 0) stated(done, right - 1, false);
    }

    function stated(uint64 tokens, uint64 gflopsStated, bool isTrue) internal {
        IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](1);
        leaves[0] = leaf(runId, workers[0], 1, tokens, clock());
        leaves[0].gflops = gflopsStated;
        EpochFile memory file = write(runId, new Account[](0), leaves);
        post(file);
        if (isTrue) vm.expectPartialRevert(bytes4(keccak256("NoFault()")));
        disputes.proveBadLeaf(file.header, openWork(file, 0), "");
        same(run(runId).numPosted, isTrue ? 1 : 0, "stands if it is true");
    }

    // ------------------------------------------------------------ truths

    function testFuzz_NoTruthIsProvenFalse(uint256 seed) public {
        EpochFile memory file = drawn(seed);
        post(file);
        accuse(file);
        same(run(runId).numPosted, 2, "stands");
        later(WINDOW);
        ledger.advance(runId);
        same(run(runId).numFinal, 2, "final");
    }

    function test_NoTruthIsProvenFalseInAnEmptyEpoch() public {
        EpochFile memory file = write(runId, before().accounts, new IRunLedger.WorkLeaf[](0));
        post(file);
        accuse(file);
        same(run(runId).numPosted, 2, "stands");
    }

    function test_NoTruthIsProvenFalseInAFirstEpoch() public {
        runId = create(params(), BUDGET);
        openEpoch(runId);
        for (uint256 count = 0; count < 3; ++count) {
            IRunLedger.WorkLeaf[] memory leaves = new IRunLedger.WorkLeaf[](count);
            for (uint64 i = 0; i < count; ++i) leaves[i] = leaf(runId, workers[i], 1 + i, 5, clock());
            EpochFile memory file = write(runId, new Account[](0), leaves);
            uint256 start = vm.snapshotState();
            post(file);
            accuse(file);
            same(run(runId).numPosted, 1, "stands");
            vm.revertToState(start);
        }
    }

    /// @notice Call every proof with every choice of leaves, accounts and witnesses that this epoch has.
    function accuse(EpochFile memory file) internal {
        EpochFile memory old = before();
        bytes memory empty;
        for (uint256 i = 0; i < file.leaves.length; ++i) {
            IDisputes.WorkProof memory work = openWork(file, i);
            refused(abi.encodeCall(disputes.proveBadLeaf, (file.header, work, empty)));
            refused(abi.encodeCall(disputes.proveBadLeaf, (file.header, work, file.signatures[i])));
            refused(abi.encodeCall(disputes.proveBadEdge, (file.header, work)));
            // The same leaf under another number that ends in the same bits.
            IDisputes.WorkProof memory echo = openWork(file, i);
            echo.index += 1 << echo.proof.length;
            refused(abi.encodeCall(disputes.proveDuplicate, (file.header, work, file.header, echo)));
            refused(abi.encodeCall(disputes.proveBadLeaf, (file.header, echo, file.signatures[i])));
            refused(abi.encodeCall(disputes.proveBadEdge, (file.header, echo)));
            refused(abi.encodeCall(disputes.proveBadPair, (file.header, work, echo)));
            for (uint256 j = 0; j < file.leaves.length; ++j) {
                IDisputes.WorkProof memory other = openWork(file, j);
                refused(abi.encodeCall(disputes.proveBadLeaf, (file.header, work, file.signatures[j])));
                refused(abi.encodeCall(disputes.proveBadPair, (file.header, work, other)));
                refused(abi.encodeCall(disputes.proveDuplicate, (file.header, work, file.header, other)));
            }
            for (uint256 j = 0; j < old.leaves.length; ++j) {
                IDisputes.WorkProof memory other = openWork(old, j);
                refused(abi.encodeCall(disputes.proveDuplicate, (file.header, work, old.header, other)));
                refused(abi.encodeCall(disputes.proveDuplicate, (old.header, other, file.header, work)));
            }
            for (uint256 j = 0; j < file.before.length; ++j) {
                IRunLedger.AccountProof memory account = EpochFiles.open(file.before, j);
                refused(abi.encodeCall(disputes.proveStaleNonce, (file.header, work, account)));
            }
        }
        for (uint256 i = 0; i < file.accounts.length; ++i) {
            for (uint256 j = 0; j < file.accounts.length; ++j) {
                IRunLedger.AccountProof memory left = EpochFiles.open(file.accounts, i);
                IRunLedger.AccountProof memory right = EpochFiles.open(file.accounts, j);
                refused(abi.encodeCall(disputes.proveAccountOrder, (file.header, left, right)));
            }
        }
        for (uint256 i = 0; i < 3; ++i) accuseAccount(file, workers[i]);
        accuseAccount(file, stranger);
        accuseAccount(file, address(0));
        accuseAccount(file, address(type(uint160).max));
    }

    /// @dev Every pair and single of each list as a witness, fitting or not.
    function accuseAccount(EpochFile memory file, address worker) internal {
        IDisputes.WorkProof[] memory work = workWitness(file, worker);
        IRunLedger.AccountProof[] memory then = accountWitness(file.before, worker);
        IRunLedger.AccountProof[] memory account = accountWitness(file.accounts, worker);
        refused(abi.encodeCall(disputes.proveBadAccount, (file.header, worker, then, work, account)));
        uint256 count = file.accounts.length;
        for (uint256 i = 0; i < count * count; ++i) {
            IRunLedger.AccountProof[] memory wrong = pair(file.accounts, i / count, i % count);
            refused(abi.encodeCall(disputes.proveBadAccount, (file.header, worker, then, work, wrong)));
        }
        count = file.before.length;
        for (uint256 i = 0; i < count * count; ++i) {
            IRunLedger.AccountProof[] memory wrong = pair(file.before, i / count, i % count);
            refused(abi.encodeCall(disputes.proveBadAccount, (file.header, worker, wrong, work, account)));
        }
        count = file.leaves.length;
        for (uint256 i = 0; i < count * count; ++i) {
            IDisputes.WorkProof[] memory wrong = new IDisputes.WorkProof[](i % count == i / count ? 1 : 2);
            wrong[0] = openWork(file, i / count);
            if (wrong.length == 2) wrong[1] = openWork(file, i % count);
            refused(abi.encodeCall(disputes.proveBadAccount, (file.header, worker, then, wrong, account)));
        }
        refused(abi.encodeCall(
                disputes.proveBadAccount,
                (file.header, worker, new IRunLedger.AccountProof[](0), new IDisputes.WorkProof[](0), account)
            ));
    }

    function pair(Account[] memory accounts, uint256 i, uint256 j)
        internal
        pure
        returns (IRunLedger.AccountProof[] memory witness)
    {
        witness = new IRunLedger.AccountProof[](i == j ? 1 : 2);
        witness[0] = EpochFiles.open(accounts, i);
        if (i != j) witness[1] = EpochFiles.open(accounts, j);
    }

    function refused(bytes memory proof) internal {
        (bool accepted,) = address(disputes).call(proof);
        check(!accepted, "a truth was proven false");
    }

    // ------------------------------------------------------------ who gains, and until when

    function test_TheProverGetsAQuarterAndTheTreasuryTheRest() public {
        EpochFile memory file = rich();
        tamper(file, Lie.Total, 0, 1);
        post(file);
        vm.prank(workers[0]);
        disputes.proveBadEdge(file.header, openWork(file, 4));
        same(registry.creditOf(workers[0]), STAKE / 2, "two signers' quarters");
        same(registry.creditOf(treasury), STAKE * 3 / 2, "the rest");
    }

    function test_AFinalEpochIsBeyondEveryProof() public {
        EpochFile memory file = rich();
        EpochFile memory honest = rich();
        tamper(file, Lie.Total, 0, 1);
        post(file);
        later(WINDOW);
        ledger.advance(runId);
        vm.expectPartialRevert(IDisputes.NotDisputable.selector);
        disputes.proveBadEdge(file.header, openWork(file, 4));
        check(EpochFiles.headerHash(file.header) != EpochFiles.headerHash(honest.header), "it did lie");
    }

    function test_ARetractedLieStillCostsItsSignersWithinTheWindowOnly() public {
        EpochFile memory file = rich();
        tamper(file, Lie.Total, 0, 1);
        post(file);
        retract(file.header, 3);
        same(run(runId).numPosted, 1, "taken back");
        uint256 start = vm.snapshotState();
        disputes.proveBadEdge(file.header, openWork(file, 4));
        same(registry.stakeOf(verifiers[0]), 0, "the signer pays");
        same(run(runId).generation, 1, "nothing more is void");
        vm.expectPartialRevert(IDisputes.NotDisputable.selector);
        disputes.proveBadEdge(file.header, openWork(file, 4));
        vm.revertToState(start);
        later(WINDOW);
        vm.expectPartialRevert(IDisputes.NotDisputable.selector);
        disputes.proveBadEdge(file.header, openWork(file, 4));
    }

    function test_AVoidedHeaderCannotBePostedAgain() public {
        EpochFile memory file = rich();
        tamper(file, Lie.Total, 0, 1);
        post(file);
        bytes[] memory signatures = quorum(runId, EpochFiles.headerHash(file.header), 3);
        disputes.proveBadEdge(file.header, openWork(file, 4));
        vm.prank(verifiers[0]);
        registry.stake(STAKE);
        vm.prank(verifiers[1]);
        registry.stake(STAKE);
        vm.expectRevert(abi.encodeWithSelector(IRunLedger.WrongGeneration.selector, 0, 1));
        ledger.postEpoch(file.header, SECRET, 3, signatures, "");
    }

    function test_FraudVoidsLaterEpochsWhoseSignersKeepTheirStake() public {
        EpochFile memory file = rich();
        tamper(file, Lie.Total, 0, 1);
        post(file);
        openEpoch(runId);
        EpochFile memory next = write(runId, file.accounts, new IRunLedger.WorkLeaf[](0));
        post(next.header, 5);
        disputes.proveBadEdge(file.header, openWork(file, 4));
        same(run(runId).numPosted, 1, "both void");
        same(registry.stakeOf(verifiers[2]), STAKE, "only the liars' own signers pay");
    }

    // ------------------------------------------------------------ hot keys

    function test_AKeyRevokedLaterStillSpeaksForItsWork() public {
        (address hot, bytes memory consent) = hotKey(workers[1]);
        vm.prank(workers[1]);
        registry.addSigner(hot, consent);
        EpochFile memory file = rich();
        uint64 then = clock() - 1;
        for (uint256 i = 0; i < 5; ++i) {
            if (file.leaves[i].worker != workers[1]) continue;
            file.signatures[i] = signed(hot, digestOf(EpochFiles.workHash(file.leaves[i])));
            file.leaves[i].signatureHash = keccak256(file.signatures[i]);
        }
        EpochFiles.plant(file);
        post(file);
        vm.prank(workers[1]);
        registry.revokeSigner(hot);
        later(REVOKE);
        check(registry.ownerOf(hot) == address(0), "revoked");
        check(registry.spokeFor(hot, workers[1], then), "and yet it spoke");
        accuse(file);
        same(run(runId).numPosted, 2, "stands");
    }

    function test_WorkSignedAfterARevocationIsFraud() public {
        (address hot, bytes memory consent) = hotKey(workers[1]);
        vm.prank(workers[1]);
        registry.addSigner(hot, consent);
        vm.prank(workers[1]);
        registry.revokeSigner(hot);
        later(REVOKE + 2);
        EpochFile memory file = rich();
        uint256 i = 0;
        while (file.leaves[i].worker != workers[1]) ++i;
        file.signatures[i] = signed(hot, digestOf(EpochFiles.workHash(file.leaves[i])));
        file.leaves[i].signatureHash = keccak256(file.signatures[i]);
        EpochFiles.plant(file);
        post(file);
        disputes.proveBadLeaf(file.header, openWork(file, i), file.signatures[i]);
        same(run(runId).numPosted, 1, "void");
    }

    function hotKey(address owner) internal returns (address hot, bytes memory consent) {
        hot = who("hot");
        consent = signed(hot, registry.consentDigest(owner, hot));
    }
}

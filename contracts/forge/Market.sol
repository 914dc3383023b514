// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {ReentrantToken} from "../test/HostileTokens.sol";
import {Account, EpochFile, EpochFiles} from "./EpochFiles.sol";
import {Lie, Prover} from "./Prover.sol";

/// @title A market in which anybody may do anything at any time, and verifiers lie as often as not
/// @notice What it keeps is who and which: people, disputes, slashes, and the epoch files as published. It keeps no
///         amount: the invariants read every amount from the chain.
contract Market is Prover {
    struct Demand {
        bytes32 headerHash;
        IDisputes.DisputeKind tree;
        uint32[] indices;
    }

    address[] public everybody;
    address[] internal spares;
    ReentrantToken internal hostile;
    bytes32[] internal disputeIds;
    bytes32[] internal slashIds;
    IDisputes.Work[] internal claimedWork;
    mapping(bytes32 disputeId => Demand) internal demands;
    mapping(bytes32 headerHash => bytes) internal files;
    mapping(bytes32 headerHash => bytes) internal honestFiles;
    mapping(bytes32 headerHash => Lie) public lieOf;
    mapping(bytes32 headerHash => uint256) internal placeOf;
    uint64 internal lastNonce;

    /// @notice The hash of each epoch's record when it was first seen final.
    mapping(uint256 runId => bytes32[]) internal finalRecords;
    bool public hasFinalChanged;
    bool public wasTruthProven;
    /// @notice A lie that could still be disputed and was refused.
    Lie public unproven;
    /// @notice How often each action went through; a market where nothing happens keeps every invariant.
    mapping(bytes4 action => uint256) public done;

    constructor() {
        build();
        spares = people("spare", 2);
        for (uint256 i = 0; i < 2; ++i) enlist(spares[i], STAKE);
        hostile = new ReentrantToken();
        vm.prank(operator);
        hostile.approve(address(ledger), type(uint256).max);
        for (uint256 i = 0; i < 3; ++i) {
            everybody.push(verifiers[i]);
            everybody.push(workers[i]);
            everybody.push(stewards[i]);
            if (i < 2) everybody.push(spares[i]);
        }
        everybody.push(operator);
        everybody.push(treasury);
        everybody.push(stranger);
        everybody.push(guardian);
        everybody.push(arbiter);
        // Who sends the proofs, and earns by them.
        everybody.push(address(this));
        IRunLedger.RunParams memory p = params();
        p.permitPeriod = 400;
        for (uint256 i = 0; i < 3; ++i) {
            p.token = i == 2 ? address(hostile) : address(token);
            p.computeCap = i == 1 ? 3000 : 0;
            join(create(p, 50_000));
        }
    }

    modifier observed() {
        _;
        ++done[msg.sig];
        observe();
    }

    /// @notice What anybody may do, weighted: most of the time something must be at stake.
    function actions() external pure returns (bytes4[] memory all) {
        bytes4[50] memory list = [
            this.open.selector,
            this.settle.selector,
            this.settle.selector,
            this.settle.selector,
            this.settle.selector,
            this.settle.selector,
            this.settle.selector,
            this.advance.selector,
            this.retractEpoch.selector,
            this.claimFor.selector,
            this.claimFor.selector,
            this.wait.selector,
            this.wait.selector,
            this.wait.selector,
            this.waitLong.selector,
            this.proveLie.selector,
            this.proveLie.selector,
            this.proveLie.selector,
            this.slander.selector,
            this.slander.selector,
            this.demandLeaves.selector,
            this.answer.selector,
            this.omit.selector,
            this.answerOmission.selector,
            this.claimOwed.selector,
            this.claimOwed.selector,
            this.answerOwed.selector,
            this.stopOverdue.selector,
            this.stopOverdue.selector,
            this.payOwed.selector,
            this.payOwed.selector,
            this.escalate.selector,
            this.rule.selector,
            this.expire.selector,
            this.expire.selector,
            this.propose.selector,
            this.judge.selector,
            this.stake.selector,
            this.unbond.selector,
            this.withdraw.selector,
            this.fund.selector,
            this.halt.selector,
            this.resume.selector,
            this.resume.selector,
            this.permit.selector,
            this.end.selector,
            this.launch.selector,
            this.replace.selector,
            this.pause.selector,
            this.aim.selector
        ];
        all = new bytes4[](list.length);
        for (uint256 i = 0; i < list.length; ++i) all[i] = list[i];
    }

    // ------------------------------------------------------------ choosing

    error NotNow();

    /// @dev A refusal of the market itself, where there is nothing to act on.
    function need(bool isPossible) internal pure {
        if (!isPossible) revert NotNow();
    }

    function anyone(uint256 seed) internal view returns (address) {
        return everybody[seed % everybody.length];
    }

    function anyRun(uint256 seed) internal view returns (uint256) {
        return 1 + seed % ledger.numRuns();
    }

    /// @notice The header hash of one of a run's posted epochs that are not final.
    function anyPending(uint256 seed) internal view returns (bytes32 headerHash, IRunLedger.EpochHeader memory) {
        uint256 runId = anyRun(seed);
        for (uint256 i = ledger.numRuns(); i > 0 && run(runId).numPosted == run(runId).numFinal; --i) {
            runId = anyRun(runId);
        }
        IRunLedger.Run memory value = run(runId);
        need(value.numPosted > value.numFinal);
        uint256 epoch = bound(seed >> 8, value.numFinal, value.numPosted - 1);
        headerHash = ledger.epochOf(runId, uint32(epoch)).headerHash;
        return (headerHash, abi.decode(files[headerHash], (EpochFile)).header);
    }

    function fileOf(uint256 runId, uint32 epoch) public view returns (EpochFile memory) {
        return abi.decode(files[ledger.epochOf(runId, epoch).headerHash], (EpochFile));
    }

    /// @notice Whether every epoch of the run before this one is honest.
    function isClean(uint256 runId, uint32 epoch) public view returns (bool) {
        for (uint32 i = 0; i < epoch; ++i) {
            if (lieOf[ledger.epochOf(runId, i).headerHash] != Lie.None) return false;
        }
        return true;
    }

    /// @notice A second for which work is owed, not long ago; zero where there is none.
    function owedSecond(uint256 runId) internal view returns (uint64) {
        for (uint64 back = 0; back < 200; back = back * 2 + 1) {
            if (ledger.isOwed(runId, clock() - back)) return clock() - back;
        }
        return 0;
    }

    function numDisputes() external view returns (uint256) {
        return disputeIds.length;
    }

    function disputeAt(uint256 i) external view returns (IDisputes.Dispute memory) {
        return disputes.disputeOf(disputeIds[i]);
    }

    function numSlashes() external view returns (uint256) {
        return slashIds.length;
    }

    function slashAt(uint256 i) external view returns (IDisputes.Slash memory) {
        return disputes.slashOf(slashIds[i]);
    }

    function numPeople() external view returns (uint256) {
        return everybody.length;
    }

    // ------------------------------------------------------------ epochs

    function open(uint256 seed) external observed {
        openEpoch(anyRun(seed));
    }

    /// @notice Settle what the seed draws, honestly or not, under whichever two or three verifiers.
    function settle(uint256 seed, uint256 lieSeed) external observed {
        uint256 runId = anyRun(seed);
        // Mostly one that goes on.
        for (uint256 i = 8; seed & 255 < 224 && i > 0; --i) {
            if (run(runId).status != IRunLedger.Status.Active) runId = anyRun(runId);
        }
        IRunLedger.Run memory value = run(runId);
        if (value.numOpened == value.numPosted) openEpoch(runId);
        uint256 bitmap = signers(runId, seed >> 8);
        Account[] memory before;
        if (value.numPosted > 0) before = fileOf(runId, value.numPosted - 1).accounts;
        EpochFile memory file = write(runId, before, works(runId, seed >> 16));
        if (value.numPosted > 0) {
            file.header.prevAccountRoot = ledger.epochOf(runId, value.numPosted - 1).accountRoot;
        }
        bytes memory honest = abi.encode(file);
        bytes32 truth = EpochFiles.headerHash(file.header);
        uint256 lie = bound(lieSeed, 0, 2 * NUM_LIES);
        if (lie >= NUM_LIES || !tamper(file, Lie(lie), seed >> 64, 1 + uint64(seed >> 72) % 99)) lie = 0;
        bytes32 headerHash = EpochFiles.headerHash(file.header);
        if (headerHash == truth) lie = 0;
        post(file.header, bitmap);
        files[headerHash] = abi.encode(file);
        honestFiles[headerHash] = honest;
        lieOf[headerHash] = Lie(lie);
        placeOf[headerHash] = seed >> 64;
    }

    function works(uint256 runId, uint256 seed) internal returns (IRunLedger.WorkLeaf[] memory leaves) {
        uint64 when = owedSecond(runId);
        leaves = new IRunLedger.WorkLeaf[](when == 0 ? 0 : seed % 5);
        for (uint256 i = 0; i < leaves.length; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            // Every second nonce stays free: an omission needs one.
            lastNonce += 2;
            leaves[i] = leaf(runId, workers[seed % 3], lastNonce, uint64(seed >> 8) % 300, when);
        }
    }

    /// @notice The run's present verifiers but one, or all, who stake again where a slash left them short.
    function signers(uint256 runId, uint256 seed) internal returns (uint256 bitmap) {
        (IRunLedger.Run memory value, address[] memory places,) = ledger.runOf(runId);
        for (uint256 i = 0; i < places.length; ++i) {
            if ((value.replaced >> i) & 1 == 1 || seed % 4 == i) continue;
            bitmap |= 1 << i;
            topUp(places[i], seed >> 8);
        }
    }

    function topUp(address person, uint256 seed) internal {
        uint256 have = registry.stakeOf(person);
        if (have >= STAKE || seed % 4 == 0) return;
        token.mint(person, STAKE - have);
        vm.prank(person);
        registry.stake(STAKE - have);
    }

    function advance(uint256 seed) external observed {
        ledger.advance(anyRun(seed));
    }

    function retractEpoch(uint256 seed) external observed {
        (, IRunLedger.EpochHeader memory header) = anyPending(seed);
        retract(header, signers(header.runId, seed >> 16));
    }

    /// @notice Claim from any epoch that has a file, honest or not.
    function claimFor(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        uint256 posted = run(runId).numPosted;
        need(posted > 0);
        // Mostly the newest final one.
        uint256 epoch = seed & 256 == 0 ? (seed >> 9) % posted : run(runId).numFinal;
        EpochFile memory file = fileOf(runId, uint32(epoch > 0 ? epoch - 1 : 0));
        need(file.accounts.length > 0);
        claim(file, (seed >> 16) % file.accounts.length);
    }

    function wait(uint256 seed) external observed {
        later(1 + seed % WINDOW);
    }

    function waitLong(uint256 seed) external observed {
        need(seed % 4 == 0);
        later(1 + (seed >> 8) % 700);
    }

    // ------------------------------------------------------------ proofs and disputes

    /// @notice Prove a lie. Refusing one that stands on honest epochs and is in time is a broken promise.
    function proveLie(uint256 seed) external observed {
        (bytes32 headerHash, IRunLedger.EpochHeader memory header) = anyPending(seed);
        Lie lie = lieOf[headerHash];
        need(lie != Lie.None);
        bool isDue = isClean(header.runId, header.epoch)
            && (!needsDemand(lie) || clock() < ledger.epochOf(header.runId, header.epoch).finalAt);
        try this.sendProof(headerHash) {}
        catch {
            if (isDue) unproven = lie;
        }
    }

    function sendProof(bytes32 headerHash) external {
        check(msg.sender == address(this), "own");
        EpochFile memory file = abi.decode(files[headerHash], (EpochFile));
        token.mint(stranger, STAKE);
        vm.prank(stranger);
        token.approve(address(registry), type(uint256).max);
        prove(file, abi.decode(honestFiles[headerHash], (EpochFile)), lieOf[headerHash], placeOf[headerHash]);
    }

    /// @notice Call a proof about an honest epoch on honest epochs; none may pass.
    function slander(uint256 seed) external observed {
        (bytes32 headerHash, IRunLedger.EpochHeader memory header) = anyPending(seed);
        need(lieOf[headerHash] == Lie.None && isClean(header.runId, header.epoch));
        EpochFile memory file = abi.decode(files[headerHash], (EpochFile));
        seed >>= 16;
        address worker = workers[seed % 3];
        bytes memory proof = abi.encodeCall(
            disputes.proveBadAccount,
            (
                header,
                worker,
                accountWitness(file.before, worker),
                workWitness(file, worker),
                accountWitness(file.accounts, worker)
            )
        );
        if (file.leaves.length > 0) {
            uint256 i = (seed >> 8) % file.leaves.length;
            if (seed % 4 == 1) {
                proof = abi.encodeCall(
                    disputes.proveBadLeaf, (header, openWork(file, i), file.signatures[i])
                );
            }
            if (seed % 4 == 2) proof = abi.encodeCall(disputes.proveBadEdge, (header, openWork(file, i)));
            if (seed % 4 == 3 && i > 0) {
                proof =
                    abi.encodeCall(disputes.proveBadPair, (header, openWork(file, i - 1), openWork(file, i)));
            }
        }
        (bool accepted,) = address(disputes).call(proof);
        if (accepted) wasTruthProven = true;
    }

    function demandLeaves(uint256 seed) external observed {
        (bytes32 headerHash, IRunLedger.EpochHeader memory header) = anyPending(seed);
        IDisputes.DisputeKind tree =
            seed & 1 == 0 ? IDisputes.DisputeKind.Work : IDisputes.DisputeKind.Accounts;
        uint32 count = seed & 1 == 0 ? header.workCount : header.accountCount;
        need(count > 0);
        // A run of neighbours, as far as there are any.
        uint32 first = uint32((seed >> 24) % count);
        uint256 asked = 1 + (seed >> 16) % 3;
        uint32[] memory indices = new uint32[](asked < count - first ? asked : count - first);
        for (uint32 i = 0; i < indices.length; ++i) indices[i] = first + i;
        vm.prank(anyone(seed >> 64));
        bytes32 disputeId = disputes.demand(header, tree, indices);
        disputeIds.push(disputeId);
        demands[disputeId] = Demand(headerHash, tree, indices);
    }

    function answer(uint256 seed) external observed {
        bytes32 disputeId = anyDispute(seed);
        Demand memory asked = demands[disputeId];
        need(asked.indices.length > 0);
        EpochFile memory file = abi.decode(files[asked.headerHash], (EpochFile));
        uint256[] memory slots = new uint256[](1);
        slots[0] = (seed >> 8) % asked.indices.length;
        uint256 index = asked.indices[slots[0]];
        vm.prank(anyone(seed >> 16));
        if (asked.tree == IDisputes.DisputeKind.Accounts) {
            IRunLedger.AccountProof[] memory accounts = new IRunLedger.AccountProof[](1);
            accounts[0] = EpochFiles.open(file.accounts, index);
            return disputes.answerAccounts(disputeId, file.header, asked.indices, slots, accounts);
        }
        IDisputes.WorkProof[] memory work = new IDisputes.WorkProof[](1);
        bytes[] memory signatures = new bytes[](1);
        (work[0], signatures[0]) = (openWork(file, index), file.signatures[index]);
        disputes.answerWork(disputeId, file.header, asked.indices, slots, work, signatures);
    }

    /// @notice Show a receipt for the free nonce before a paid one.
    function omit(uint256 seed) external observed {
        (bytes32 headerHash, IRunLedger.EpochHeader memory header) = anyPending(seed);
        EpochFile memory file = abi.decode(files[headerHash], (EpochFile));
        need(file.leaves.length > 0);
        IRunLedger.WorkLeaf memory paid = file.leaves[(seed >> 16) % file.leaves.length];
        IRunLedger.WorkLeaf memory skipped =
            leaf(header.runId, paid.worker, paid.nonce - 1, 7, paid.submittedAt);
        (IDisputes.Receipt memory receipt, bytes memory signature) =
            receiptFor(skipped, paid.submittedAt, operator);
        uint256 next = 0;
        while (!EpochFiles.ascend(skipped, file.leaves[next])) ++next;
        IDisputes.WorkProof[] memory around = new IDisputes.WorkProof[](next == 0 ? 1 : 2);
        if (next > 0) around[0] = openWork(file, next - 1);
        around[around.length - 1] = openWork(file, next);
        IRunLedger.AccountProof[] memory before = accountWitness(file.before, paid.worker);
        token.mint(paid.worker, STAKE);
        vm.prank(paid.worker);
        disputeIds.push(disputes.proveOmission(header, receipt, signature, around, before));
    }

    function answerOmission(uint256 seed) external observed {
        bytes32 disputeId = anyDispute(seed);
        vm.prank(anyone(seed >> 8));
        answerOmission(disputeId);
    }

    function escalate(uint256 seed) external observed {
        (, IRunLedger.EpochHeader memory header) = anyPending(seed);
        vm.prank(anyone(seed >> 16));
        disputeIds.push(disputes.escalate(header, bytes32(seed)));
    }

    function rule(uint256 seed) external observed {
        bytes32 disputeId = anyDispute(seed);
        vm.prank(arbiter);
        disputes.rule(disputeId, seed & 256 == 0);
    }

    function expire(uint256 seed) external observed {
        disputes.expire(anyDispute(seed));
    }

    function anyDispute(uint256 seed) internal view returns (bytes32) {
        need(disputeIds.length > 0);
        uint256 i = (seed & 255) % disputeIds.length;
        // Mostly one that is open.
        for (uint256 n = disputeIds.length; seed & 3 > 0 && n > 0; --n) {
            if (disputes.disputeOf(disputeIds[i]).status == IDisputes.DisputeStatus.Open) break;
            i = (i + 1) % disputeIds.length;
        }
        return disputeIds[i];
    }

    // ------------------------------------------------------------ what no epoch has

    /// @notice Claim by receipts what no epoch has, or what one has paid.
    function claimOwed(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        address worker = workers[(seed >> 8) % 3];
        uint64 nonce = lastNonce += 2;
        uint32 numPosted = run(runId).numPosted;
        if (seed & 1 << 16 == 0 && numPosted > 0) {
            EpochFile memory file = fileOf(runId, numPosted - 1);
            need(file.leaves.length > 0);
            (worker, nonce) = (file.leaves[0].worker, file.leaves[0].nonce);
        }
        uint64 when = clock() - SETTLE;
        if (!ledger.isOwed(runId, when)) when = owedSecond(runId);
        IDisputes.Receipt[] memory receipts = new IDisputes.Receipt[](1);
        bytes[] memory signatures = new bytes[](1);
        uint64 tokens = 1 + uint64(seed >> 24) % (seed & 7 == 0 ? 6000 : 300);
        (receipts[0], signatures[0]) = receiptFor(leaf(runId, worker, nonce, tokens, when), when, operator);
        topUp(worker, 1);
        vm.prank(worker);
        disputes.claimOwed(receipts, signatures);
        claimedWork.push(receipts[0].work);
    }

    /// @notice Answer by the epoch that paid, or by verdicts.
    function answerOwed(uint256 seed) external observed {
        need(claimedWork.length > 0);
        IDisputes.Work memory work = claimedWork[(seed >> 8) % claimedWork.length];
        // Seldom, for what is condemned stays so.
        if (seed & 7 == 1) return disputes.answerCondemned(work, condemned(work, 2));
        for (uint32 i = run(work.runId).numPosted; i > 0; --i) {
            EpochFile memory file = fileOf(work.runId, i - 1);
            for (uint256 j = 0; j < file.leaves.length; ++j) {
                if (file.leaves[j].worker != work.worker || file.leaves[j].nonce != work.nonce) continue;
                vm.prank(anyone(seed >> 64));
                return disputes.answerPaid(work, file.header, openWork(file, j));
            }
        }
        revert NotNow();
    }

    function stopOverdue(uint256 seed) external observed {
        // It ends a run; most of the time something must go on.
        need(claimedWork.length > 0 && seed % 6 == 0);
        uint256 i = (seed >> 8) % claimedWork.length;
        // One that can, where there is one.
        for (uint256 n = claimedWork.length; n > 0 && !isRipe(claimedWork[i]); --n) {
            i = (i + 1) % claimedWork.length;
        }
        disputes.stopOverdue(claimedWork[i]);
    }

    function isRipe(IDisputes.Work memory work) internal view returns (bool) {
        uint48 since = disputes.claimedAt(hashOf(work));
        bool stands = since > 0 && uint256(since) + RESPONSE <= clock();
        IRunLedger.Status status = run(work.runId).status;
        bool goesOn = status == IRunLedger.Status.Active || status == IRunLedger.Status.Halted;
        return stands && goesOn && !disputes.isReported(work.runId, work.worker);
    }

    function payOwed(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        if (seed & 256 == 0) return disputes.refundRun(runId);
        // One that is owed, where there is one.
        address worker = workers[(seed >> 16) % 3];
        for (uint256 i = 0; i < 3 && disputes.owedOf(runId, worker) == 0; ++i) worker = workers[i];
        disputes.payOwed(runId, worker);
    }

    // ------------------------------------------------------------ slashing

    function propose(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        address worker = workers[(seed >> 8) % 3];
        uint128 amount = uint128(1 + (seed >> 16) % STAKE);
        slashIds.push(accuse(report(runId, worker, bytes32(seed), amount), signers(runId, seed >> 8)));
    }

    /// @notice Appeal, execute, rule either way or let it expire.
    function judge(uint256 seed) external observed {
        need(slashIds.length > 0);
        bytes32 slashId = slashIds[seed % slashIds.length];
        uint256 what = (seed >> 8) % 5;
        if (what == 0) return disputes.executeSlash(slashId);
        if (what == 1) return disputes.expireAppeal(slashId);
        address by = what == 2 ? disputes.slashOf(slashId).worker : arbiter;
        vm.prank(by);
        if (what == 2) disputes.appealSlash(slashId, "");
        else disputes.resolveAppeal(slashId, what == 3);
    }

    // ------------------------------------------------------------ stakes

    function stake(uint256 seed) external observed {
        vm.prank(anyone(seed));
        registry.stake(1 + (seed >> 8) % STAKE);
    }

    function unbond(uint256 seed) external observed {
        vm.prank(anyone(seed));
        registry.unbond(1 + (seed >> 8) % STAKE);
    }

    function withdraw(uint256 seed) external observed {
        uint256 what = (seed >> 8) % 4;
        address by = what == 0 ? anyone(seed) : anyCreditor(seed, what);
        vm.prank(by);
        if (what == 0) registry.withdrawStake();
        else if (what == 1) registry.withdrawCredit();
        else ledger.withdrawCredit(what == 2 ? address(token) : address(hostile));
    }

    function anyCreditor(uint256 seed, uint256 what) internal view returns (address by) {
        for (uint256 i = everybody.length; i > 0; --i) {
            by = anyone(seed + i);
            uint256 credit = what == 1
                ? registry.creditOf(by)
                : ledger.creditOf(by, what == 2 ? address(token) : address(hostile));
            if (credit > 0) break;
        }
    }

    // ------------------------------------------------------------ runs and their powers

    function fund(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        uint256 amount = 1 + (seed >> 8) % 10_000;
        token.mint(operator, amount);
        hostile.mint(operator, amount);
        vm.prank(operator);
        ledger.fundRun(runId, amount);
    }

    function halt(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        vm.prank(anyHolder(seed >> 8));
        ledger.haltRun(runId, "reason");
    }

    function resume(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        vm.prank(anyHolder(seed >> 8));
        ledger.resumeRun(runId);
    }

    /// @notice Who may halt: the operator as often as a steward.
    function anyHolder(uint256 seed) internal view returns (address) {
        return seed & 1 == 0 ? operator : stewards[(seed >> 8) % 3];
    }

    function permit(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        if (seed & 256 == 0) return ledger.lapseRun(runId);
        vm.prank(operator);
        ledger.renewPermit(runId);
    }

    function end(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        if (seed & 256 == 0) return ledger.closeRun(runId);
        need((seed >> 16) % 8 == 0);
        vm.prank(operator);
        ledger.stopRun(runId);
    }

    function launch(uint256 seed) external observed {
        need(ledger.numRuns() < 5);
        IRunLedger.RunParams memory p = params();
        p.parentRun = uint64(anyRun(seed));
        p.permitPeriod = 300;
        join(create(p, (seed >> 8) % 50_000));
    }

    function replace(uint256 seed) external observed {
        uint256 runId = anyRun(seed);
        if (seed & 256 == 0) return ledger.replaceVerifier(runId);
        vm.prank(operator);
        ledger.proposeReplacement(runId, uint8((seed >> 16) % 3), spares[(seed >> 24) % 2]);
    }

    function pause(uint256 seed) external observed {
        need(seed % 8 == 0);
        vm.prank(guardian);
        council.pause(uint48((seed >> 8) % 60), "reason");
    }

    /// @notice Aim the hostile token's transfers back at the ledger.
    function aim(uint256 seed) external observed {
        uint256 runId = 3;
        bytes memory data = abi.encodeCall(ledger.withdrawCredit, (address(hostile)));
        if (seed % 3 == 1) data = abi.encodeCall(ledger.closeRun, (runId));
        if (seed % 3 == 2 && run(runId).numPosted > 0) {
            EpochFile memory file = fileOf(runId, run(runId).numPosted - 1);
            need(file.accounts.length > 0);
            IRunLedger.AccountProof memory account =
                EpochFiles.open(file.accounts, (seed >> 8) % file.accounts.length);
            data = abi.encodeCall(ledger.claim, (runId, file.header.epoch, account));
        }
        hostile.aim(address(ledger), data);
    }

    // ------------------------------------------------------------ watching

    /// @notice Remember each final epoch's record, and compare those already seen.
    function observe() public {
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) {
            bytes32[] storage seen = finalRecords[runId];
            uint32 count = run(runId).numFinal;
            if (count < seen.length) hasFinalChanged = true;
            for (uint32 i = 0; i < count; ++i) {
                bytes32 hash = keccak256(abi.encode(ledger.epochOf(runId, i)));
                if (i == seen.length) seen.push(hash);
                if (seen[i] != hash) hasFinalChanged = true;
            }
        }
    }

    /// @notice Bring everything to its end and take everything out: decide all disputes, close all runs, claim for
    ///         every worker, withdraw every credit and stake. What is left is stuck.
    function windUp() external {
        hostile.aim(address(0), "");
        later(2 hours);
        // An omission waits for what else is open about the same epochs.
        for (uint256 i = 0; i < 2 * disputeIds.length; ++i) {
            bytes32 disputeId = disputeIds[i % disputeIds.length];
            IDisputes.Dispute memory dispute = disputes.disputeOf(disputeId);
            bool isLast = dispute.kind == IDisputes.DisputeKind.Omission;
            bool isDue = dispute.status == IDisputes.DisputeStatus.Open && isLast == (i >= disputeIds.length);
            if (isDue) disputes.expire(disputeId);
        }
        for (uint256 i = 0; i < slashIds.length; ++i) {
            IDisputes.SlashStatus status = disputes.slashOf(slashIds[i]).status;
            if (status == IDisputes.SlashStatus.Proposed) disputes.executeSlash(slashIds[i]);
            if (status == IDisputes.SlashStatus.Appealed) disputes.expireAppeal(slashIds[i]);
        }
        for (uint256 runId = 1; runId <= ledger.numRuns(); ++runId) windUp(runId);
        for (uint256 i = 0; i < everybody.length; ++i) takeOut(everybody[i]);
        observe();
    }

    function windUp(uint256 runId) internal {
        IRunLedger.Status status = run(runId).status;
        if (status == IRunLedger.Status.Active || status == IRunLedger.Status.Halted) {
            vm.prank(operator);
            ledger.stopRun(runId);
        }
        later(SETTLE + 1);
        if (status != IRunLedger.Status.Closed) ledger.closeRun(runId);
        later(SETTLE + RESPONSE);
        for (uint256 i = 0; i < workers.length; ++i) {
            if (disputes.owedOf(runId, workers[i]) > 0) disputes.payOwed(runId, workers[i]);
        }
        if (run(runId).budget > run(runId).committed) disputes.refundRun(runId);
        uint32 count = run(runId).numFinal;
        if (count == 0) return;
        EpochFile memory file = fileOf(runId, count - 1);
        for (uint256 i = 0; i < file.accounts.length; ++i) {
            // An account that shared in nothing, or in a lie, has nothing to claim.
            try this.claimAt(runId, count - 1, i) {} catch {}
        }
    }

    function claimAt(uint256 runId, uint32 epoch, uint256 index) external {
        claim(fileOf(runId, epoch), index);
    }

    function takeOut(address person) internal {
        if (ledger.creditOf(person, address(token)) > 0) {
            vm.prank(person);
            ledger.withdrawCredit(address(token));
        }
        if (ledger.creditOf(person, address(hostile)) > 0) {
            vm.prank(person);
            ledger.withdrawCredit(address(hostile));
        }
        if (registry.creditOf(person) > 0) {
            vm.prank(person);
            registry.withdrawCredit();
        }
        uint256 bonded = registry.stakeOf(person);
        if (bonded > 0) {
            vm.prank(person);
            registry.unbond(bonded);
        }
        IStakeRegistry.Account memory account = registry.accountOf(person);
        if (account.unbonding == 0) return;
        later(UNBOND);
        vm.prank(person);
        registry.withdrawStake();
    }
}

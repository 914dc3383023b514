// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {Base} from "./Base.sol";
import {Account, EpochFile, EpochFiles} from "./EpochFiles.sol";
import {Tree} from "./Tree.sol";

interface IToken {
    function mint(address to, uint256 amount) external;
    function approve(address spender, uint256 amount) external returns (bool);
    function balanceOf(address account) external view returns (uint256);
}

/// @title A deployment and its people
/// @notice Contracts are deployed by name, so that a test never holds their code: a change of one contract
///         recompiles that contract alone, which is what makes the mutations quick.
abstract contract World is Base {
    uint64 internal constant UNBOND = 2000;
    uint64 internal constant REVOKE = 50;
    uint32 internal constant MIN_WINDOW = 2;
    uint32 internal constant WINDOW = 60;
    uint32 internal constant SETTLE = 80;
    uint32 internal constant RESUME = 30;
    uint32 internal constant PERMIT = 10_000;
    uint48 internal constant RESPONSE = 40;
    uint64 internal constant APPEAL = 100;
    uint64 internal constant RULING = 200;
    uint128 internal constant STAKE = 10_000;
    uint128 internal constant RATE = 10;
    uint256 internal constant BUDGET = 1_000_000;
    uint48 internal constant PARAMETERS = 700_000_000;
    uint128 internal constant WARN = 1000;
    bytes32 internal constant SECRET = keccak256("secret");
    bytes32 internal constant MODEL = keccak256("model");

    bytes32 internal constant RETRACT =
        keccak256("RetractEpoch(uint256 runId,uint32 epoch,uint64 generation,bytes32 headerHash)");
    bytes32 internal constant REPORT = keccak256(
        "FraudReport(uint256 runId,address worker,bytes32 workDigest,bytes32 evidenceDigest,uint128 amount,uint64 reportedAt)"
    );
    bytes32 internal constant RECEIPT = keccak256(
        "Receipt(uint256 runId,address worker,uint64 nonce,bytes32 workDigest,uint64 receivedAt,bytes32 rejectionDigest)"
    );
    bytes32 internal constant VERDICT = keccak256(
        "Verdict(uint256 runId,bytes32 workDigest,address verifier,bytes32 outcomeDigest,bytes32 evidenceDigest,uint64 decidedAt)"
    );

    ICouncil public council;
    IStakeRegistry public registry;
    IRunLedger public ledger;
    IDisputes public disputes;
    IToken public token;

    address internal operator = who("operator");
    address internal treasury = who("treasury");
    address internal guardian = who("guardian");
    address internal arbiter = who("arbiter");
    address internal stranger = who("stranger");
    address[] internal verifiers;
    address[] internal stewards;
    address[] internal workers;
    mapping(address person => uint256) internal keyOf;

    // ------------------------------------------------------------ people

    function key(string memory name) internal pure returns (uint256) {
        return uint256(keccak256(bytes(name)));
    }

    function who(string memory name) internal returns (address person) {
        person = vm.addr(key(name));
        keyOf[person] = key(name);
    }

    /// @notice `count` people in ascending order of address.
    function people(string memory name, uint256 count) internal returns (address[] memory all) {
        all = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            address person = who(string.concat(name, string(abi.encodePacked(bytes1(uint8(48 + i))))));
            uint256 j = i;
            for (; j > 0 && all[j - 1] > person; --j) all[j] = all[j - 1];
            all[j] = person;
        }
    }

    function signed(address person, bytes32 digest) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keyOf[person], digest);
        return abi.encodePacked(r, s, v);
    }

    /// @notice An identity that signs with its own key.
    function enlist(address person, uint128 amount) internal {
        token.mint(person, uint256(amount) * 100);
        vm.prank(person);
        token.approve(address(registry), type(uint256).max);
        vm.prank(person);
        registry.register(amount, person, person, "");
    }

    // ------------------------------------------------------------ deployment

    function deploy() internal {
        token = IToken(vm.deployCode("TestToken.sol:TestToken"));
        council = ICouncil(vm.deployCode("Council.sol:Council", abi.encode(address(this), guardian, arbiter)));
        uint256 nonce = vm.getNonce(address(this));
        address ledgerAt = vm.computeCreateAddress(address(this), nonce + 1);
        address disputesAt = vm.computeCreateAddress(address(this), nonce + 2);
        registry = IStakeRegistry(
            vm.deployCode(
                "StakeRegistry.sol:StakeRegistry", abi.encode(token, treasury, disputesAt, UNBOND, REVOKE)
            )
        );
        ledger = IRunLedger(
            vm.deployCode(
                "RunLedger.sol:RunLedger", abi.encode(registry, disputesAt, council, MIN_WINDOW, WARN)
            )
        );
        disputes = IDisputes(
            vm.deployCode("Disputes.sol:Disputes", abi.encode(ledgerAt, RESPONSE, APPEAL, RULING))
        );
        check(address(ledger) == ledgerAt && address(disputes) == disputesAt, "addresses foreseen");
    }

    /// @notice Deploy, enlist everybody, and fund the operator.
    function build() internal {
        deploy();
        verifiers = people("verifier", 3);
        stewards = people("steward", 3);
        workers = people("worker", 3);
        for (uint256 i = 0; i < 3; ++i) {
            enlist(verifiers[i], STAKE);
            enlist(workers[i], STAKE);
        }
        enlist(operator, STAKE);
        vm.prank(operator);
        token.approve(address(ledger), type(uint256).max);
        token.mint(stranger, uint256(STAKE) * 100);
        vm.prank(stranger);
        token.approve(address(registry), type(uint256).max);
    }

    function params() internal view returns (IRunLedger.RunParams memory p) {
        p.token = address(token);
        p.rate = RATE;
        p.minStake = STAKE;
        p.challengeWindow = WINDOW;
        p.settleWindow = SETTLE;
        p.resumeDelay = RESUME;
        p.permitPeriod = PERMIT;
        p.threshold = 2;
        p.stewardThreshold = 2;
        p.numParameters = PARAMETERS;
        p.specHash = keccak256("spec");
        p.baseModel = MODEL;
        p.licence = "MIT";
        p.intendedUse = "tests";
        p.verifiers = verifiers;
        p.stewards = stewards;
    }

    function create(IRunLedger.RunParams memory p, uint256 budget) internal returns (uint256 runId) {
        IToken(p.token).mint(operator, budget);
        vm.prank(operator);
        runId = ledger.createRun(p, budget, "ipfs://spec");
    }

    function join(uint256 runId) internal {
        for (uint256 i = 0; i < workers.length; ++i) {
            vm.prank(workers[i]);
            ledger.joinRun(runId, "");
        }
    }

    function run(uint256 runId) internal view returns (IRunLedger.Run memory value) {
        (value,,) = ledger.runOf(runId);
    }

    // ------------------------------------------------------------ work and epochs

    function digestOf(bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", ledger.domainSeparator(), structHash));
    }

    /// @notice ceil(2 * parameters * tokens / 1e9).
    function gflops(uint256 tokens) internal pure returns (uint64) {
        return uint64((2 * uint256(PARAMETERS) * tokens + 1e9 - 1) / 1e9);
    }

    function leaf(uint256 runId, address worker, uint64 nonce, uint64 tokens, uint64 when)
        internal
        pure
        returns (IRunLedger.WorkLeaf memory value)
    {
        value.runId = runId;
        value.worker = worker;
        value.nonce = nonce;
        value.payloadDigest = keccak256(abi.encode(runId, worker, nonce, tokens));
        value.policyVersion = 1;
        value.submittedAt = when;
        value.tokens = tokens;
        value.gflops = gflops(tokens);
        value.units = tokens;
    }

    /// @notice Sign a leaf's work as its worker.
    function sign(EpochFile memory file, uint256 i) internal view {
        IRunLedger.WorkLeaf memory value = file.leaves[i];
        file.signatures[i] = signed(value.worker, digestOf(EpochFiles.workHash(value)));
        value.signatureHash = keccak256(file.signatures[i]);
    }

    /// @notice The honest file of the run's next epoch, after `before`, with these leaves.
    function write(uint256 runId, Account[] memory before, IRunLedger.WorkLeaf[] memory leaves)
        internal
        view
        returns (EpochFile memory file)
    {
        IRunLedger.Run memory value = run(runId);
        file.header.runId = runId;
        file.header.epoch = value.numPosted;
        file.header.generation = value.generation;
        file.header.dataHash = keccak256("data");
        file.before = before;
        file.leaves = leaves;
        file.signatures = new bytes[](leaves.length);
        for (uint256 i = 0; i < leaves.length; ++i) sign(file, i);
        EpochFiles.settle(file);
    }

    function openEpoch(uint256 runId) internal {
        vm.prank(operator);
        ledger.openEpoch(runId, keccak256(abi.encodePacked(SECRET)));
    }

    /// @notice The signatures of the run's verifiers named by the bitmap.
    function quorum(uint256 runId, bytes32 structHash, uint256 bitmap)
        internal
        view
        returns (bytes[] memory signatures)
    {
        (, address[] memory places,) = ledger.runOf(runId);
        uint256 count = 0;
        for (uint256 bits = bitmap; bits != 0; bits &= bits - 1) ++count;
        signatures = new bytes[](count);
        for (uint256 i = places.length; i > 0; --i) {
            if ((bitmap >> (i - 1)) & 1 == 0) continue;
            signatures[--count] = signed(places[i - 1], digestOf(structHash));
        }
    }

    function post(EpochFile memory file) internal {
        post(file.header, 3);
    }

    function post(IRunLedger.EpochHeader memory header, uint256 bitmap) internal {
        bytes[] memory signatures = quorum(header.runId, EpochFiles.headerHash(header), bitmap);
        vm.prank(stranger);
        ledger.postEpoch(header, SECRET, bitmap, signatures, "blob://epoch");
    }

    function retract(IRunLedger.EpochHeader memory header, uint256 bitmap) internal {
        bytes32 hash = keccak256(
            abi.encode(RETRACT, header.runId, header.epoch, header.generation, EpochFiles.headerHash(header))
        );
        bytes[] memory signatures = quorum(header.runId, hash, bitmap);
        ledger.retractEpoch(header.runId, header.epoch, bitmap, signatures);
    }

    function report(uint256 runId, address worker, bytes32 work, uint128 amount)
        internal
        view
        returns (IDisputes.FraudReport memory)
    {
        return IDisputes.FraudReport(runId, worker, work, keccak256("evidence"), amount, clock());
    }

    function accuse(IDisputes.FraudReport memory value, uint256 bitmap) internal returns (bytes32) {
        bytes[] memory signatures = quorum(value.runId, keccak256(abi.encode(REPORT, value)), bitmap);
        return disputes.proposeSlash(value, bitmap, signatures);
    }

    /// @notice The orchestrator's signed answer that it took this work.
    function receiptFor(IRunLedger.WorkLeaf memory value, uint64 receivedAt, address signer)
        internal
        view
        returns (IDisputes.Receipt memory receipt, bytes memory signature)
    {
        receipt.work = IDisputes.Work(
            value.runId,
            value.worker,
            value.nonce,
            value.payloadDigest,
            value.policyVersion,
            value.submittedAt,
            value.tokens,
            value.gflops
        );
        receipt.receivedAt = receivedAt;
        bytes32 hash = keccak256(
            abi.encode(
                RECEIPT,
                value.runId,
                value.worker,
                value.nonce,
                digestOf(EpochFiles.workHash(value)),
                receivedAt,
                keccak256("")
            )
        );
        signature = signed(signer, digestOf(hash));
    }

    /// @notice The first `count` verifiers' verdicts that this work is false.
    function condemned(IDisputes.Work memory work, uint256 count)
        internal
        view
        returns (IDisputes.Condemnation[] memory verdicts)
    {
        (, address[] memory places,) = ledger.runOf(work.runId);
        verdicts = new IDisputes.Condemnation[](count);
        bytes32 workDigest = digestOf(hashOf(work));
        for (uint256 i = 0; i < count; ++i) {
            bytes memory reason = abi.encodePacked(hex"af", "replay_mismatch");
            bytes32 outcome = keccak256(abi.encodePacked(hex"92a8", "rejected", reason));
            bytes32 evidence = keccak256(abi.encode(i));
            bytes32 hash =
                keccak256(abi.encode(VERDICT, work.runId, workDigest, places[i], outcome, evidence, clock()));
            bytes memory signature = signed(places[i], digestOf(hash));
            verdicts[i] = IDisputes.Condemnation(i, reason, evidence, clock(), signature);
        }
    }

    function hashOf(IDisputes.Work memory work) internal pure returns (bytes32) {
        return keccak256(abi.encode(EpochFiles.WORK, work));
    }

    /// @notice Answer that the worker stands accused.
    function answerOmission(bytes32 disputeId) internal {
        disputes.answerOmission(disputeId, 0, 0, new IDisputes.Condemnation[](0));
    }

    function claim(EpochFile memory file, uint256 index) internal {
        ledger.claim(file.header.runId, file.header.epoch, EpochFiles.open(file.accounts, index));
    }

    // ------------------------------------------------------------ openings

    function openWork(EpochFile memory file, uint256 index)
        internal
        pure
        returns (IDisputes.WorkProof memory)
    {
        return IDisputes.WorkProof(
            file.leaves[index], index, Tree.proof(EpochFiles.leafHashes(file.leaves), index)
        );
    }
}

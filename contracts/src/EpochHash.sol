// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "./interfaces/IDisputes.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";

/// @title Hashes of leaves, headers and signed messages
/// @notice Twin of `protocol/epoch.py` and `protocol/signing.py`; `tests/contracts/test_vectors.py` holds them together.
library EpochHash {
    /// @dev Completion tokens per paid unit; twin of `protocol/constants.py`.
    uint256 internal constant TOKENS_PER_UNIT = 1;

    bytes32 internal constant ACCOUNT = keccak256("Account(address worker,uint128 earned,uint64 lastNonce)");
    bytes32 internal constant WORK = keccak256(
        "Work(uint256 runId,address worker,uint64 nonce,bytes32 payloadDigest,uint64 policyVersion,uint64 submittedAt,uint64 tokens,uint64 gflops)"
    );
    bytes32 internal constant WORK_LEAF = keccak256(
        "WorkLeaf(uint256 runId,address worker,uint64 nonce,bytes32 payloadDigest,uint64 policyVersion,uint64 submittedAt,uint64 tokens,uint64 gflops,bytes32 signatureHash,uint128 units,uint128 workerSum,uint128 epochSum,uint64 tokenSum,uint64 gflopSum)"
    );
    bytes32 internal constant EPOCH_HEADER = keccak256(
        "EpochHeader(uint256 runId,uint32 epoch,uint64 generation,bytes32 prevAccountRoot,bytes32 workRoot,bytes32 accountRoot,uint32 workCount,uint32 accountCount,uint128 total,uint64 tokens,uint64 gflops,bytes32 dataHash)"
    );
    bytes32 internal constant FRAUD_REPORT = keccak256(
        "FraudReport(uint256 runId,address worker,bytes32 workDigest,bytes32 evidenceDigest,uint128 amount,uint64 reportedAt)"
    );
    bytes32 internal constant RETRACT_EPOCH =
        keccak256("RetractEpoch(uint256 runId,uint32 epoch,uint64 generation,bytes32 headerHash)");
    bytes32 internal constant RECEIPT = keccak256(
        "Receipt(uint256 runId,address worker,uint64 nonce,bytes32 workDigest,uint64 receivedAt,bytes32 rejectionDigest)"
    );
    bytes32 internal constant VERDICT = keccak256(
        "Verdict(uint256 runId,bytes32 workDigest,address verifier,bytes32 outcomeDigest,bytes32 evidenceDigest,uint64 decidedAt)"
    );
    /// @dev MessagePack's list of two texts, of which the first is the outcome (`protocol/canonical.py`).
    bytes10 internal constant REJECTED = hex"92a872656a6563746564";
    bytes32 internal constant NO_REJECTION = keccak256("");

    function account(address worker, uint128 earned, uint64 lastNonce) internal pure returns (bytes32) {
        return keccak256(abi.encode(ACCOUNT, worker, earned, lastNonce));
    }

    function workLeaf(IRunLedger.WorkLeaf calldata leaf) internal pure returns (bytes32) {
        return keccak256(abi.encode(WORK_LEAF, leaf));
    }

    /// @notice The work that a leaf says its worker signed.
    function workOf(IRunLedger.WorkLeaf calldata leaf) internal pure returns (IDisputes.Work memory) {
        return IDisputes.Work(
            leaf.runId,
            leaf.worker,
            leaf.nonce,
            leaf.payloadDigest,
            leaf.policyVersion,
            leaf.submittedAt,
            leaf.tokens,
            leaf.gflops
        );
    }

    function work(IDisputes.Work memory value) internal pure returns (bytes32) {
        return keccak256(abi.encode(WORK, value));
    }

    function header(IRunLedger.EpochHeader calldata value) internal pure returns (bytes32) {
        return keccak256(abi.encode(EPOCH_HEADER, value));
    }

    function report(IDisputes.FraudReport calldata value) internal pure returns (bytes32) {
        return keccak256(abi.encode(FRAUD_REPORT, value));
    }

    function retract(uint256 runId, uint32 epoch, uint64 generation, bytes32 headerHash)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(RETRACT_EPOCH, runId, epoch, generation, headerHash));
    }

    /// @notice A receipt for accepted work. `workDigest` is the EIP-712 digest that the worker signed.
    function receipt(IDisputes.Work memory value, bytes32 workDigest, uint64 receivedAt)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                RECEIPT, value.runId, value.worker, value.nonce, workDigest, receivedAt, NO_REJECTION
            )
        );
    }

    /// @notice A verifier's verdict that the work is false, for the reason whose encoding it brings.
    function rejection(
        uint256 runId,
        bytes32 workDigest,
        address verifier,
        IDisputes.Condemnation calldata value
    ) internal pure returns (bytes32) {
        bytes32 outcome = keccak256(abi.encodePacked(REJECTED, value.reason));
        return keccak256(
            abi.encode(
                VERDICT, runId, workDigest, verifier, outcome, value.evidenceDigest, value.decidedAt
            )
        );
    }
}

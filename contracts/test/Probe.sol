// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EpochHash} from "../src/EpochHash.sol";
import {PositionalMerkle} from "../src/PositionalMerkle.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";

/// @title The libraries' internal functions, callable, for vectors shared with Python
contract Probe {
    function account(address worker, uint128 earned, uint64 lastNonce) external pure returns (bytes32) {
        return EpochHash.account(worker, earned, lastNonce);
    }

    function workLeaf(IRunLedger.WorkLeaf calldata leaf) external pure returns (bytes32) {
        return EpochHash.workLeaf(leaf);
    }

    function work(IDisputes.Work calldata value) external pure returns (bytes32) {
        return EpochHash.work(value);
    }

    function workOf(IRunLedger.WorkLeaf calldata leaf) external pure returns (bytes32) {
        return EpochHash.work(EpochHash.workOf(leaf));
    }

    function header(IRunLedger.EpochHeader calldata value) external pure returns (bytes32) {
        return EpochHash.header(value);
    }

    function report(IDisputes.FraudReport calldata value) external pure returns (bytes32) {
        return EpochHash.report(value);
    }

    function retract(uint256 runId, uint32 epoch, uint64 generation, bytes32 headerHash)
        external
        pure
        returns (bytes32)
    {
        return EpochHash.retract(runId, epoch, generation, headerHash);
    }

    function receipt(IDisputes.Work calldata value, bytes32 workDigest, uint64 receivedAt)
        external
        pure
        returns (bytes32)
    {
        return EpochHash.receipt(value, workDigest, receivedAt);
    }

    function rejection(
        uint256 runId,
        bytes32 workDigest,
        address verifier,
        IDisputes.Condemnation calldata value
    ) external pure returns (bytes32) {
        return EpochHash.rejection(runId, workDigest, verifier, value);
    }

    function tokensPerUnit() external pure returns (uint256) {
        return EpochHash.TOKENS_PER_UNIT;
    }

    function verify(bytes32 root, bytes32 leaf, uint256 index, uint256 count, bytes32[] calldata proof)
        external
        pure
        returns (bool)
    {
        return PositionalMerkle.verify(root, leaf, index, count, proof);
    }
}

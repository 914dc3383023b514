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

    function header(IRunLedger.EpochHeader calldata value) external pure returns (bytes32) {
        return EpochHash.header(value);
    }

    function report(IDisputes.FraudReport calldata value) external pure returns (bytes32) {
        return EpochHash.report(value);
    }

    function verify(bytes32 root, bytes32 leaf, uint256 index, uint256 count, bytes32[] calldata proof)
        external
        pure
        returns (bool)
    {
        return PositionalMerkle.verify(root, leaf, index, count, proof);
    }
}

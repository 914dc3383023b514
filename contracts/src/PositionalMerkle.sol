// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title Merkle proofs that authenticate position
/// @notice Nodes are keccak256(left, right), never sorted; leaves are padded with zero words to a power of
///         two, so a proof has exactly ceil(log2(count)) words. Twin of `protocol/merkle.py`.
library PositionalMerkle {
    /// @notice Whether `leaf` stands at `index` of the tree of `count` leaves under `root`.
    function verify(bytes32 root, bytes32 leaf, uint256 index, uint256 count, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        if (index >= count || proof.length != depth(count)) return false;
        bytes32 node = leaf;
        for (uint256 i = 0; i < proof.length; ++i) {
            node = index & 1 == 1
                ? Hashes.efficientKeccak256(proof[i], node)
                : Hashes.efficientKeccak256(node, proof[i]);
            index >>= 1;
        }
        return node == root;
    }

    /// @notice ceil(log2(count)), and 0 for the empty tree.
    function depth(uint256 count) internal pure returns (uint256) {
        return count < 2 ? 0 : Math.log2(count - 1) + 1;
    }
}

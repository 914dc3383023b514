// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Building the trees that the contracts only verify
/// @notice Leaves are padded with zero words to a power of two; a node is keccak256(left, right). Written from
///         `protocol/wire.md`, not from the contracts' library, so that the two check each other.
library Tree {
    function root(bytes32[] memory leaves) internal pure returns (bytes32) {
        if (leaves.length == 0) return 0;
        bytes32[] memory level = padded(leaves);
        while (level.length > 1) level = parents(level);
        return level[0];
    }

    function proof(bytes32[] memory leaves, uint256 index) internal pure returns (bytes32[] memory path) {
        bytes32[] memory level = padded(leaves);
        uint256 depth = 0;
        while (uint256(1) << depth < level.length) ++depth;
        path = new bytes32[](depth);
        for (uint256 i = 0; i < depth; ++i) {
            path[i] = level[index ^ 1];
            level = parents(level);
            index >>= 1;
        }
    }

    function padded(bytes32[] memory leaves) internal pure returns (bytes32[] memory level) {
        uint256 width = 1;
        while (width < leaves.length) width *= 2;
        level = new bytes32[](width);
        for (uint256 i = 0; i < leaves.length; ++i) level[i] = leaves[i];
    }

    function parents(bytes32[] memory level) internal pure returns (bytes32[] memory above) {
        above = new bytes32[](level.length / 2);
        for (uint256 i = 0; i < above.length; ++i) {
            above[i] = keccak256(abi.encodePacked(level[2 * i], level[2 * i + 1]));
        }
    }
}

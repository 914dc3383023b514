// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

struct Log {
    bytes32[] topics;
    bytes data;
    address emitter;
}

/// @title The cheat codes that these tests use; forge-std is not on npm
interface Vm {
    function warp(uint256 timestamp) external;
    function getBlockTimestamp() external view returns (uint256);
    function prank(address caller) external;
    function expectRevert(bytes4 selector) external;
    function expectRevert(bytes calldata data) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function addr(uint256 key) external pure returns (address);
    function computeCreateAddress(address deployer, uint256 nonce) external pure returns (address);
    function getNonce(address account) external view returns (uint64);
    function expectRevert() external;
    function expectPartialRevert(bytes4 selector) external;
    function snapshotState() external returns (uint256 id);
    function revertToState(uint256 id) external returns (bool);
    function toString(uint256 value) external pure returns (string memory);
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function deployCode(string calldata name) external returns (address);
    function deployCode(string calldata name, bytes calldata arguments) external returns (address);
}

/// @title What every test stands on: any revert fails a test, so a check is a `revert` with its values
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error NotEqual(string what, uint256 left, uint256 right);
    error NotTrue(string what);

    /// @dev Never `block.timestamp` in a test: the compiler reads it once, and a test's time moves.
    function clock() internal view returns (uint64) {
        return uint64(vm.getBlockTimestamp());
    }

    function later(uint256 period) internal {
        vm.warp(clock() + period);
    }

    function same(uint256 left, uint256 right, string memory what) internal pure {
        if (left != right) revert NotEqual(what, left, right);
    }

    function check(bool isTrue, string memory what) internal pure {
        if (!isTrue) revert NotTrue(what);
    }

    /// @notice Fold a fuzzed number into [low, high].
    function bound(uint256 given, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + given % (high - low + 1);
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What the ledger keeps and anyone may read as it is
interface IRunStore {
    function numRuns() external view returns (uint256);

    function isJoined(uint256 runId, address worker) external view returns (bool);

    /// @notice Token wei paid to a worker by this run.
    function claimedOf(uint256 runId, address worker) external view returns (uint256);

    function creditOf(address account, address token) external view returns (uint256);

    function registry() external view returns (address);

    function disputes() external view returns (address);

    function council() external view returns (address);

    function minWindow() external view returns (uint32);

    function warnGflops() external view returns (uint128);
}

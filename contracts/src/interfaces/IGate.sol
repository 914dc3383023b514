// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Who may join a run
/// @notice Asked once, when a worker joins, and by a static call. It can refuse entry and nothing else:
///         work already accepted is paid whatever a gate says later.
interface IGate {
    /// @notice Whether `worker` may join `runId`, given the evidence it brought.
    function isEligible(uint256 runId, address worker, bytes calldata evidence) external view returns (bool);
}

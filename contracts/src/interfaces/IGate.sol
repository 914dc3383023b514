// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Who may join a run
/// @notice Asked once, when a worker joins, and never again: a gate can refuse entry and nothing else. Work already
///         accepted is paid whatever a gate says later.
/// @dev The ledger calls with at most `RunLedger.GATE_GAS` and takes any failure for a refusal. A gate may keep state
///      (a nullifier), so it must itself refuse callers other than the ledger.
interface IGate {
    /// @notice Whether `worker` may join `runId`, given the evidence it brought. Called by the ledger only.
    function admit(uint256 runId, address worker, bytes calldata evidence) external returns (bool);
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title The few powers that people hold
/// @notice The administrator is a timelock and can only appoint: guardians, who may stop money from coming in for a
///         bounded time, and arbiters, who rule on appeals and escalations. Nobody here reaches a final epoch, a claim,
///         a credit, or a stake that no quorum reported.
interface ICouncil {
    error PauseTooLong(uint256 asked, uint256 most);
    error PauseTooSoon(uint256 nowAt, uint256 earliest);
    error NotPaused(uint256 nowAt, uint256 until);
    error ZeroAddress();

    event Paused(address indexed guardian, uint48 until, bytes32 reason);
    event Unpaused(address indexed guardian);

    /// @notice Pause for `duration` seconds, at most `MAX_PAUSE`, and not within `PAUSE_INTERVAL` of the last pause's
    ///         beginning. Guardian only. Blocks creating, funding and joining runs, opening and posting epochs; never
    ///         finality, claims, disputes, appeals, withdrawals, halting, stopping or permits.
    function pause(uint48 duration, bytes32 reason) external;

    /// @notice End a pause early. Guardian only. Does not bring the next one closer.
    function unpause() external;

    /// @notice When the last pause ends or ended; zero before the first.
    function pausedUntil() external view returns (uint48);

    /// @notice Revert with AccessControl's refusal unless `account` is an arbiter.
    function requireArbiter(address account) external view;
}

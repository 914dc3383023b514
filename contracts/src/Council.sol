// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";

import {ICouncil} from "./interfaces/ICouncil.sol";

/// @title The few powers that people hold; documented in ICouncil
contract Council is ICouncil, AccessControl {
    bytes32 public constant GUARDIAN = keccak256("GUARDIAN");
    bytes32 public constant ARBITER = keccak256("ARBITER");
    uint48 public constant MAX_PAUSE = 7 days;
    uint48 public constant PAUSE_INTERVAL = 30 days;

    uint48 public pausedUntil;
    /// @notice When the next pause may begin. One clock for all guardians, or two could take turns.
    uint48 public nextPauseAt;

    /// @param admin A timelock: whom it appoints, everybody can see coming.
    constructor(address admin, address guardian, address arbiter) {
        if (admin == address(0) || guardian == address(0) || arbiter == address(0)) revert ZeroAddress();
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(GUARDIAN, guardian);
        _grantRole(ARBITER, arbiter);
    }

    function pause(uint48 duration, bytes32 reason) external onlyRole(GUARDIAN) {
        if (duration > MAX_PAUSE) revert PauseTooLong(duration, MAX_PAUSE);
        if (block.timestamp < nextPauseAt) revert PauseTooSoon(block.timestamp, nextPauseAt);
        pausedUntil = uint48(block.timestamp) + duration;
        nextPauseAt = uint48(block.timestamp) + PAUSE_INTERVAL;
        emit Paused(msg.sender, pausedUntil, reason);
    }

    function unpause() external onlyRole(GUARDIAN) {
        if (block.timestamp >= pausedUntil) revert NotPaused(block.timestamp, pausedUntil);
        pausedUntil = uint48(block.timestamp);
        emit Unpaused(msg.sender);
    }

    function requireArbiter(address account) external view {
        _checkRole(ARBITER, account);
    }
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {ICouncil} from "./interfaces/ICouncil.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title What all parts of Disputes stand on
/// @dev Disputes and Owed work on the same storage, so every variable that Owed uses is declared here, before others.
abstract contract DisputesBase {
    using Address for address;

    /// @param units Of all claims that stand. @param claimants Workers that they are of.
    struct Books {
        uint128 units;
        uint64 claimants;
    }

    /// @dev A demanded leaf's bond, and the price of a claim for paid work, as a part of the run's minimum stake.
    uint128 internal constant BONDS = 100;

    IRunLedger internal immutable _ledger;
    IStakeRegistry internal immutable _registry;
    ICouncil internal immutable _council;
    /// @dev A contract of its own because one with both would exceed the EVM's 24,576 bytes.
    address internal immutable _proofs;
    uint64 internal immutable _unbondPeriod;
    uint48 internal immutable _responseWindow;

    // slither-disable-next-line uninitialized-state -- written by Disputes, on this storage
    mapping(uint256 runId => mapping(address worker => bool)) internal _reported;
    // slither-disable-next-line uninitialized-state -- written by Owed, on this storage
    mapping(bytes32 workHash => uint48) internal _claimedAt;
    // slither-disable-next-line uninitialized-state -- written by Owed, on this storage
    mapping(uint256 runId => mapping(address worker => uint128)) internal _owed;
    // slither-disable-next-line uninitialized-state -- written by Owed, on this storage
    mapping(uint256 runId => Books) internal _books;

    constructor(
        IRunLedger ledger_,
        IStakeRegistry registry_,
        ICouncil council_,
        address proofs_,
        uint64 unbondPeriod_,
        uint48 responseWindow_
    ) {
        _ledger = ledger_;
        _registry = registry_;
        _council = council_;
        _unbondPeriod = unbondPeriod_;
        _proofs = proofs_;
        _responseWindow = responseWindow_;
    }

    /// @dev Until when receipts are taken, and from when they are paid; zeros while the run is not closed.
    function _decidedAt(IRunLedger.Run memory run)
        internal
        view
        returns (uint64 claimsUntil, uint64 paidFrom)
    {
        if (run.status != IRunLedger.Status.Closed) {
            return (0, 0);
        }
        // Half of unbonding at most, so that no stake backs a second worker's claim.
        uint64 most = _unbondPeriod / 2;
        claimsUntil = run.closedAt + (run.settleWindow < most ? run.settleWindow : most);
        paidFrom = claimsUntil + _responseWindow;
    }

    /// @dev `FraudProofs` has a view under each proof's own selector, so it is asked with the call as it came.
    function _requireProven() internal view {
        // slither-disable-next-line unused-return -- a proof that fails reverts, and one that holds says nothing
        _proofs.functionStaticCall(msg.data);
    }

    /// @dev Take up to `amount` of a stake, now, with a finder's part.
    function _take(address from, uint128 amount, address finder) internal {
        // slither-disable-next-line unused-return -- where nothing is left to take, what follows follows all the same
        _registry.seize(from, amount, finder);
    }

    /// @dev Take these units of a worker's claims off the books.
    function _settle(uint256 runId, address worker, uint128 units) internal {
        uint128 left = _owed[runId][worker] - units;
        _owed[runId][worker] = left;
        Books storage books = _books[runId];
        books.units -= units;
        if (left == 0) --books.claimants;
    }

    function _requireBefore(uint64 deadline) internal view {
        if (block.timestamp >= deadline) revert IDisputes.TooLate(uint64(block.timestamp), deadline);
    }

    function _requireFrom(uint64 earliest) internal view {
        if (block.timestamp < earliest) revert IDisputes.TooEarly(uint64(block.timestamp), earliest);
    }

    function _minStakeOf(uint256 runId) internal view returns (uint128) {
        return _ledger.minStakeOf(runId);
    }

    function _bondOf(uint256 runId) internal view returns (uint128) {
        return _minStakeOf(runId) / BONDS;
    }

    function _run(uint256 runId) internal view returns (IRunLedger.Run memory run) {
        // slither-disable-next-line unused-return -- the members are not asked for
        (run,,) = _ledger.runOf(runId);
    }
}

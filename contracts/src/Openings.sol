// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EpochHash} from "./EpochHash.sol";
import {PositionalMerkle} from "./PositionalMerkle.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";

/// @title What opened leaves show: a place, a worker's last word, or a gap
/// @notice Absence rests on order: between two neighbours, beyond an end, or in an empty tree nothing can stand. In a
///         tree that is not sorted a gap proves nothing, but then the pair that breaks the order is a fault itself.
library Openings {
    /// @dev A leaf's sort key and its index.
    struct Spot {
        uint256 key;
        uint256 index;
    }

    function requireWork(IRunLedger.EpochHeader calldata header, IDisputes.WorkProof calldata work) internal pure {
        bytes32 leaf = EpochHash.workLeaf(work.leaf);
        if (!PositionalMerkle.verify(header.workRoot, leaf, work.index, header.workCount, work.proof)) {
            revert IDisputes.BadOpening(work.index);
        }
    }

    function requireAccount(bytes32 root, uint256 count, IRunLedger.AccountProof calldata account) internal pure {
        bytes32 leaf = EpochHash.account(account.worker, account.earned, account.lastNonce);
        if (!PositionalMerkle.verify(root, leaf, account.index, count, account.proof)) {
            revert IDisputes.BadOpening(account.index);
        }
    }

    /// @notice A worker's account, or nothing where the witness shows that it has none.
    function accountOf(bytes32 root, uint256 count, address worker, IRunLedger.AccountProof[] calldata witness)
        internal
        pure
        returns (bool isFound, uint128 earned, uint64 lastNonce)
    {
        Spot[] memory spots = new Spot[](witness.length);
        for (uint256 i = 0; i < witness.length; ++i) {
            requireAccount(root, count, witness[i]);
            spots[i] = Spot(uint160(witness[i].worker), witness[i].index);
        }
        if (witness.length == 1 && witness[0].worker == worker) {
            return (true, witness[0].earned, witness[0].lastNonce);
        }
        if (!_isGap(uint160(worker), count, spots)) revert IDisputes.BadWitness(worker);
    }

    /// @notice What a worker's last leaf of the epoch says of it, or nothing where the witness shows that it has none.
    function lastWorkOf(
        IRunLedger.EpochHeader calldata header,
        address worker,
        IDisputes.WorkProof[] calldata witness
    ) internal pure returns (bool isFound, uint128 workerSum, uint64 nonce) {
        Spot[] memory spots = new Spot[](witness.length);
        for (uint256 i = 0; i < witness.length; ++i) {
            requireWork(header, witness[i]);
            spots[i] = Spot(uint160(witness[i].leaf.worker), witness[i].index);
        }
        if (_isLast(uint160(worker), header.workCount, spots)) {
            return (true, witness[0].leaf.workerSum, witness[0].leaf.nonce);
        }
        if (!_isGap(uint160(worker), header.workCount, spots)) revert IDisputes.BadWitness(worker);
    }

    /// @notice Revert unless the epoch has no leaf of (worker, nonce). Returns whether it has the worker's next one.
    function requireSkipped(
        IRunLedger.EpochHeader calldata header,
        address worker,
        uint64 nonce,
        IDisputes.WorkProof[] calldata around
    ) internal pure returns (bool isLaterPaid) {
        Spot[] memory spots = new Spot[](around.length);
        uint256 key = workKey(worker, nonce);
        for (uint256 i = 0; i < around.length; ++i) {
            requireWork(header, around[i]);
            spots[i] = Spot(workKey(around[i].leaf.worker, around[i].leaf.nonce), around[i].index);
            if (around[i].leaf.worker == worker && spots[i].key > key) isLaterPaid = true;
        }
        if (!_isGap(key, header.workCount, spots)) revert IDisputes.BadWitness(worker);
    }

    /// @notice The work tree's order.
    function workKey(address worker, uint64 nonce) internal pure returns (uint256) {
        return (uint256(uint160(worker)) << 64) | nonce;
    }

    function _isLast(uint256 key, uint256 count, Spot[] memory spots) private pure returns (bool) {
        if (spots.length == 0 || spots[0].key != key) return false;
        if (spots.length == 1) return spots[0].index == count - 1;
        return spots.length == 2 && spots[1].index == spots[0].index + 1 && spots[1].key != key;
    }

    function _isGap(uint256 key, uint256 count, Spot[] memory spots) private pure returns (bool) {
        if (spots.length == 0) return count == 0;
        Spot memory first = spots[0];
        if (spots.length == 1) {
            return (first.index == 0 && key < first.key) || (first.index == count - 1 && first.key < key);
        }
        return spots.length == 2 && spots[1].index == first.index + 1 && first.key < key && key < spots[1].key;
    }
}

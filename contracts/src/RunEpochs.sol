// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

import {EpochHash} from "./EpochHash.sol";
import {RunFinality} from "./RunFinality.sol";
import {RunRules} from "./RunRules.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";

/// @title The life of an epoch: opened, posted, held, voided; documented in IRunLedger
abstract contract RunEpochs is IRunLedger, RunFinality {
    using Checkpoints for Checkpoints.Trace208;

    // ------------------------------------------------------------------ forward

    function openEpoch(uint256 runId, bytes32 secretHash) external whenUnpaused {
        Run storage run = _requireLive(runId);
        _requireOperatorsKey(run);
        if (_isCapped(run)) revert ComputeCapReached(run.gflops, run.computeCap);
        uint256 open = run.numOpened - run.numPosted;
        if (open >= MAX_PENDING) revert TooManyOpenEpochs(open, MAX_PENDING);
        uint32 epoch = run.numOpened++;
        _epochs[runId][epoch].secretHash = secretHash;
        _epochs[runId][epoch].openedAt = uint40(block.timestamp);
        emit EpochOpened(runId, epoch, secretHash);
    }

    /// @dev Neither halting nor a lapse ends posting: what was done before is owed.
    function postEpoch(
        EpochHeader calldata header,
        bytes32 secret,
        uint256 signerBitmap,
        bytes[] calldata signatures,
        string calldata dataURI
    ) external whenUnpaused {
        Run storage run = _requireRun(header.runId);
        if (run.status == Status.Closed) revert WrongStatus(header.runId, run.status);
        if (run.status == Status.Stopped) {
            uint48 last = _lastPosting(run);
            if (block.timestamp > last) revert SettleWindowOver(last);
        }
        _advance(header.runId, run);
        uint128 cost = _checkHeader(run, header, secret);
        bytes32 headerHash = EpochHash.header(header);
        _requireQuorum(run, _hashTypedDataV4(headerHash), signerBitmap, signatures);

        run.numPosted++;
        run.committed += cost;
        uint40 finalAt = uint40(block.timestamp) + run.challengeWindow;
        Epoch storage epoch = _epochs[header.runId][header.epoch];
        epoch.headerHash = headerHash;
        epoch.accountRoot = header.accountRoot;
        epoch.cost = cost;
        epoch.tokens = header.tokens;
        epoch.gflops = header.gflops;
        epoch.postedAt = uint40(block.timestamp);
        epoch.finalAt = finalAt;
        epoch.accountCount = header.accountCount;
        epoch.signerBitmap = uint64(signerBitmap);
        emit EpochPosted(
            header.runId,
            header.epoch,
            header.generation,
            headerHash,
            header.accountRoot,
            header.dataHash,
            secret,
            cost,
            uint64(signerBitmap),
            finalAt,
            dataURI
        );
    }

    function advance(uint256 runId) external {
        _advance(runId, _requireRun(runId));
    }

    // ------------------------------------------------------------------ back

    function voidEpoch(uint256 runId, uint32 epoch, bool keepsSigners) external onlyDisputes {
        Run storage run = _requireRun(runId);
        _requirePending(run, epoch);
        if (keepsSigners) _retract(runId, run, epoch);
        else _void(runId, run, epoch);
    }

    function clearRetracted(uint256 runId, bytes32 headerHash) external onlyDisputes {
        delete _retractions[runId][headerHash];
    }

    // ------------------------------------------------------------------ waiting

    function holdEpoch(uint256 runId, uint32 epoch) external onlyDisputes {
        _requirePending(_requireRun(runId), epoch);
        Epoch storage held = _epochs[runId][epoch];
        // Nobody can pay for so many that they overflow and shut others out.
        held.holds++;
        emit EpochHeld(runId, epoch, held.holds);
    }

    function releaseEpoch(uint256 runId, uint32 epoch, bool prolong) external onlyDisputes {
        Run storage run = _requireRun(runId);
        _requirePending(run, epoch);
        Epoch storage held = _epochs[runId][epoch];
        held.holds--;
        if (prolong) {
            held.finalAt = uint40(block.timestamp) + run.challengeWindow;
            // Demands made side by side may pass any bound on rounds; an overflow would hold the epoch for ever.
            if (held.rounds < type(uint8).max) held.rounds++;
        }
        emit EpochReleased(runId, epoch, held.holds, held.finalAt);
    }

    // ------------------------------------------------------------------ reading

    function epochOf(uint256 runId, uint32 epoch) external view returns (Epoch memory) {
        return _epochs[runId][epoch];
    }

    function postedOf(uint256 runId, uint32 epoch)
        external
        view
        returns (uint48 postedAt, uint32 accountCount)
    {
        Epoch storage stated = _epochs[runId][epoch];
        return (stated.postedAt, stated.accountCount);
    }

    function postingOf(uint256 runId, uint32 epoch, bytes32 headerHash)
        external
        view
        returns (Posting posting, uint64 signerBitmap)
    {
        Epoch storage stated = _epochs[runId][epoch];
        if (headerHash != 0 && stated.headerHash == headerHash) {
            posting = epoch < _runs[runId].numFinal ? Posting.Final : Posting.Pending;
            return (posting, stated.signerBitmap);
        }
        Retraction storage retraction = _retractions[runId][headerHash];
        if (block.timestamp < retraction.until) return (Posting.Retracted, retraction.signerBitmap);
    }

    function isOwed(uint256 runId, uint64 dated) external view returns (bool) {
        Run storage run = _requireRun(runId);
        if (_isLapsed(run) && dated > run.permitUntil) return false;
        // No clock gets there; the lookup's keys end there.
        if (dated > type(uint48).max) return false;
        return _unowed[runId].upperLookup(uint48(dated)) == 0;
    }

    function meterOf(bytes32 subject) external view returns (Meter memory) {
        return _meters[subject];
    }

    // ------------------------------------------------------------------ rules

    function _checkHeader(Run storage run, EpochHeader calldata header, bytes32 secret)
        private
        view
        returns (uint128)
    {
        if (header.epoch != run.numPosted) revert WrongEpoch(header.epoch, run.numPosted);
        if (header.epoch >= run.numOpened) revert EpochNotOpen(header.epoch, run.numOpened);
        // Or a voided header could be posted again, and its signers slashed again and again.
        if (header.generation != run.generation) revert WrongGeneration(header.generation, run.generation);
        uint256 pending = run.numPosted - run.numFinal;
        if (pending >= MAX_PENDING) revert TooManyPendingEpochs(pending, MAX_PENDING);
        bytes32 secretHash = _epochs[header.runId][header.epoch].secretHash;
        bytes32 revealed = keccak256(abi.encodePacked(secret));
        if (revealed != secretHash) revert WrongSecret(revealed, secretHash);
        Epoch storage before = _before(header.runId, header.epoch);
        RunRules.checkTrees(header, before.accountRoot, before.accountCount);
        uint256 cost = uint256(header.total) * run.rate;
        uint256 available = run.budget - run.committed;
        if (cost > available) revert BudgetExceeded(cost, available);
        return uint128(cost);
    }

    /// @dev Before the first epoch stands one that is never opened: nobody has earned anything.
    function _before(uint256 runId, uint32 epoch) private view returns (Epoch storage) {
        unchecked {
            return _epochs[runId][epoch - 1];
        }
    }
}

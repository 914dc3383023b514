// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {DisputesBase} from "./DisputesBase.sol";
import {EpochHash} from "./EpochHash.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";

/// @title The part of Disputes that decides reports against workers; documented in IDisputes
abstract contract Slashing is IDisputes, DisputesBase {
    /// @dev Only a development chain goes near this; a market asks for days.
    uint64 public constant MIN_WINDOW = 1 seconds;

    uint64 public immutable appealWindow;
    uint64 public immutable rulingWindow;

    mapping(bytes32 slashId => Slash) private _slashes;
    mapping(uint256 runId => mapping(address worker => uint256)) public atRiskOf;

    constructor(uint64 appealWindow_, uint64 rulingWindow_) {
        _checkWindow(appealWindow_);
        appealWindow = appealWindow_;
        rulingWindow = rulingWindow_;
    }

    function proposeSlash(FraudReport calldata report, uint256 signerBitmap, bytes[] calldata signatures)
        external
        returns (bytes32 slashId)
    {
        slashId = slashIdOf(report.runId, report.worker, report.workDigest);
        Slash storage slash = _slashes[slashId];
        if (slash.status != SlashStatus.None) revert AlreadyReported(slashId, slash.status);
        _checkReport(report);
        _ledger.requireQuorum(report.runId, _digest(EpochHash.report(report)), signerBitmap, signatures);

        atRiskOf[report.runId][report.worker] += report.amount;
        _reported[report.runId][report.worker] = true;
        // Nothing more is owed to it, nor counted where what there is does not suffice for others' claims.
        uint128 owed = _owed[report.runId][report.worker];
        if (owed > 0) _settle(report.runId, report.worker, owed);
        slash.status = SlashStatus.Proposed;
        slash.deadline = uint64(block.timestamp) + appealWindow;
        slash.amount = report.amount;
        slash.worker = report.worker;
        slash.runId = report.runId;
        slash.evidenceDigest = report.evidenceDigest;
        // The registry is our own and calls nobody. It may find nothing to hold: the accusation still counts, because
        // it is what answers for work that was left unpaid.
        slash.held = _registry.hold(report.worker, report.amount);
        emit SlashProposed(
            slashId,
            report.runId,
            report.worker,
            report.workDigest,
            report.evidenceDigest,
            slash.held,
            slash.deadline
        );
    }

    function appealSlash(bytes32 slashId, bytes32 reason) external {
        Slash storage slash = _requireSlash(slashId, SlashStatus.Proposed);
        if (msg.sender != slash.worker && _registry.ownerOf(msg.sender) != slash.worker) {
            revert NotAccused(msg.sender, slash.worker);
        }
        _requireBefore(slash.deadline);
        slash.status = SlashStatus.Appealed;
        slash.deadline = uint64(block.timestamp) + rulingWindow;
        emit SlashAppealed(slashId, reason, slash.deadline);
    }

    function executeSlash(bytes32 slashId) external {
        _requireFrom(_requireSlash(slashId, SlashStatus.Proposed).deadline);
        _execute(slashId);
    }

    function resolveAppeal(bytes32 slashId, bool guilty) external {
        _requireArbiter();
        _requireBefore(_requireSlash(slashId, SlashStatus.Appealed).deadline);
        if (guilty) _execute(slashId);
        else _dismiss(slashId);
    }

    function expireAppeal(bytes32 slashId) external {
        _requireFrom(_requireSlash(slashId, SlashStatus.Appealed).deadline);
        _dismiss(slashId);
    }

    function isReported(uint256 runId, address worker) external view returns (bool) {
        return _reported[runId][worker];
    }

    function slashOf(bytes32 slashId) external view returns (Slash memory) {
        return _slashes[slashId];
    }

    function slashIdOf(uint256 runId, address worker, bytes32 workDigest) public pure returns (bytes32) {
        return keccak256(abi.encode(runId, worker, workDigest));
    }

    // ------------------------------------------------------------------ shared with disputes

    /// @dev No window outlasts the stake that it decides about.
    function _checkWindow(uint64 given) internal view {
        if (given < MIN_WINDOW || given >= _unbondPeriod) {
            revert BadWindow(given, MIN_WINDOW, _unbondPeriod - 1);
        }
    }

    function _requireArbiter() internal view {
        _council.requireArbiter(msg.sender);
    }

    // ------------------------------------------------------------------ rules

    /// @dev What somebody signed under the market's one domain.
    function _digest(bytes32 structHash) private view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(_ledger.domainSeparator(), structHash);
    }

    function _checkReport(FraudReport calldata report) private view {
        if (report.amount == 0) revert ZeroAmount();
        if (!_ledger.isJoined(report.runId, report.worker)) revert NotJoined(report.runId, report.worker);
        uint64 nowAt = uint64(block.timestamp);
        uint64 earliest = nowAt > _unbondPeriod ? nowAt - _unbondPeriod : 0;
        if (report.reportedAt > nowAt || report.reportedAt < earliest) {
            revert BadReportTime(report.reportedAt, earliest, nowAt);
        }
        uint256 left = _minStakeOf(report.runId) - atRiskOf[report.runId][report.worker];
        if (report.amount > left) revert SlashTooLarge(report.amount, left);
    }

    function _execute(bytes32 slashId) private {
        Slash storage slash = _slashes[slashId];
        slash.status = SlashStatus.Executed;
        emit SlashExecuted(slashId, slash.worker, slash.held);
        // No finder: whoever reports or sends this must not gain by it.
        _registry.slash(slash.worker, slash.held, address(0));
    }

    function _dismiss(bytes32 slashId) private {
        Slash storage slash = _slashes[slashId];
        slash.status = SlashStatus.Dismissed;
        atRiskOf[slash.runId][slash.worker] -= slash.amount;
        emit SlashDismissed(slashId, slash.worker);
        _registry.release(slash.worker, slash.held);
    }

    function _requireSlash(bytes32 slashId, SlashStatus status) private view returns (Slash storage slash) {
        slash = _slashes[slashId];
        if (slash.status != status) revert WrongStatus(slashId, slash.status);
    }
}

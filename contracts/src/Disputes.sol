// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {EpochHash} from "./EpochHash.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {IRunLedger} from "./interfaces/IRunLedger.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title Slashing with appeal; documented in IDisputes
contract Disputes is IDisputes {
    /// @dev Only a development chain goes near this; a market asks for days.
    uint64 public constant MIN_WINDOW = 1 seconds;

    IRunLedger public immutable ledger;
    IStakeRegistry public immutable registry;
    address public immutable arbiter;
    uint64 public immutable appealWindow;
    uint64 public immutable rulingWindow;

    mapping(bytes32 slashId => Slash) private _slashes;
    mapping(uint256 runId => mapping(address worker => uint256)) public atRiskOf;

    /// @dev The three contracts name one another as immutables, so this one, deployed last, checks the circle.
    constructor(IRunLedger ledger_, address arbiter_, uint64 appealWindow_, uint64 rulingWindow_) {
        if (arbiter_ == address(0)) revert ZeroAddress();
        IStakeRegistry registry_ = IStakeRegistry(ledger_.registry());
        if (registry_.slasher() != address(this) || ledger_.disputes() != address(this)) {
            revert WrongWiring(registry_.slasher(), ledger_.disputes());
        }
        uint64 unbond = registry_.unbondPeriod();
        if (appealWindow_ < MIN_WINDOW || appealWindow_ >= unbond) {
            revert BadWindow(appealWindow_, MIN_WINDOW, unbond);
        }
        if (rulingWindow_ < MIN_WINDOW) revert BadWindow(rulingWindow_, MIN_WINDOW, type(uint64).max);
        ledger = ledger_;
        registry = registry_;
        arbiter = arbiter_;
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
        bytes32 digest = MessageHashUtils.toTypedDataHash(ledger.domainSeparator(), EpochHash.report(report));
        ledger.requireQuorum(report.runId, digest, signerBitmap, signatures);

        atRiskOf[report.runId][report.worker] += report.amount;
        slash.status = SlashStatus.Proposed;
        slash.deadline = uint64(block.timestamp) + appealWindow;
        slash.amount = report.amount;
        slash.worker = report.worker;
        slash.runId = report.runId;
        slash.evidenceDigest = report.evidenceDigest;
        // The registry is our own and calls nobody.
        slash.held = registry.hold(report.worker, report.amount);
        if (slash.held == 0) revert NothingAtStake(report.worker);
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
        Slash storage slash = _require(slashId, SlashStatus.Proposed);
        if (msg.sender != slash.worker && registry.ownerOf(msg.sender) != slash.worker) {
            revert NotAccused(msg.sender, slash.worker);
        }
        _requireBefore(slash.deadline);
        slash.status = SlashStatus.Appealed;
        slash.deadline = uint64(block.timestamp) + rulingWindow;
        emit SlashAppealed(slashId, reason, slash.deadline);
    }

    function executeSlash(bytes32 slashId) external {
        _requireFrom(_require(slashId, SlashStatus.Proposed).deadline);
        _execute(slashId);
    }

    function resolveAppeal(bytes32 slashId, bool guilty) external {
        if (msg.sender != arbiter) revert NotArbiter(msg.sender);
        _requireBefore(_require(slashId, SlashStatus.Appealed).deadline);
        if (guilty) _execute(slashId);
        else _dismiss(slashId);
    }

    function expireAppeal(bytes32 slashId) external {
        _requireFrom(_require(slashId, SlashStatus.Appealed).deadline);
        _dismiss(slashId);
    }

    function slashOf(bytes32 slashId) external view returns (Slash memory) {
        return _slashes[slashId];
    }

    function slashIdOf(uint256 runId, address worker, bytes32 workDigest) public pure returns (bytes32) {
        return keccak256(abi.encode(runId, worker, workDigest));
    }

    function _checkReport(FraudReport calldata report) private view {
        if (report.amount == 0) revert ZeroAmount();
        if (!ledger.isJoined(report.runId, report.worker)) revert NotJoined(report.runId, report.worker);
        uint64 nowAt = uint64(block.timestamp);
        uint64 unbond = registry.unbondPeriod();
        uint64 earliest = nowAt > unbond ? nowAt - unbond : 0;
        if (report.reportedAt > nowAt || report.reportedAt < earliest) {
            revert BadReportTime(report.reportedAt, earliest, nowAt);
        }
        uint256 left = ledger.minStakeOf(report.runId) - atRiskOf[report.runId][report.worker];
        if (report.amount > left) revert SlashTooLarge(report.amount, left);
    }

    function _execute(bytes32 slashId) private {
        Slash storage slash = _slashes[slashId];
        slash.status = SlashStatus.Executed;
        emit SlashExecuted(slashId, slash.worker, slash.held);
        registry.slash(slash.worker, slash.held);
    }

    function _dismiss(bytes32 slashId) private {
        Slash storage slash = _slashes[slashId];
        slash.status = SlashStatus.Dismissed;
        atRiskOf[slash.runId][slash.worker] -= slash.amount;
        emit SlashDismissed(slashId, slash.worker);
        registry.release(slash.worker, slash.held);
    }

    function _require(bytes32 slashId, SlashStatus status) private view returns (Slash storage slash) {
        slash = _slashes[slashId];
        if (slash.status != status) revert WrongStatus(slashId, slash.status);
    }

    function _requireBefore(uint64 deadline) private view {
        if (block.timestamp >= deadline) revert TooLate(uint64(block.timestamp), deadline);
    }

    function _requireFrom(uint64 earliest) private view {
        if (block.timestamp < earliest) revert TooEarly(uint64(block.timestamp), earliest);
    }
}

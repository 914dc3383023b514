// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Slashing with appeal
/// @notice A quorum of a run's verifiers may report a worker that joined it. The stake is held at once; it is
///         taken only when the appeal window passes without an appeal, or the arbiter upholds the report.
///         Silence of the arbiter acquits. Slashed stake goes to the treasury: reporters get nothing.
/// @dev Not protected: an appeal costs no bond. Fraud proofs against epochs are to enter here, through
///      `IRunLedger.voidEpoch`.
interface IDisputes {
    enum SlashStatus {
        None,
        Proposed,
        Appealed,
        Executed,
        Dismissed
    }

    struct FraudReport {
        uint256 runId;
        address worker;
        bytes32 workDigest;
        bytes32 evidenceDigest;
        uint128 amount;
        uint64 reportedAt;
    }

    /// @param amount Reported. @param held Of the stake, which may have been less.
    /// @param deadline While proposed: when it may be executed. While appealed: when silence acquits.
    struct Slash {
        SlashStatus status;
        uint64 deadline;
        uint128 amount;
        uint128 held;
        address worker;
        uint256 runId;
        bytes32 evidenceDigest;
    }

    error ZeroAddress();
    error ZeroAmount();
    error BadWindow(uint256 given, uint256 least, uint256 most);
    error WrongWiring(address slasher, address disputes);
    error NotJoined(uint256 runId, address worker);
    error BadReportTime(uint64 reportedAt, uint64 earliest, uint64 nowAt);
    error AlreadyReported(bytes32 slashId, SlashStatus status);
    error SlashTooLarge(uint256 asked, uint256 left);
    error NothingAtStake(address worker);
    error WrongStatus(bytes32 slashId, SlashStatus status);
    error NotAccused(address caller, address worker);
    error NotArbiter(address caller);
    error TooEarly(uint64 nowAt, uint64 earliest);
    error TooLate(uint64 nowAt, uint64 deadline);

    event SlashProposed(
        bytes32 indexed slashId,
        uint256 indexed runId,
        address indexed worker,
        bytes32 workDigest,
        bytes32 evidenceDigest,
        uint128 held,
        uint64 executableAt
    );
    event SlashAppealed(bytes32 indexed slashId, bytes32 reason, uint64 rulingBy);
    event SlashExecuted(bytes32 indexed slashId, address indexed worker, uint128 amount);
    event SlashDismissed(bytes32 indexed slashId, address indexed worker);

    /// @notice Hold a worker's stake on the report of m of n verifiers. Anyone may send it.
    function proposeSlash(FraudReport calldata report, uint256 signerBitmap, bytes[] calldata signatures)
        external
        returns (bytes32 slashId);

    /// @notice Appeal, before the window ends: the worker or one of its hot keys.
    function appealSlash(bytes32 slashId, bytes32 reason) external;

    /// @notice Take the stake when nobody appealed in time. Anyone may.
    function executeSlash(bytes32 slashId) external;

    /// @notice Rule on an appeal. Arbiter only.
    function resolveAppeal(bytes32 slashId, bool guilty) external;

    /// @notice Acquit when the arbiter has not ruled in time. Anyone may.
    function expireAppeal(bytes32 slashId) external;

    function slashOf(bytes32 slashId) external view returns (Slash memory);

    /// @notice One work of one worker is reported once: keccak256(runId, worker, workDigest).
    function slashIdOf(uint256 runId, address worker, bytes32 workDigest) external pure returns (bytes32);

    /// @notice Proposed or executed against one worker in one run.
    function atRiskOf(uint256 runId, address worker) external view returns (uint256);

    function arbiter() external view returns (address);

    function appealWindow() external view returns (uint64);

    function rulingWindow() external view returns (uint64);
}

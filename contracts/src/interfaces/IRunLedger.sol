// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Runs, escrow, epochs and claims
/// @notice An operator escrows a budget; m of n staked verifiers sign what each epoch earned; after a
///         challenge window it is final and anyone may have a worker paid.
/// @dev There is no administrator. `disputes`, fixed at construction, may void epochs that are still
///      pending; nothing can touch a final one. Always, per run: claimed <= finalised <= committed <= budget.
///      Not protected: a quorum of a run's verifiers may divide that run's remaining budget as it likes until
///      somebody disputes it; tokens that rebase; a token whose transfer to one receiver fails delays that
///      receiver only.
interface IRunLedger {
    enum Status {
        None,
        Active,
        Halted,
        Stopped,
        Closed
    }

    /// @param token ERC-20 the run pays in. @param gate Asked at joining; zero for an open run.
    /// @param rate Token wei per unit of work. @param minStake For verifiers and workers alike; also the
    ///        most that this run's reports can slash from one worker.
    /// @param challengeWindow Seconds from posting an epoch to its finality.
    /// @param settleWindow Seconds after stopping in which epochs may still be posted.
    /// @param resumeDelay Seconds a halt lasts at least.
    /// @param threshold Verifier signatures an epoch needs: more than half of them.
    /// @param computeCap Gflops after whose finality no epoch opens; zero for none.
    /// @param verifiers Identities, strictly ascending, at most 64. @param stewards The same; may be empty.
    struct RunParams {
        address token;
        address gate;
        uint128 rate;
        uint128 minStake;
        uint32 challengeWindow;
        uint32 settleWindow;
        uint32 resumeDelay;
        uint8 threshold;
        uint8 stewardThreshold;
        uint64 computeCap;
        bytes32 specHash;
        address[] verifiers;
        address[] stewards;
    }

    /// @param numOpened, numPosted, numFinal Epochs that reached each state; each also names the next one.
    /// @param generation How often epochs were voided. @param cutoff Work dated later is not owed; zero for none.
    /// @param tokens, gflops Final work. Wider than an epoch's, so that no lie can overflow them and block finality.
    /// @param settleUntil Last second for posting once stopped.
    struct Run {
        address operator;
        Status status;
        bool haltedByStewards;
        uint8 threshold;
        uint8 stewardThreshold;
        uint32 challengeWindow;
        uint32 settleWindow;
        address token;
        uint32 resumeDelay;
        uint64 generation;
        address gate;
        uint32 numOpened;
        uint32 numPosted;
        uint32 numFinal;
        uint128 rate;
        uint128 minStake;
        uint128 budget;
        uint128 committed;
        uint128 finalised;
        uint128 claimed;
        uint128 tokens;
        uint128 gflops;
        uint64 computeCap;
        uint64 cutoff;
        uint64 haltedAt;
        uint64 settleUntil;
        uint64 haltVotes;
        uint64 resumeVotes;
        bytes32 specHash;
        address[] verifiers;
        address[] stewards;
    }

    /// @param finalAt When a posted epoch may be made final; zero before it is posted.
    /// @param cost Token wei it commits: total units times the run's rate.
    struct Epoch {
        bytes32 secretHash;
        bytes32 headerHash;
        bytes32 accountRoot;
        uint64 openedAt;
        uint64 finalAt;
        uint64 cutoff;
        uint32 accountCount;
        uint128 cost;
        uint64 tokens;
        uint64 gflops;
        uint64 signerBitmap;
    }

    struct EpochHeader {
        uint256 runId;
        uint32 epoch;
        uint64 generation;
        bytes32 prevAccountRoot;
        bytes32 workRoot;
        bytes32 accountRoot;
        uint32 workCount;
        uint32 accountCount;
        uint128 total;
        uint64 tokens;
        uint64 gflops;
        bytes32 dataHash;
    }

    struct WorkLeaf {
        uint256 runId;
        address worker;
        uint64 nonce;
        bytes32 payloadDigest;
        uint64 policyVersion;
        uint64 submittedAt;
        uint64 tokens;
        uint64 gflops;
        bytes32 signatureHash;
        uint128 units;
        uint128 workerSum;
        uint128 epochSum;
        uint64 tokenSum;
        uint64 gflopSum;
    }

    struct AccountProof {
        address worker;
        uint128 earned;
        uint64 lastNonce;
        uint256 index;
        bytes32[] proof;
    }

    struct Meter {
        uint128 tokens;
        uint128 gflops;
    }

    error ZeroAddress();
    error ZeroAmount();
    error AmountTooLarge(uint256 amount, uint256 most);
    error TransferMismatch(uint256 expected, uint256 received);
    error NoSuchRun(uint256 runId);
    error WrongStatus(uint256 runId, Status status);
    error NotOperator(address caller, address operator);
    error NotSteward(address caller);
    error NotDisputes(address caller);
    error AlreadyVoted(address steward);
    error NotAscending(address before, address next);
    error BadThreshold(uint256 threshold, uint256 members);
    error BadWindow(uint256 given, uint256 least, uint256 most);
    error NotRegistered(address worker);
    error StakeTooLow(address who, uint256 have, uint256 need);
    error NotEligible(address worker);
    error AlreadyJoined(uint256 runId, address worker);
    error ComputeCapReached(uint128 gflops, uint64 cap);
    error TooManyOpenEpochs(uint256 open, uint256 most);
    error TooManyPendingEpochs(uint256 pending, uint256 most);
    error EpochNotOpen(uint32 epoch, uint32 numOpened);
    error WrongEpoch(uint32 given, uint32 expected);
    error WrongGeneration(uint64 given, uint64 expected);
    error WrongPreviousRoot(bytes32 given, bytes32 expected);
    error WrongSecret(bytes32 given, bytes32 expected);
    error InconsistentCounts(uint32 workCount, uint32 accountCount, uint32 accountsBefore);
    error BudgetExceeded(uint256 cost, uint256 available);
    error SettleWindowOver(uint64 until);
    error QuorumTooSmall(uint256 signatures, uint256 threshold);
    error SignatureCountMismatch(uint256 signatures, uint256 bits);
    error NoSuchVerifier(uint256 index);
    error WrongSigner(address recovered, address verifier);
    error EpochNotFinal(uint32 epoch, uint32 numFinal);
    error EpochNotPending(uint32 epoch, uint32 numFinal, uint32 numPosted);
    error EpochsPending(uint32 numFinal, uint32 numPosted);
    error BadProof(address worker, uint256 index);
    error NothingToClaim(uint256 earned, uint256 claimed);
    error ClaimExceedsFinal(uint256 claimed, uint256 finalised);
    error TooEarly(uint256 nowAt, uint256 earliest);
    error NoCredit(address account);

    event RunCreated(
        uint256 indexed runId, address indexed operator, address indexed token, bytes32 specHash, string specURI
    );
    event RunFunded(uint256 indexed runId, address indexed from, uint256 amount, uint256 budget);
    event WorkerJoined(uint256 indexed runId, address indexed worker);
    event EpochOpened(uint256 indexed runId, uint32 indexed epoch, bytes32 secretHash);
    event EpochPosted(
        uint256 indexed runId,
        uint32 indexed epoch,
        uint64 generation,
        bytes32 headerHash,
        bytes32 accountRoot,
        bytes32 dataHash,
        bytes32 secret,
        uint128 cost,
        uint64 signerBitmap,
        uint64 finalAt,
        string dataURI
    );
    event EpochFinal(uint256 indexed runId, uint32 indexed epoch, uint128 cost, uint64 tokens, uint64 gflops);
    event EpochVoided(uint256 indexed runId, uint32 indexed epoch, uint64 generation, uint128 cost);
    event ComputeCapCrossed(uint256 indexed runId, uint128 gflops, uint64 cap);
    event Claimed(uint256 indexed runId, address indexed worker, address payout, uint256 amount, uint256 claimed);
    event HaltVoted(uint256 indexed runId, address indexed steward, bytes32 reason);
    event RunHalted(uint256 indexed runId, address indexed by, uint64 cutoff, bytes32 reason);
    event ResumeVoted(uint256 indexed runId, address indexed steward);
    event RunResumed(uint256 indexed runId);
    event RunStopped(uint256 indexed runId, uint64 cutoff, uint64 settleUntil);
    event RunClosed(uint256 indexed runId, uint256 refund);
    event CreditWithdrawn(address indexed account, address indexed token, uint256 amount);

    /// @notice Create a run paid by the caller, escrowing `budget` (which may be zero).
    function createRun(RunParams calldata params, uint256 budget, string calldata specURI)
        external
        returns (uint256 runId);

    /// @notice Add to a run's budget. Anyone may.
    function fundRun(uint256 runId, uint256 amount) external;

    /// @notice Join as a worker: expose up to `minStake` to this run's reports. Called by the identity itself.
    function joinRun(uint256 runId, bytes calldata evidence) external;

    /// @notice Open the next epoch by committing its secret. The operator or one of its hot keys.
    function openEpoch(uint256 runId, bytes32 secretHash) external;

    /// @notice Post the next epoch under a quorum's signatures and reveal its secret. Anyone may send it.
    /// @param signerBitmap Bit i is set when `verifiers[i]` signed; `signatures` follow in that order.
    function postEpoch(
        EpochHeader calldata header,
        bytes32 secret,
        uint256 signerBitmap,
        bytes[] calldata signatures,
        string calldata dataURI
    ) external;

    /// @notice Make final every epoch whose challenge window has passed. Anyone may.
    function advance(uint256 runId) external;

    /// @notice Pay a worker what it has earned by a final epoch and not yet been paid. Anyone may send it; the
    ///         money goes to the worker's payout address. Never expires, whatever becomes of the run.
    function claim(uint256 runId, uint32 epoch, AccountProof calldata account) external;

    /// @notice Halt: at once by the operator, or by the steward whose vote completes the threshold.
    function haltRun(uint256 runId, bytes32 reason) external;

    /// @notice Resume after `resumeDelay`: the operator ends its own halt; the stewards' by as many votes.
    function resumeRun(uint256 runId) external;

    /// @notice End the run for good. Epochs can still be posted for `settleWindow`. Operator only.
    function stopRun(uint256 runId) external;

    /// @notice Close a stopped run and credit what was never committed to the operator. Anyone may.
    function closeRun(uint256 runId) external;

    /// @notice Withdraw the caller's refunds in `token`.
    function withdrawCredit(address token) external;

    /// @notice Void a pending epoch and every later one; their money returns to the budget. Disputes only.
    function voidEpoch(uint256 runId, uint32 epoch) external;

    /// @notice Revert unless a quorum of the run's currently staked verifiers signed `digest`.
    function requireQuorum(uint256 runId, bytes32 digest, uint256 signerBitmap, bytes[] calldata signatures)
        external
        view;

    function numRuns() external view returns (uint256);

    function runOf(uint256 runId) external view returns (Run memory);

    function epochOf(uint256 runId, uint32 epoch) external view returns (Epoch memory);

    function isJoined(uint256 runId, address worker) external view returns (bool);

    /// @notice The most one worker can lose to this run's reports.
    function minStakeOf(uint256 runId) external view returns (uint128);

    /// @notice Token wei paid to a worker by this run.
    function claimedOf(uint256 runId, address worker) external view returns (uint256);

    function creditOf(address account, address token) external view returns (uint256);

    /// @notice Final work of all runs of one operator. Gflops are an estimate.
    function meterOf(address operator) external view returns (Meter memory);

    /// @notice The EIP-712 domain of headers, reports and work: ("Rollcall", "1", chain, this contract).
    function domainSeparator() external view returns (bytes32);

    function registry() external view returns (address);

    function disputes() external view returns (address);

    function minWindow() external view returns (uint32);
}

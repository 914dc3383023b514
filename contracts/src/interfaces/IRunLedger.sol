// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRunStore} from "./IRunStore.sol";

/// @title Runs, escrow, epochs and claims
/// @notice An operator registers a run and escrows a budget; m of n staked verifiers sign what each epoch earned; after
///         a challenge window it is final and anyone may have a worker paid.
/// @dev `disputes`, fixed at construction, may hold or void epochs that are still pending; nothing can touch a final
///      one. A council's pause stops money from coming in, never from going out. Always, per run:
///      claimed <= finalised <= committed <= budget.
///      Not protected: tokens that rebase; a token whose transfer to one receiver fails delays that receiver only;
///      an epoch that nobody looks at within its challenge window; a quorum that posts and retracts for ever keeps a
///      stopped run from closing, and earns nothing by it.
interface IRunLedger is IRunStore {
    enum Status {
        None,
        Active,
        Halted,
        Stopped,
        Closed
    }

    /// @notice Where a header stands: `Retracted` by its own signers, who still answer for it for a challenge window.
    enum Posting {
        None,
        Pending,
        Final,
        Retracted
    }

    /// @param token ERC-20 the run pays in. @param gate Asked at joining; zero for an open run.
    /// @param rate Token wei per unit of work. @param minStake For verifiers and workers alike; the most that this
    ///        run's reports can slash from one worker, and a fraud proof from one signer. At least 100.
    /// @param challengeWindow Seconds from posting an epoch to its finality.
    /// @param settleWindow Seconds after stopping in which epochs may still be posted.
    /// @param resumeDelay Seconds a halt lasts at least. @param permitPeriod Seconds that a permit lasts.
    /// @param threshold Verifier signatures an epoch needs: more than half of them.
    /// @param computeCap Gflops after whose finality nothing is owed any more; zero for none.
    /// @param numParameters Of the model: a leaf's gflops are ceil(2 * numParameters * tokens / 1e9).
    /// @param parentRun The run this one goes on from; zero for none.
    /// @param baseModel Digest of the first policy. @param licence, intendedUse Short texts or digests, for the registry.
    /// @param verifiers Identities, strictly ascending, 1 to 64. @param stewards The same; may be empty.
    struct RunParams {
        address token;
        address gate;
        uint128 rate;
        uint128 minStake;
        uint32 challengeWindow;
        uint32 settleWindow;
        uint32 resumeDelay;
        uint32 permitPeriod;
        uint8 threshold;
        uint8 stewardThreshold;
        uint64 computeCap;
        uint48 numParameters;
        uint64 parentRun;
        bytes32 specHash;
        bytes32 baseModel;
        string licence;
        string intendedUse;
        address[] verifiers;
        address[] stewards;
    }

    /// @param numOpened, numPosted, numFinal Epochs that reached each state; each also names the next one.
    /// @param generation How often epochs were voided. @param roster Where the members' addresses are kept, as code.
    /// @param replaced Bit i is set when verifier i has been replaced: it signs nothing more.
    /// @param permitUntil Last second for which work is owed without a new permit.
    /// @param tokens, gflops Final work. Wider than an epoch's, so that no lie can overflow them and block finality.
    /// @param settleUntil Last second for posting once stopped (a pause may prolong it).
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
        uint32 permitPeriod;
        uint32 generation;
        address roster;
        uint32 numOpened;
        uint32 numPosted;
        uint32 numFinal;
        uint128 rate;
        uint128 minStake;
        uint128 budget;
        uint128 committed;
        uint64 computeCap;
        uint48 numParameters;
        uint48 permitUntil;
        uint64 replaced;
        bytes32 specHash;
        bytes32 baseModel;
        address gate;
        uint48 haltedAt;
        uint48 settleUntil;
        uint128 finalised;
        uint128 claimed;
        uint128 tokens;
        uint128 gflops;
        uint64 haltVotes;
        uint64 resumeVotes;
        uint48 closedAt;
    }

    /// @param postedAt Zero before it is posted. @param finalAt When it may be made final, if nothing holds it.
    /// @param cost Token wei it commits: total units times the run's rate.
    /// @param holds Open disputes, each of which keeps it pending. @param rounds How often answered demands have put
    ///        finality off.
    struct Epoch {
        bytes32 secretHash;
        bytes32 headerHash;
        bytes32 accountRoot;
        uint128 cost;
        uint64 tokens;
        uint64 gflops;
        uint40 openedAt;
        uint40 postedAt;
        uint40 finalAt;
        uint32 accountCount;
        uint64 signerBitmap;
        uint32 holds;
        uint8 rounds;
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

    /// @param index Whose place is taken. @param next Who takes it. @param earliest When.
    struct Replacement {
        uint8 index;
        address next;
        uint48 earliest;
    }

    error ZeroAddress();
    error ZeroAmount();
    error AmountTooLarge(uint256 amount, uint256 most);
    error AmountTooSmall(uint256 amount, uint256 least);
    error TransferMismatch(uint256 expected, uint256 received);
    error Paused(uint256 until);
    error NoSuchRun(uint256 runId);
    error WrongStatus(uint256 runId, Status status);
    error PermitLapsed(uint256 runId, uint48 permitUntil);
    error NotLapsed(uint256 runId, uint48 permitUntil);
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
    error SettleWindowOver(uint256 until);
    error QuorumTooSmall(uint256 signatures, uint256 threshold);
    error SignatureCountMismatch(uint256 signatures, uint256 bits);
    error NoSuchVerifier(uint256 index);
    error VerifierReplaced(uint256 index, address verifier);
    error VerifierStillStaked(address verifier, uint256 have, uint256 need);
    error AlreadyVerifier(address verifier);
    error NoReplacement(uint256 runId);
    error WrongSigner(address recovered, address verifier);
    error EpochNotFinal(uint32 epoch, uint32 numFinal);
    error EpochNotPending(uint32 epoch, uint32 numFinal, uint32 numPosted);
    error EpochsPending(uint32 numFinal, uint32 numPosted);
    error EpochDisputed(uint32 epoch, uint32 holds);
    error BadProof(address worker, uint256 index);
    error NothingToClaim(uint256 earned, uint256 claimed);
    error ClaimExceedsFinal(uint256 claimed, uint256 finalised);
    error TooEarly(uint256 nowAt, uint256 earliest);
    error NoCredit(address account);

    event RunCreated(
        uint256 indexed runId,
        address indexed operator,
        bytes32 indexed baseModel,
        address token,
        bytes32 specHash,
        uint64 computeCap,
        uint64 parentRun,
        string specURI,
        string licence,
        string intendedUse
    );
    event RunFunded(uint256 indexed runId, address indexed from, uint256 amount, uint256 budget);
    event WorkerJoined(uint256 indexed runId, address indexed worker);
    event PermitRenewed(uint256 indexed runId, uint48 permitUntil);
    event RunLapsed(uint256 indexed runId, uint48 permitUntil);
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
        uint48 finalAt,
        string dataURI
    );
    event EpochFinal(uint256 indexed runId, uint32 indexed epoch, uint128 cost, uint64 tokens, uint64 gflops);
    event EpochVoided(uint256 indexed runId, uint32 indexed epoch, uint64 generation, uint128 cost);
    event EpochRetracted(uint256 indexed runId, uint32 indexed epoch, bytes32 headerHash);
    event EpochHeld(uint256 indexed runId, uint32 indexed epoch, uint32 holds);
    event EpochReleased(uint256 indexed runId, uint32 indexed epoch, uint32 holds, uint48 finalAt);
    event ComputeCapCrossed(uint256 indexed runId, uint128 gflops, uint64 cap);
    /// @notice The final work of all runs of one operator, or of one base model, passed `threshold` gflops, which the
    ///         deployment chose: `warnGflops` times a power of two. A warning; it stops nothing.
    event ComputeWarning(bytes32 indexed subject, uint128 gflops, uint128 threshold);
    event Claimed(uint256 indexed runId, address indexed worker, address payout, uint256 amount, uint256 claimed);
    event HaltVoted(uint256 indexed runId, address indexed steward, bytes32 reason);
    event RunHalted(uint256 indexed runId, address indexed by, uint48 cutoff, bytes32 reason);
    event ResumeVoted(uint256 indexed runId, address indexed steward);
    event RunResumed(uint256 indexed runId, uint48 permitUntil);
    event RunStopped(uint256 indexed runId, uint48 settleUntil);
    event RunClosed(uint256 indexed runId, uint256 uncommitted);
    event UncommittedCredited(uint256 indexed runId, address indexed to, uint256 amount);
    event ReplacementProposed(uint256 indexed runId, uint8 index, address next, uint48 earliest);
    event VerifierChanged(uint256 indexed runId, uint8 replaced, address before, uint8 index, address next);
    event CreditWithdrawn(address indexed account, address indexed token, uint256 amount);

    /// @notice Register a run paid by the caller, escrowing `budget` (which may be zero), with a first permit.
    function createRun(RunParams calldata params, uint256 budget, string calldata specURI)
        external
        returns (uint256 runId);

    /// @notice Add to a run's budget. Anyone may.
    function fundRun(uint256 runId, uint256 amount) external;

    /// @notice Spend an EIP-2612 permit of `token` for this ledger, within a `multicall`. Ignored where it fails:
    ///         somebody may have sent it first, and the allowance decides anyway.
    function selfPermit(address token, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Join as a worker: expose up to `minStake` to this run's reports. Called by the identity itself.
    function joinRun(uint256 runId, bytes calldata evidence) external;

    /// @notice Let the run go on for `permitPeriod` from now. The operator or one of its hot keys. A permit that has
    ///         lapsed is not renewed: the run is then resumed.
    function renewPermit(uint256 runId) external;

    /// @notice Record that a permit has lapsed: the run is halted from its last second on. Anyone may.
    function lapseRun(uint256 runId) external;

    /// @notice Open the next epoch by committing its secret. The operator or one of its hot keys.
    function openEpoch(uint256 runId, bytes32 secretHash) external;

    /// @notice Post the next epoch under a quorum's signatures and reveal its secret. Anyone may send it.
    /// @param signerBitmap Bit i is set when verifier i signed; `signatures` follow in that order.
    function postEpoch(
        EpochHeader calldata header,
        bytes32 secret,
        uint256 signerBitmap,
        bytes[] calldata signatures,
        string calldata dataURI
    ) external;

    /// @notice Take a pending epoch and every later one back, under a quorum's signatures over RetractEpoch(runId,
    ///         epoch, generation, headerHash). The money returns to the budget; the header's signers can still be
    ///         proven wrong for a challenge window, or a lie could be retracted in front of its proof. Refused while a
    ///         dispute holds any of them.
    function retractEpoch(uint256 runId, uint32 epoch, uint256 signerBitmap, bytes[] calldata signatures) external;

    /// @notice Make final every epoch whose challenge window has passed and that nothing holds. Anyone may.
    function advance(uint256 runId) external;

    /// @notice Pay a worker what it has earned by a final epoch and not yet been paid. Anyone may send it; the
    ///         money goes to the worker's payout address. Never expires, whatever becomes of the run.
    function claim(uint256 runId, uint32 epoch, AccountProof calldata account) external;

    /// @notice Halt: at once by the operator, or by the steward whose vote completes the threshold.
    function haltRun(uint256 runId, bytes32 reason) external;

    /// @notice Resume after `resumeDelay` with a new permit: the operator ends its own halt or lapse; the stewards'
    ///         halt ends by as many of their votes.
    function resumeRun(uint256 runId) external;

    /// @notice End the run for good. Epochs can still be posted for `settleWindow`. The operator, or Disputes where
    ///         overdue work was claimed and not answered for.
    function stopRun(uint256 runId) external;

    /// @notice Close a stopped run: no epoch follows. What was never committed stays until receipts have had their time
    ///         (`IDisputes.claimOwed`). Anyone may.
    function closeRun(uint256 runId) external;

    /// @notice Credit `to` out of what a closed run never committed. Disputes only.
    function creditUncommitted(uint256 runId, address to, uint256 amount) external;

    /// @notice Name who shall take the place of a verifier whose stake is below `minStake`: nobody who had another
    ///         seat of the run, and nobody who has a place. Operator only.
    function proposeReplacement(uint256 runId, uint8 index, address next) external;

    /// @notice Carry a replacement out once `challengeWindow` has passed and within `settleWindow` after that, if the old
    ///         verifier is still short of stake and the new one is not. Anyone may. Places are never reused, so pending
    ///         epochs keep their signers; the seat is.
    function replaceVerifier(uint256 runId) external;

    /// @notice Withdraw the caller's refunds in `token`.
    function withdrawCredit(address token) external;

    /// @notice Void a pending epoch and every later one; their money returns to the budget. With `keepsSigners` their
    ///         signers answer for them as after a retraction. Disputes only.
    function voidEpoch(uint256 runId, uint32 epoch, bool keepsSigners) external;

    /// @notice Keep a pending epoch from becoming final until it is released. Disputes only.
    function holdEpoch(uint256 runId, uint32 epoch) external;

    /// @notice End one hold. With `prolong`, finality waits another challenge window from now, and `rounds` counts it.
    ///         Disputes only.
    function releaseEpoch(uint256 runId, uint32 epoch, bool prolong) external;

    /// @notice Forget a retracted header, whose signers have been slashed. Disputes only.
    function clearRetracted(uint256 runId, bytes32 headerHash) external;

    /// @notice Revert unless a quorum of the run's currently staked verifiers signed `digest`.
    function requireQuorum(uint256 runId, bytes32 digest, uint256 signerBitmap, bytes[] calldata signatures)
        external
        view;

    function runOf(uint256 runId)
        external
        view
        returns (Run memory run, address[] memory verifiers, address[] memory stewards);

    function epochOf(uint256 runId, uint32 epoch) external view returns (Epoch memory);

    /// @notice What proofs ask about an epoch, from the one word that holds it.
    function postedOf(uint256 runId, uint32 epoch) external view returns (uint48 postedAt, uint32 accountCount);

    /// @notice Where the header with this hash stands, and which verifiers signed it.
    function postingOf(uint256 runId, uint32 epoch, bytes32 headerHash)
        external
        view
        returns (Posting posting, uint64 signerBitmap);

    /// @notice Whether work dated `dated` is owed by this run: not within a halt, nor past a lapsed permit or the cap.
    function isOwed(uint256 runId, uint64 dated) external view returns (bool);

    /// @notice Who has or had a place, and the seat it speaks for: one and whoever took its place have the same, which is
    ///         the first one's place.
    function verifierAt(uint256 runId, uint256 index) external view returns (address verifier, uint256 seat);

    function replacementOf(uint256 runId) external view returns (Replacement memory);

    /// @notice The most one identity can lose to one report or proof in this run.
    function minStakeOf(uint256 runId) external view returns (uint128);

    /// @notice Parameters of the run's model, from which a leaf's gflops follow.
    function numParametersOf(uint256 runId) external view returns (uint48);

    /// @notice Final work of all runs of one operator (its address as a word) or of one base model. Gflops are an
    ///         estimate.
    function meterOf(bytes32 subject) external view returns (Meter memory);

    /// @notice The EIP-712 domain of all signed messages: ("Rollcall", "1", chain, this contract).
    function domainSeparator() external view returns (bytes32);
}

// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRunLedger} from "./IRunLedger.sol";

/// @title Fraud proofs, demands, escalations, and slashing with appeal
/// @notice Whoever shows that a pending epoch contradicts itself, its signatures or the chain voids it and every later
///         one in one transaction. The header's signers lose up to the run's `minStake` each: a quarter to the prover,
///         the rest to the treasury. What cannot be shown from the trees alone is asked for under a bond.
///         A quorum of a run's verifiers may report a worker that joined it. The stake is held at once; it is taken
///         only when the appeal window passes without an appeal, or the arbiter upholds the report. Silence of the
///         arbiter acquits. Reporters get nothing.
/// @dev Not protected: an appeal costs no bond; a false `dataHash` is shown by demands or an escalation only; whoever
///      copies a proof out of the mempool first takes its bounty; an epoch built on a final one that was false.
interface IDisputes {
    enum SlashStatus {
        None,
        Proposed,
        Appealed,
        Executed,
        Dismissed
    }

    /// @notice What was wrong, in the order of the functions below.
    enum Fault {
        BadLeaf,
        BadPair,
        BadEdge,
        Duplicate,
        StaleNonce,
        AccountOrder,
        BadAccount,
        Unanswered,
        Omission,
        Escalation
    }

    enum DisputeKind {
        None,
        Work,
        Accounts,
        Omission,
        Escalation
    }

    enum DisputeStatus {
        None,
        Open,
        Answered,
        Upheld,
        Moot
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

    /// @notice A leaf of the work tree with its place and its path.
    struct WorkProof {
        IRunLedger.WorkLeaf leaf;
        uint256 index;
        bytes32[] proof;
    }

    /// @notice What a worker signs when it submits a group (`protocol/README.md` section 3).
    struct Work {
        uint256 runId;
        address worker;
        uint64 nonce;
        bytes32 payloadDigest;
        uint64 policyVersion;
        uint64 submittedAt;
        uint64 tokens;
        uint64 gflops;
    }

    /// @notice The orchestrator's signed answer to a submission it took. What is signed names the work by its digest
    ///         and has the empty text's as `rejectionDigest`; the work itself is shown because one that was dated when
    ///         nothing was owed could not be paid and was not skipped.
    struct Receipt {
        Work work;
        uint64 receivedAt;
    }

    /// @notice A verifier's signed verdict that a group is false.
    /// @param place Of the verifier in the run's list. @param reason The rejection as the verdict encodes it, a
    ///        MessagePack text.
    struct Condemnation {
        uint256 place;
        bytes reason;
        bytes32 evidenceDigest;
        uint64 decidedAt;
        bytes signature;
    }

    /// @param deadline When an unanswered dispute is decided by `expire`.
    /// @param unanswered Bit i is set while index i of the demand is not answered.
    /// @param worker Of an omission. @param indicesHash keccak256(abi.encode(indices)) of a demand; of
    ///        an omission the work's struct hash.
    struct Dispute {
        DisputeKind kind;
        DisputeStatus status;
        uint32 epoch;
        uint48 deadline;
        uint128 unanswered;
        address by;
        uint64 runId;
        uint128 bond;
        address worker;
        bytes32 headerHash;
        bytes32 indicesHash;
    }

    error ZeroAddress();
    error ZeroAmount();
    error BadWindow(uint256 given, uint256 least, uint256 most);
    error WrongWiring(address slasher, address disputes);
    error NotJoined(uint256 runId, address worker);
    error BadReportTime(uint64 reportedAt, uint64 earliest, uint64 nowAt);
    error AlreadyReported(bytes32 slashId, SlashStatus status);
    error SlashTooLarge(uint256 asked, uint256 left);
    error WrongStatus(bytes32 slashId, SlashStatus status);
    error NotAccused(address caller, address worker);
    error TooEarly(uint64 nowAt, uint64 earliest);
    error TooLate(uint64 nowAt, uint64 deadline);
    /// @notice The header is neither pending nor retracted a short while ago.
    error NotDisputable(uint256 runId, uint32 epoch, bytes32 headerHash);
    /// @notice A path does not lead to the header's root.
    error BadOpening(uint256 index);
    error NotAdjacent(uint256 left, uint256 right);
    /// @notice What was shown is as it should be.
    error NoFault();
    /// @notice The witness neither shows the worker nor the gap where it would stand.
    error BadWitness(address worker);
    error WrongSignature(bytes32 hash, bytes32 expected);
    error NotOperatorsKey(address signer, address operator);
    error NotYetDue(uint64 nonce);
    error BadIndices(uint256 count, uint256 most);
    error TooManyRounds(uint8 rounds, uint8 most);
    error WrongDispute(bytes32 disputeId, DisputeKind kind, DisputeStatus status);
    /// @notice What was opened does not stand where the demand is said to name it.
    error NotDemanded(uint256 index);
    error LengthMismatch(uint256 given, uint256 expected);
    error NotTheWorker(address caller, address worker);
    error WasReported(uint256 runId, address worker);
    /// @notice No epoch could pay this: another's or nobody's, or dated when nothing was owed.
    error NotPayable(uint64 nonce);
    error AlreadyClaimed(uint64 nonce, uint48 claimedAt);
    error NotClaimed(uint64 nonce);
    error NothingOwed(uint256 runId, address worker);
    error HeardBefore(uint256 place, uint256 seat);
    error NothingLeft(uint256 runId, uint256 uncommitted, uint256 owed);

    event FraudProven(
        uint256 indexed runId, uint32 indexed epoch, bytes32 indexed headerHash, Fault fault, address prover
    );
    event Disputed(
        bytes32 indexed disputeId,
        uint256 indexed runId,
        uint32 indexed epoch,
        DisputeKind kind,
        address by,
        uint48 deadline,
        uint32[] indices,
        bytes32 reason
    );
    /// @notice With the path, or an answer sent through a contract would show a leaf that nobody can open again.
    event WorkAnswered(
        bytes32 indexed disputeId, uint256 index, IRunLedger.WorkLeaf leaf, bytes signature, bytes32[] proof
    );
    event AccountAnswered(
        bytes32 indexed disputeId,
        uint256 index,
        address worker,
        uint128 earned,
        uint64 lastNonce,
        bytes32[] proof
    );
    event DisputeClosed(bytes32 indexed disputeId, DisputeStatus status);
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

    event OwedClaimed(uint256 indexed runId, address indexed worker, Work work);
    event OwedAnswered(uint256 indexed runId, address indexed worker, uint64 nonce, bool isCondemned);
    event OwedPaid(uint256 indexed runId, address indexed worker, uint128 units, uint256 amount);

    // ------------------------------------------------------------------ proofs: one transaction, by anyone, no bond

    /// @notice One leaf is false by itself: another run's; nonce zero; units, tokens and gflops that do not follow from one another;
    ///         dated after posting or when nothing was owed; or, with the `signature` whose hash it names, not signed
    ///         by the worker or its hot key. `signature` may be empty where the fault needs none.
    function proveBadLeaf(
        IRunLedger.EpochHeader calldata header,
        WorkProof calldata work,
        bytes calldata signature
    ) external;

    /// @notice Two neighbours do not ascend strictly by (worker, nonce), or their running sums do not follow.
    function proveBadPair(
        IRunLedger.EpochHeader calldata header,
        WorkProof calldata left,
        WorkProof calldata right
    ) external;

    /// @notice The first leaf's sums are not its own, or the last leaf's are not the header's totals.
    function proveBadEdge(IRunLedger.EpochHeader calldata header, WorkProof calldata work) external;

    /// @notice Two leaves of this run, anywhere in pending or final epochs, carry the same payload or the same
    ///         (worker, nonce). `header` is voided; `other` may be the same or an earlier epoch's.
    function proveDuplicate(
        IRunLedger.EpochHeader calldata header,
        WorkProof calldata work,
        IRunLedger.EpochHeader calldata other,
        WorkProof calldata otherWork
    ) external;

    /// @notice A leaf's nonce is not after the last one its worker was paid for before this epoch.
    function proveStaleNonce(
        IRunLedger.EpochHeader calldata header,
        WorkProof calldata work,
        IRunLedger.AccountProof calldata before
    ) external;

    /// @notice Two neighbours of the account tree do not ascend strictly by worker.
    function proveAccountOrder(
        IRunLedger.EpochHeader calldata header,
        IRunLedger.AccountProof calldata left,
        IRunLedger.AccountProof calldata right
    ) external;

    /// @notice A worker's account is not the one before plus its work: changed, missing, or made up.
    /// @dev Each witness shows the worker (one account; its last leaf, with the next one unless it is the tree's last)
    ///      or the gap where it would stand (both neighbours, or the single one at an end; none in an empty tree).
    function proveBadAccount(
        IRunLedger.EpochHeader calldata header,
        address worker,
        IRunLedger.AccountProof[] calldata before,
        WorkProof[] calldata work,
        IRunLedger.AccountProof[] calldata account
    ) external;

    // ------------------------------------------------------------------ disputes under a bond, which hold the epoch

    /// @notice Demand that up to 100 leaves be opened on chain within `responseWindow`. The bond is `minStake / 100` for
    ///         each, and they ascend. Until the epoch could become final. An answer puts that off by a challenge window, `MAX_ROUNDS`
    ///         times at most; demands within the first challenge window are always taken, or a cheat could use the
    ///         rounds up itself.
    function demand(IRunLedger.EpochHeader calldata header, DisputeKind tree, uint32[] calldata indices)
        external
        returns (bytes32 disputeId);

    /// @notice Open demanded work leaves, each with the signature it names. Anyone may, in parts; whoever completes it
    ///         gets the finder's part of the bond. `slots[i]` is where `work[i].index` stands in `indices`; what is
    ///         answered already is passed over.
    function answerWork(
        bytes32 disputeId,
        IRunLedger.EpochHeader calldata header,
        uint32[] calldata indices,
        uint256[] calldata slots,
        WorkProof[] calldata work,
        bytes[] calldata signatures
    ) external;

    /// @notice Open demanded account leaves.
    function answerAccounts(
        bytes32 disputeId,
        IRunLedger.EpochHeader calldata header,
        uint32[] calldata indices,
        uint256[] calldata slots,
        IRunLedger.AccountProof[] calldata accounts
    ) external;

    /// @notice Show that work the orchestrator signed a receipt for was skipped: the epoch's leaves on both sides of
    ///         its (worker, nonce), and that it was not paid before. It is skipped when a later nonce of the worker is
    ///         paid, or when it was received a settle window before the epoch opened.
    /// @dev Bonded with `minStake / 100`, because the work may have been condemned: `answerOmission` then shows it.
    ///      Unanswered, the epoch is void and the *operator* pays, up to `minStake` of what it has staked: verifiers
    ///      cannot know what an orchestrator never showed them.
    function proveOmission(
        IRunLedger.EpochHeader calldata header,
        Receipt calldata receipt,
        bytes calldata signature,
        WorkProof[] calldata around,
        IRunLedger.AccountProof[] calldata before
    ) external returns (bytes32 disputeId);

    /// @notice Answer that a quorum reported the worker in this run, whatever became of the report, or else with a
    ///         quorum's verdicts that the work is false. Anyone may.
    /// @param runId, workHash What the dispute is about, where verdicts are given; its run, and the work's struct hash.
    function answerOmission(
        bytes32 disputeId,
        uint256 runId,
        bytes32 workHash,
        Condemnation[] calldata verdicts
    ) external;

    // ------------------------------------------------------------------ what no epoch has

    /// @notice Claim by the orchestrator's receipts what no epoch pays: of a closed run until `claimsUntil`, of any other
    ///         what was received a settle window ago. Sent by the worker, which has `minStake` bonded, or its hot key.
    /// @dev Not protected: an operator may sign receipts for workers of its own. Where more is claimed than was never
    ///      committed, each worker gets its claim or an equal part, whichever is less, and the operator pays up to
    ///      `minStake` of its stake to each who comes short. So a part takes a joined and staked identity.
    function claimOwed(Receipt[] calldata receipts, bytes[] calldata signatures) external;

    /// @notice Strike a claim out by a leaf of a posted epoch with the same (worker, nonce). Where the epoch could be
    ///         final before the claim, the worker pays `minStake / 100`, a quarter of it to whoever shows it. Anyone may.
    function answerPaid(Work calldata work, IRunLedger.EpochHeader calldata header, WorkProof calldata paid)
        external;

    /// @notice Strike a claim out for good by as many verifiers' verdicts as sign an epoch. One that was replaced and
    ///         whoever took its place are one.
    function answerCondemned(Work calldata work, Condemnation[] calldata verdicts) external;

    /// @notice End a run that has let a response window pass over a claim. Anyone may.
    function stopOverdue(Work calldata work) external;

    /// @notice Credit a worker, at the ledger, what it claimed of a closed run and nobody answered, from `paidFrom` on;
    ///         nothing where a quorum reported it in this run, for a report takes claims off the books. Anyone may.
    function payOwed(uint256 runId, address worker) external;

    /// @notice Credit the operator what a closed run neither committed nor owes, from `paidFrom` on.
    function refundRun(uint256 runId) external;

    /// @notice Say that an epoch is wrong in a way no proof shows (withheld data, false rewards). It is held until an
    ///         arbiter rules; silence lets it stand. The bond is `minStake`.
    function escalate(IRunLedger.EpochHeader calldata header, bytes32 reason) external returns (bytes32 disputeId);

    /// @notice Rule on an escalation. Arbiter only. Of a rejected one the bond goes to the treasury.
    function rule(bytes32 disputeId, bool isFraud) external;

    /// @notice Decide a dispute whose time is up: an unanswered demand or omission voids the epoch; an escalation that
    ///         nobody ruled on is dropped, and its bond returned. A dispute about an epoch that was voided or retracted
    ///         meanwhile is moot, and its bond returned at once. Anyone may.
    function expire(bytes32 disputeId) external;

    // ------------------------------------------------------------------ slashing

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

    function disputeOf(bytes32 disputeId) external view returns (Dispute memory);

    /// @notice One work of one worker is reported once: keccak256(runId, worker, workDigest).
    function slashIdOf(uint256 runId, address worker, bytes32 workDigest) external pure returns (bytes32);

    /// @notice Proposed or executed against one worker in one run.
    function atRiskOf(uint256 runId, address worker) external view returns (uint256);

    function appealWindow() external view returns (uint64);

    /// @notice Whether a quorum ever reported the worker in this run, whatever became of it.
    function isReported(uint256 runId, address worker) external view returns (bool);

    /// @notice When work, by its EIP-712 struct hash, was claimed; zero if it is not, the maximum if it is condemned.
    function claimedAt(bytes32 workHash) external view returns (uint48);

    /// @notice Units that a worker claims of a run.
    function owedOf(uint256 runId, address worker) external view returns (uint128);

    /// @notice Units that all workers claim of a run, and how many workers.
    function booksOf(uint256 runId) external view returns (uint128 units, uint64 claimants);

    /// @notice Until when receipts for a closed run are taken, and from when it pays them; zeros while it is not closed.
    function decidedAt(uint256 runId) external view returns (uint64 claimsUntil, uint64 paidFrom);

    /// @notice The contract that says what a fault is; it has a view under the selector of each proof.
    function proofs() external view returns (address);

    function responseWindow() external view returns (uint48);

    function rulingWindow() external view returns (uint64);
}

"""The bugs that `contracts.tools.mutants` seeds, one at a time: what is changed, and the attack it opens.

Each replaces text that stands exactly once in its file. `suite` names the Forge contracts that are
asked first; what these let live, all the others are asked about.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """One seeded bug.

    Example:
        Mutation("RunBase", "a quorum may be one short", "used < need", "used + 1 < need", "Epochs")
    """

    source: str
    what: str
    old: str
    new: str
    suite: str

    @property
    def path(self) -> str:
        """Where it is applied, from `contracts/`."""
        return f"src/{self.source}.sol"


def m(source: str, suite: str, what: str, old: str, new: str = "") -> Mutation:
    """Return a mutation; without `new`, `old` is cut out."""
    return Mutation(source, what, old, new, suite)


MUTATIONS = (
    # ---------------------------------------------------------------- finality and voiding
    m("RunFinality", "Epochs", "an epoch is final a second early",
      "block.timestamp < epoch.finalAt ||", "block.timestamp + 1 < epoch.finalAt ||"),
    m("RunFinality", "Disputes", "a held epoch becomes final", " || epoch.holds > 0"),
    m("RunFinality", "Proofs", "voiding keeps the money committed", "run.committed -= cost;"),
    m("RunFinality", "Proofs", "voiding does not count generations",
      "= ++run.generation;", "= run.generation;"),
    m("RunFinality", "Proofs", "voiding leaves later epochs posted",
      "run.numPosted = epoch;", "run.numPosted -= 1;"),
    m("RunFinality", "Runs", "a void leaves a stopped run no time to post anew",
      "if (run.status == IRunLedger.Status.Stopped) run.settleUntil = _now() + run.settleWindow;"),
    m("RunFinality", "Runs", "the cap cuts off what was done until its crossing",
      "(_isLapsed(run) ? run.permitUntil : _now()) + 1", "_isLapsed(run) ? run.permitUntil : _now()"),
    m("RunFinality", "Runs", "a meter forgets earlier work",
      "uint128 gflops = before + done.gflops;", "uint128 gflops = done.gflops;"),
    m("RunFinality", "Runs", "a pause eats the time for posting",
      "return afterPause > run.settleUntil ? afterPause : run.settleUntil;", "return run.settleUntil;"),
    # ---------------------------------------------------------------- what is owed, and quorums
    m("RunBase", "Runs", "resuming lifts the cap", "if (!_isCapped(run)) _setUnowed", "_setUnowed"),
    m("RunBase", "Runs", "a lapse dates from when it is recorded",
      "_endOwing(runId, run.permitUntil + 1);", "_endOwing(runId, _now() + 1);"),
    m("RunBase", "Runs", "a lapsed permit still opens epochs",
      "if (_isLapsed(run)) revert IRunLedger.PermitLapsed(runId, run.permitUntil);"),
    m("RunBase", "Epochs", "a quorum may be one short", "used < run.threshold", "used + 1 < run.threshold"),
    m("RunBase", "Epochs", "verifiers without stake sign",
      "if (have < need) revert IRunLedger.StakeTooLow(verifier, have, need);"),
    m("RunBase", "Epochs", "any staked identity signs as any verifier",
      "owner != verifier", "owner == address(0)"),
    m("RunBase", "Runs", "a replaced verifier signs on", "(replaced >> i) & 1 == 1", "false"),
    m("RunBase", "Epochs", "anyone voids and holds", "msg.sender != disputes", "false"),
    # ---------------------------------------------------------------- epochs
    m("RunEpochs", "Epochs Proofs", "a voided header is posted again",
      "header.generation != run.generation", "false"),
    m("RunEpochs", "Epochs", "any secret is revealed", "revealed != secretHash", "false"),
    m("RunEpochs", "Epochs Invariants", "two epochs commit the same money",
      "run.budget - run.committed;", "run.budget;"),
    m("RunEpochs", "Disputes", "an answer leaves no time to prove what it shows",
      "held.finalAt = uint40(block.timestamp) + run.challengeWindow;"),
    m("RunEpochs", "Runs", "a lapse is owed until somebody records it",
      "if (_isLapsed(run) && dated > run.permitUntil) return false;"),
    m("RunRules", "Epochs", "an epoch of no work commits money",
      "|| (header.workCount == 0 && !saysNothing)"),
    m("RunRules", "Runs", "half of the verifiers are a quorum", "* 2 <= count", "* 2 < count"),
    m("RunRules", "Runs", "a challenge window outlasts stake", "(unbondPeriod - 1) / 2", "unbondPeriod"),
    # ---------------------------------------------------------------- steering
    m("RunSteering", "Runs", "an operator wipes its stewards' votes",
      "run.haltedByStewards = false;", "run.haltedByStewards = false;\n        run.haltVotes = 0;"),
    m("RunSteering", "Runs", "a halt ends at once", "+ run.resumeDelay;", ";"),
    m("RunSteering", "Runs", "closing refunds and keeps the budget", "run.budget = run.committed;"),
    m("RunFinality", "Proofs", "a lie is retracted in front of its proof",
      "Retraction(retracted.signerBitmap, until)", "Retraction(0, 0)"),
    m("RunSteering", "Runs", "an operator replaces a verifier that keeps its stake",
      "if (have >= run.minStake)", "if (have > run.minStake)"),
    m("RunSteering", "Epochs", "anyone retracts an epoch",
      "_requireQuorum(run, digest, signerBitmap, signatures);"),
    # ---------------------------------------------------------------- claims and joining
    m("RunLedger", "Epochs", "a claim pays twice",
      "claimedOf[runId][account.worker] = earned;"),
    m("RunLedger", "Epochs", "a false root reaches other runs' money",
      "amount > run.finalised - run.claimed", "false"),
    m("RunLedger", "Epochs", "a claim pays who sends it",
      "address payout = IStakeRegistry(registry).payoutOf(account.worker);",
      "address payout = msg.sender;"),
    m("RunLedger", "Powers", "a gate's refusal is ignored", "&& !_admits(gate, runId, evidence)",
      "&& !_admits(gate, runId, evidence) && false"),
    m("RunLedger", "Epochs", "a token with a fee is booked in full", "received != amount", "false"),
    # ---------------------------------------------------------------- proofs
    m("FraudProofs", "Proofs", "work of the future is payable",
      "work.nonce == 0 || work.submittedAt > postedAt", "work.nonce == 0"),
    m("FraudProofs", "Proofs", "nonce zero is payable", "work.nonce == 0 ||"),
    m("FraudProofs", "Proofs", "work is payable whenever it is dated",
      "&& ledger.isOwed(runId, work.submittedAt)"),
    m("FraudProofs", "Proofs", "anyone signs for a worker",
      "return signer != address(0) && registry.spokeFor(signer, leaf.worker, leaf.submittedAt);",
      "return signer != address(0);"),
    m("FraudProofs", "Proofs", "a nonce is paid twice in one epoch",
      "Openings.workKey(left.worker, left.nonce) < ", "Openings.workKey(left.worker, left.nonce) <= "),
    m("FraudProofs", "Proofs", "the sum of tokens runs free",
      "&& right.tokenSum == uint256(left.tokenSum) + right.tokens"),
    m("FraudProofs", "Proofs", "the header's total is free", "leaf.epochSum != header.total ||"),
    m("FraudProofs", "Proofs", "the last nonce is paid again",
      "work.leaf.nonce > before.lastNonce", "work.leaf.nonce >= before.lastNonce"),
    m("FraudProofs", "Proofs", "an account's nonce is free", " && statedNonce == nonce"),
    m("FraudProofs", "Proofs", "any two leaves are neighbours (an honest epoch is void)",
      "Openings.requireWork(header, right);\n        if (right.index != left.index + 1)",
      "Openings.requireWork(header, right);\n        if (false)"),
    m("FraudProofs", "Proofs", "a leaf is its own duplicate (an honest epoch is void)",
      "isSameLeaf || (", "("),
    m("FraudProofs", "Disputes", "a receipt given after posting was skipped",
      "receipt.receivedAt > epoch.postedAt ||"),
    m("Openings", "Proofs", "any leaf is the last (an honest epoch is void)",
      "(first.index == count - 1 && first.key < key)", "(first.key < key)"),
    m("Openings", "Proofs", "a worker's first leaf is its last (an honest epoch is void)",
      " && spots[1].key != key"),
    m("PositionalMerkle", "Proofs Epochs", "a leaf has two places (an honest epoch is void)",
      "index >= count || "),
    # ---------------------------------------------------------------- disputes and slashing
    m("Disputes", "Disputes", "a moot dispute releases its successor's hold",
      "if (isHeld) ledger.releaseEpoch", "ledger.releaseEpoch"),
    m("Disputes", "Disputes", "a demand for many costs one bond",
      "uint128(indices.length) * _bondOf", "_bondOf"),
    m("Disputes", "Disputes", "a demand is answered by another leaf", "indices[slot] != index", "false"),
    m("Disputes", "Disputes", "answers put finality off for ever",
      "uint8 public constant MAX_ROUNDS = 4;", "uint8 public constant MAX_ROUNDS = 200;"),
    m("Disputes", "Disputes", "verifiers pay for what they never saw",
      "_take(_run(runId).operator, _minStakeOf(runId), by);",
      "_slashSigners(runId, target.signerBitmap, by);"),
    m("RunSteering", "Disputes", "an epoch is retracted in front of a demand",
      "retracted.holds > 0", "false"),
    m("Disputes", "Disputes", "an omission forgets who signed later epochs",
      "bool keepsSigners = fault == Fault.Omission;", "bool keepsSigners = false;"),
    m("Disputes", "Disputes", "an omission spares signers what others demand of them",
      "_requireOmissionsOnly(runId, dispute.epoch);"),
    m("Slashing", "Disputes", "a run takes more than its minimum stake",
      "if (report.amount > left) revert SlashTooLarge(report.amount, left);"),
    m("Slashing", "Disputes", "who never joined is slashed",
      "!ledger.isJoined(report.runId, report.worker)", "false"),
    m("Slashing", "Disputes Invariants", "an acquittal stays on the record",
      "atRiskOf[slash.runId][slash.worker] -= slash.amount;"),
    # ---------------------------------------------------------------- stakes and powers
    m("StakeRegistry", "Registry", "who slashes itself gets all of it back",
      "(amount * BOUNTY_PERCENT) / 100", "amount"),
    m("StakeRegistry", "Registry", "stake runs away from its slash",
      "account.unlockAt = uint64(block.timestamp) + unbondPeriod;",
      "account.unlockAt = uint64(block.timestamp);"),
    m("StakeRegistry", "Disputes", "what is held is withdrawn",
      "account.locked > account.stake ? account.locked - account.stake : 0", "0"),
    m("StakeRegistry", "Registry", "a stranger's key is bound", "if (consenting != signer)", "if (false)"),
    m("StakeRegistry", "Proofs Registry", "revoking voids one's own accepted work",
      "dated < record.until", "block.timestamp < record.until"),
    m("Council", "Powers", "guardians pause without end",
      "nextPauseAt = uint48(block.timestamp) + PAUSE_INTERVAL;"),
    m("AttesterGate", "Powers", "a claim never expires",
      "if (block.timestamp > expiresAt) return Refusal.Expired;"),
    m("AttesterGate", "Powers", "one person joins twice", "isSpent[runId][nullifier] = true;"),
)  # fmt: skip

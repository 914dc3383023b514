"""How far each function of the contracts reaches: from when, and what it can never do.

This is what neither an ABI nor a guard says. `powers.py` joins it with both into `POWERS.md`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reach:
    """From when a function takes effect, and its limit.

    Example:
        Reach("at once", "move money")
    """

    since: str
    never: str


AT_ONCE = "at once"
OWN = Reach(AT_ONCE, "touch anybody else's")
PROOF = Reach(
    "while pending; a challenge window after a retraction",
    "touch a final epoch, or void a true one; signers lose `minStake` each at most",
)
DEMANDED = "while the demand runs: `responseWindow`"

REACH = {
    # ---------------------------------------------------------------- runs
    ("RunLedger", "createRun"): Reach(AT_ONCE, "escrow anybody else's tokens"),
    ("RunLedger", "fundRun"): Reach(
        "while active or halted", "take back what is put in, before the run is closed"
    ),
    ("RunLedger", "selfPermit"): Reach(AT_ONCE, "spend: it only allows what the caller signed"),
    ("RunLedger", "multicall"): Reach(AT_ONCE, "do what the caller could not do one by one"),
    ("RunLedger", "joinRun"): Reach(
        "while active under a permit", "expose more than `minStake`; a gate can only refuse entry"
    ),
    ("RunLedger", "renewPermit"): Reach("until the permit lapses", "owe work dated in a lapse"),
    ("RunLedger", "lapseRun"): Reach("once the permit has lapsed", "date it otherwise"),
    ("RunLedger", "haltRun"): Reach(AT_ONCE, "unpay what was done until then"),
    ("RunLedger", "resumeRun"): Reach(
        "after `resumeDelay`",
        "owe work dated in the halt; the operator cannot end the stewards', nor they the operator's",
    ),
    ("RunLedger", "stopRun"): Reach(AT_ONCE, "unpay what was done until then; be undone"),
    ("RunLedger", "closeRun"): Reach(
        "after `settleWindow`, and after a pause that ate it",
        "close over a pending epoch; refund what was committed; end claims",
    ),
    ("RunLedger", "proposeReplacement"): Reach(
        "while the verifier is short of stake", "be rid of one that keeps its stake"
    ),
    ("RunLedger", "replaceVerifier"): Reach(
        "after `challengeWindow`, if it is still short", "change who signed a pending epoch"
    ),
    # ---------------------------------------------------------------- epochs
    ("RunLedger", "openEpoch"): Reach("under a permit and below the cap", "touch a posted epoch"),
    ("RunLedger", "postEpoch"): Reach(
        "once opened; until `settleWindow` after a stop", "commit beyond the budget"
    ),
    ("RunLedger", "advance"): Reach(
        "after `challengeWindow`, if nothing holds it", "finish early, or out of order"
    ),
    ("RunLedger", "retractEpoch"): Reach(
        "while pending",
        "touch a final or disputed epoch, or spare its signers a proof for a challenge window",
    ),
    ("RunLedger", "voidEpoch"): Reach("while pending", "touch a final epoch"),
    ("RunLedger", "holdEpoch"): Reach("while pending", "touch a final epoch"),
    ("RunLedger", "releaseEpoch"): Reach("while pending", "shorten a challenge window"),
    ("RunLedger", "clearRetracted"): Reach(AT_ONCE, "touch a posted epoch"),
    # ---------------------------------------------------------------- money going out
    ("RunLedger", "claim"): Reach(
        "once final, for ever", "choose where the money goes, or pay beyond the final epochs"
    ),
    ("RunLedger", "withdrawCredit"): OWN,
    # ---------------------------------------------------------------- stakes
    ("StakeRegistry", "register"): OWN,
    ("StakeRegistry", "stake"): OWN,
    ("StakeRegistry", "addSigner"): Reach(AT_ONCE, "bind a key without its consent, or twice"),
    ("StakeRegistry", "revokeSigner"): Reach(
        "after `revokeDelay`", "make work that the key signed before unsigned"
    ),
    ("StakeRegistry", "setPayout"): OWN,
    ("StakeRegistry", "unbond"): OWN,
    ("StakeRegistry", "withdrawStake"): Reach("after `unbondPeriod`", "withdraw what is held"),
    ("StakeRegistry", "withdrawCredit"): OWN,
    ("StakeRegistry", "selfPermit"): Reach(AT_ONCE, "spend: it only allows what the caller signed"),
    ("StakeRegistry", "multicall"): Reach(AT_ONCE, "do what the caller could not do one by one"),
    ("StakeRegistry", "hold"): Reach(AT_ONCE, "reach earnings, credits or bonds"),
    ("StakeRegistry", "release"): Reach(AT_ONCE, "reach earnings, credits or bonds"),
    ("StakeRegistry", "slash"): Reach(
        AT_ONCE, "take what is not held; pay a finder over a quarter"
    ),
    ("StakeRegistry", "seize"): Reach(
        "at once", "reach earnings, credits or bonds; pay a finder over a quarter"
    ),
    ("StakeRegistry", "postBond"): Reach(AT_ONCE, "pull beyond the disputer's allowance"),
    ("StakeRegistry", "returnBond"): Reach(AT_ONCE, "reach stakes, credits or earnings"),
    ("StakeRegistry", "forfeitBond"): Reach(AT_ONCE, "pay a finder over a quarter"),
    # ---------------------------------------------------------------- proofs and disputes
    ("Disputes", "proveBadLeaf"): PROOF,
    ("Disputes", "proveBadPair"): PROOF,
    ("Disputes", "proveBadEdge"): PROOF,
    ("Disputes", "proveDuplicate"): PROOF,
    ("Disputes", "proveStaleNonce"): PROOF,
    ("Disputes", "proveAccountOrder"): PROOF,
    ("Disputes", "proveBadAccount"): PROOF,
    ("Disputes", "demand"): Reach(
        "until the epoch could be final", "hold without a bond, or put finality off for ever"
    ),
    ("Disputes", "answerWork"): Reach(DEMANDED, "answer with another leaf than the one posted"),
    ("Disputes", "answerAccounts"): Reach(DEMANDED, "answer with another account"),
    ("Disputes", "proveOmission"): Reach(
        "until the epoch could be final",
        "make verifiers pay; the operator loses `minStake` at most",
    ),
    ("Disputes", "answerOmission"): Reach(
        "within `responseWindow`", "answer for a worker that no quorum reported"
    ),
    ("Disputes", "escalate"): Reach("until the epoch could be final", "hold without a bond"),
    ("Disputes", "rule"): Reach(
        "within `rulingWindow`; silence lets the epoch stand",
        "touch an epoch that nobody escalated, or a final one; gain by either ruling",
    ),
    ("Disputes", "expire"): Reach("after its window", "decide early, or otherwise"),
    # ---------------------------------------------------------------- slashing
    ("Disputes", "proposeSlash"): Reach(
        "within `unbondPeriod` of the report",
        "take before the appeal window ends, or beyond `minStake`, or from who never joined",
    ),
    ("Disputes", "appealSlash"): Reach("within `appealWindow`", "stop anybody else's slash"),
    ("Disputes", "executeSlash"): Reach("after `appealWindow` without an appeal", "gain by it"),
    ("Disputes", "resolveAppeal"): Reach(
        "within `rulingWindow`; silence acquits", "accuse, raise the amount, or reach earnings"
    ),
    ("Disputes", "expireAppeal"): Reach("after `rulingWindow`", "convict"),
    # ---------------------------------------------------------------- the council
    ("Council", "pause"): Reach(
        "30 days after the last pause began",
        "last over 7 days; stop finality, claims, withdrawals, disputes, appeals, halts or permits",
    ),
    ("Council", "unpause"): Reach("while paused", "bring the next pause closer"),
    ("Council", "grantRole"): Reach("after the timelock's delay", "give a power not on this page"),
    ("Council", "revokeRole"): Reach("after the timelock's delay", "undo what was ruled"),
    ("Council", "renounceRole"): Reach(AT_ONCE, "give up anybody else's office"),
    # ---------------------------------------------------------------- the gate
    ("AttesterGate", "admit"): Reach("at joining", "act for a run that did not choose this gate"),
    ("AttesterGate", "revoke"): Reach(AT_ONCE, "expel who has joined, or touch earnings"),
}

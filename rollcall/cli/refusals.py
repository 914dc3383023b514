"""Put a contract's refusal into one line for the user: what is wrong, and what to do.

The contracts name their refusals and give the values (`ledger/errors.py` decodes both). Each one that a person
can meet has its sentence here; the rest, which only a defective program meets, are `OF_PROGRAMS`. A test holds that
every error of the ABIs is one or the other, and every placeholder to the ABI's names.
"""

from collections.abc import Callable
from string import Formatter
from typing import Any

from ledger.amounts import Token
from ledger.errors import ContractError
from ledger.state import LedgerStatus, SlashStatus
from rollcall.cli.times import duration, moment

SENTENCES = {
    # ------------------------------------------------------------ council
    "Paused": "the ledger is paused until {until:moment}: nothing comes in before then, while "
    "claims, withdrawals and disputes go on",
    "AccessControlUnauthorizedAccount": "{account} has no such office in the council: use the "
    "arbiter's key for rulings, the guardian's for pauses",
    "PauseTooLong": "a pause of {asked:duration} is longer than the {most:duration} that are allowed",
    "PauseTooSoon": "the next pause may begin at {earliest:moment}: one in 30 days, whoever begins it",
    "NotPaused": "nothing is paused: the last pause ended at {until:moment}",
    "AccessControlBadConfirmation": "an office is given up by its own holder alone: use that key",
    # ------------------------------------------------------------ registry
    "NotRegistered": "{worker} is not registered: `rollcall stake AMOUNT` registers and stakes",
    "AlreadyRegistered": "{worker} is registered already: `rollcall stake AMOUNT` adds to its stake",
    "SignerTaken": "{signer} signs for {owner} already, and a key belongs to one identity forever: "
    "make another with `rollcall key`",
    "ConsentMissing": "{signer} has not consented to sign for {owner}: run `rollcall consent --owner "
    "{owner}` with that key, and give what it prints as --consent",
    "SignerNotOwned": "{signer} is no hot key of {caller}: `rollcall signer list` shows which are",
    "SignerAlreadyRevoked": "{signer} is revoked already, with effect from {effectiveAt:moment}",
    "NotEnoughStake": "{asked:amount} is more than the {have:amount} that are staked",
    "StillUnbonding": "the stake is unbonding until {until:moment}: withdraw it then",
    "StakeLocked": "{locked:amount} are held for an accusation that is not decided, which leaves "
    "nothing to withdraw: `rollcall appeal` shows it",
    "NoCredit": "{account} has no credit to withdraw",
    "UnbondPeriodTooShort": "stake must unbond for at least {minimum:duration}, not {given:duration}: raise "
    "windows.unbond",
    # ------------------------------------------------------------ runs
    "AlreadyJoined": "{worker} has joined run {runId} already: start `rollcall join`",
    "ZeroAddress": "an address is all zeros: give the one that is meant",
    "ZeroAmount": "an amount is zero: give more",
    "StringTooLong": "a text has more bytes than a contract keeps: shorten it",
    "TooManyOpenEpochs": "{open} epochs are open, and {most} may be: post or wait for them first",
    "TooManyPendingEpochs": "{pending} epochs are pending, and {most} may be: the orchestrator goes on once the "
    "oldest is final",
    "EpochNotOpen": "epoch {epoch} is not open: {numOpened} were opened; is another orchestrator at work?",
    "EpochDisputed": "{holds} open disputes hold epoch {epoch}: `rollcall run show` lists them, and it goes on "
    "once they are decided",
    "NoSuchRun": "there is no run {runId} on this ledger: `rollcall run list` shows those there are",
    "WrongStatus(runId)": "run {runId} is {status:run}: `rollcall run show {runId}` says since when",
    "PermitLapsed": "the permit of run {runId} lapsed at {permitUntil:moment}: its operator resumes "
    "it with `rollcall run resume {runId}`",
    "NotLapsed": "the permit of run {runId} holds until {permitUntil:moment}: nothing has lapsed",
    "NotOperator": "only the operator {operator} may do this, and the key in ROLLCALL_KEY is {caller}: sign with the operator's",
    "NotSteward": "{caller} is no steward of this run: `rollcall run show` names them",
    "AlreadyVoted": "{steward} has voted already: it takes other stewards' votes now",
    "NotAscending": "{next} is named twice, or stands out of order: give each address once",
    "BadThreshold": "a threshold of {threshold} does not fit {members} members: it must be more than "
    "half of the verifiers, and at most all",
    "BadWindow": "a window of {given:duration} is not between {least:duration} and {most:duration}, "
    "which the deployment fixed: change [windows]",
    "AmountTooLarge": "{amount:amount} is more than the {most:amount} that are possible",
    "AmountTooSmall": "{amount:amount} is less than the {least:amount} that are needed",
    "TransferMismatch": "the token moved {received:amount} where {expected:amount} were sent: tokens "
    "that take a fee on transfers cannot be used",
    "StakeTooLow": "{who} has staked {have:amount}, and {need:amount} are needed",
    "NotEligible": "the run's gate does not admit {worker}: ask its attester for evidence, and name "
    "the file with chain.evidence_file",
    "ComputeCapReached": "the run has reached its compute cap ({gflops} of {cap} gflops): no epoch "
    "opens any more",
    "BudgetExceeded": "{cost:amount} do not fit the {available:amount} that are left: `rollcall run "
    "fund` adds to the budget",
    "SettleWindowOver": "the time for posting epochs ended at {until:moment}",
    "EpochsPending": "epochs {numFinal} to {numPosted} are not final yet: close the run afterwards",
    "EpochNotPending": "epoch {epoch} is not pending: epochs below {numFinal} are final, and "
    "{numPosted} are posted",
    "EpochNotFinal": "epoch {epoch} is not final yet: {numFinal} are",
    "NothingToClaim": "nothing to claim: {earned:amount} earned, {claimed:amount} paid already",
    "BadProof": "the epoch file does not lead to the account root on chain: it is another epoch's, or "
    "not the one that was posted",
    "NoSuchVerifier": "the run has no verifier {index}: `rollcall run show` numbers them",
    "VerifierReplaced": "verifier {index} ({verifier}) has been replaced",
    "VerifierStillStaked": "{verifier} has staked {have:amount} of {need:amount}: a verifier is only "
    "replaced while it is short of stake",
    "AlreadyVerifier": "{verifier} is a verifier of this run already",
    "NoReplacement": "nobody is named for run {runId}: `rollcall run replace {runId} INDEX ADDRESS` "
    "does",
    "QuorumTooSmall": "{signatures} signatures are fewer than the {threshold} that count",
    "WrongSigner": "a signature given for {verifier} is {recovered}'s",
    "TooEarly": "this can be done from {earliest:moment} on",
    # ------------------------------------------------------------ disputes
    "WrongStatus(slashId)": "accusation {slashId:hex} is {status:slash}",
    "WasReported": "a quorum reported {worker} in run {runId}: what no epoch has is not owed to it",
    "NotTheWorker": "{caller} is neither {worker} nor its hot key, and a false claim costs its stake",
    "NotJoined": "{worker} has not joined run {runId}: nothing is owed to it",
    "NotYetDue": "the work of nonce {nonce} is not overdue: epochs may still pay it",
    "NotPayable": "no epoch could pay the work of nonce {nonce}: it is dated when nothing was owed",
    "AlreadyClaimed": "the work of nonce {nonce} is claimed already",
    "NotClaimed": "nothing claims the work of nonce {nonce} any more: it was answered",
    "HeardBefore": "the verifier at place {place} has seat {seat}, whose verdict is among these already",
    "NothingOwed": "run {runId} owes {worker} nothing by receipts",
    "NothingLeft": "run {runId} has {uncommitted:amount} left and its receipts claim {owed:amount}",
    "AlreadyReported": "accusation {slashId:hex} stands already: `rollcall appeal` shows it",
    "BadReportTime": "a report dated {reportedAt:moment} counts from {earliest:moment} until now: have its "
    "verifiers sign a new one",
    "SlashTooLarge": "{asked:amount} are asked, and {left:amount} of the stake are exposed to this run: report "
    "that much",
    "TooManyRounds": "{rounds} demands were made of this epoch, and {most} may be: wait for their answers",
    "NoFault": "what was sent proves no fault: the epoch is true there, and nobody owes anything for it",
    "NotDisputable": "epoch {epoch} of run {runId} is not pending as it was read: it is final, voided or replaced, "
    "so read it anew",
    "WrongDispute": "dispute {disputeId:hex} is decided or of another kind: nothing more is to be answered",
    "NotAttester": "{caller} is not the gate's attester: use the attester's key",
    "NotAccused": "{caller} is neither {worker}, who is accused, nor its hot key",
    "TooLate": "the time for this ended at {deadline:moment}",
    # ------------------------------------------------------------ tokens
    "SafeERC20FailedOperation": "the token {token} refused to move: it is paused, or one of the two accounts is "
    "barred; ask its maker",
    "ERC20InvalidReceiver": "the token cannot be sent to {receiver}: give another address",
    "InsufficientBalance": "{needed} wei are needed, and {balance} are there",
    "Error": "a contract refuses: {reason}",
    "Unknown": "a token or a gate refuses in words of its own ({data:hex}): ask its maker",
    "ERC20InsufficientBalance": "{sender} has {balance:amount}, and {needed:amount} are needed: send "
    "it tokens, or give a smaller amount",
    "ERC20InsufficientAllowance": "the allowance is {allowance:amount}, and {needed:amount} are needed: "
    "another program is spending from the same account; try again",
}


def explain(error: ContractError, token: Token, now: int) -> str:
    """Return a refusal as one line with its remedy."""
    # Two contracts name a refusal `WrongStatus`: their first value tells them apart.
    first = next(iter(error.values), "")
    sentence = SENTENCES.get(f"{error.name}({first})") or SENTENCES.get(error.name)
    if sentence is None:
        return (
            "the ledger refuses what this program sent. If the chain has moved on meanwhile, the same command "
            f"works again; else this program or the ledger is of another version: report {error}"
        )
    return _Sentence(token, now).format(sentence, **error.values)


class _Sentence(Formatter):
    """Formats values by what they are: `{have:amount}`, `{until:moment}`, `{given:duration}`."""

    def __init__(self, token: Token, now: int) -> None:
        self._token = token
        self._now = now

    def format_field(self, value: Any, format_spec: str) -> str:
        kinds: dict[str, Callable[[Any], str]] = {
            "amount": self._token.show,
            "moment": lambda at: moment(at, self._now),
            "duration": duration,
            "hex": lambda word: f"0x{word.hex()}",
            "run": lambda status: LedgerStatus(status).name.lower(),
            "slash": lambda status: SlashStatus(status).name.lower(),
        }
        return kinds[format_spec](value) if format_spec else str(value)

"""Every Redis key, what it holds and how long it lives. The store and Lua build them from the prefix.

All keys of a run share the hash tag `{run}`. Nothing here expires unless it says so: it is the run's record.

    rollcall:runs                 hash    run id → RunSpec JSON
    rollcall:sender               string  the process that sends to chain now; SENDER_SECONDS
    rollcall:used:NONCE           string  a sign-in nonce; twice the clock skew, then stale anyway
    rollcall:probe                string  whether a write is taken, and which commands; a minute
    rollcall:bucket:WHO           hash    token bucket (tokens, at); 60 s after the last request
    rollcall:uploads:WHO          string  bytes of new blobs since the first, of "run RUN" or "all";
                                          UPLOADS_SECONDS
    rollcall:unused:TRAINER       hash    digest → bytes counted of a blob that nothing names, all; UNUSED_BLOBS_SECONDS
    rollcall:{RUN}:state          hash    newest, oldest (version still usable), acked, seq,
                                          consumed (groups in batches), surplus (ready groups that
                                          the caps kept out of the next one), unsettled, posted
                                          (units), replaying (groups), revealed (epochs whose
                                          secret is in a file), final (epochs credited),
                                          freed_until (deadline to which leases were freed), life
                                          (id of the server that the run was restored in), floor
                                          (nonces below which none is given), trouble (why
                                          nothing can be settled)
    rollcall:{RUN}:workers        set     workers ever leased to
    rollcall:{RUN}:worker:ADDR    hash    nonce, accepted_groups, accepted_tokens, excluded, settling,
                                          settled (last nonce), earned, rejected:REASON, dropped,
                                          drop_debt (millionths of a lease), rewarded (accepted groups
                                          with a reward), excluded_for (where not for false work),
                                          last_rejected (by replay: digest and detail),
                                          paused (what its sequential test found; no leases meanwhile),
                                          record_from (accepted_groups when that was),
                                          num_excess (groups rejected beyond those accepted),
                                          leased_until (its newest lease's deadline)
    rollcall:{RUN}:present        zset    worker → when it last asked for a lease
    rollcall:{RUN}:stakes         hash    worker → its stake when it last asked
    rollcall:{RUN}:held:ADDR      set     nonces of open leases
    rollcall:{RUN}:leased:ADDR    hash    nonce → policy version, until a lease is accepted, rejected or
                                          dropped
    rollcall:{RUN}:rewards:VERSION hash   open (leases undecided), ADDR:leased, ADDR:finished, ADDR:sum,
                                          ADDR:squares (of accepted groups' mean rewards); TALLY_SECONDS
    rollcall:{RUN}:looks          zset    worker due for a test of withholding → rewarded when it fell due
    rollcall:{RUN}:open           zset    ADDR:nonce → deadline
    rollcall:{RUN}:idle           zset    those of them that keep nobody out (`rules/pacing.py`)
    rollcall:{RUN}:undecided:ADDR zset    nonces leased or waiting for a verdict
    rollcall:{RUN}:earned:ADDR    zset    digest → nonce of accepted work that no posted epoch has
    rollcall:{RUN}:posted:ADDR    zset    digest → nonce of work in posted epochs that are not final
    rollcall:{RUN}:replay:ADDR    set     digests waiting for a verdict
    rollcall:{RUN}:lease:ID       hash    worker, nonce, signed, used (digest), in_time (the digest of work that came
                                          before the deadline); UNUSED_SECONDS, for ever once a group that
                                          admission took answers it
    rollcall:{RUN}:group:DIGEST   hash    one submission's record (`records.GroupRecord`); UNUSED_SECONDS where
                                          admission rejected it
    rollcall:{RUN}:seen:ROOT      string  lease that first sent these tokens; SEEN_SECONDS
    rollcall:{RUN}:ready          zset    BatchGroup JSON → arrival; admitted and not yet in a batch
    rollcall:{RUN}:flat           hash    groups without signal accepted since a batch was taken: all, ADDR;
                                          since (the epoch of the first lease after it)
    rollcall:{RUN}:waiting        zset    digest → policy version; trainable, waiting for a verdict
    rollcall:{RUN}:audits         zset    DIGEST:slot → when it may be handed out
    rollcall:{RUN}:looked         hash    verifier → rank in `audits` where its last look beyond the oldest ended
    rollcall:{RUN}:asked:DIGEST   set     verifiers that were handed the replay; ASKED_SECONDS
    rollcall:{RUN}:handed:DIGEST  set     all to whom it was ever handed: they may judge; HANDED_SECONDS
    rollcall:{RUN}:slots:DIGEST   hash    slot → verifier holding it
    rollcall:{RUN}:seals:DIGEST   hash    verifier → Seal JSON
    rollcall:{RUN}:unopened:ADDR  zset    digest of a group whose vote is closed and lacks this verifier's verdict
                                          → since when
    rollcall:{RUN}:votes:DIGEST   hash    verifier → outcome
    rollcall:{RUN}:verdicts:DIGEST hash   verifier → Verdict JSON
    rollcall:{RUN}:findings:DIGEST hash   verifier → what its figures justify (`protocol/checks/evidence.py`)
    rollcall:{RUN}:gross:ADDR     set     digests of a worker's groups with gross evidence
    rollcall:{RUN}:alarms:ADDR    set     verifiers whose sequential test of the worker alarmed; HANDED_SECONDS
    rollcall:{RUN}:ballots:DIGEST hash    verifier → its vote's event, until all may see it
    rollcall:{RUN}:verifier:ADDR  hash    accepted, rejected, undecided, odd,
                                          canaries_failed, failed_on (digest that cost the vote)
    rollcall:{RUN}:splits         hash    "ADDR ADDR" → groups on which these two left no quorum
    rollcall:{RUN}:voteless       set     verifiers that failed a canary
    rollcall:{RUN}:accusations    set     DIGEST:ADDR verifiers that failed a second one, to be reported
    rollcall:{RUN}:canaries       hash    commitment → `records.Canary` JSON
    rollcall:{RUN}:canary_groups  zset    digest → when the canary came in, until all have judged it
    rollcall:{RUN}:spent_canaries set     canary workers to be opened: one of theirs was failed
    rollcall:{RUN}:batches        hash    step → Batch JSON
    rollcall:{RUN}:policies       hash    version → SignedManifest JSON
    rollcall:{RUN}:lineage        hash    version → digest of its step record, a blob
    rollcall:{RUN}:epochs         hash    epoch → `records.Epoch` JSON
    rollcall:{RUN}:work:N         string  epoch N's groups, in MessagePack, until it is final
    rollcall:{RUN}:signed:N:D     hash    verifier → signature of epoch N's header with digest D
    rollcall:{RUN}:reports        hash    DIGEST, or DIGEST:ADDR about a verifier → `records.Report` JSON
    rollcall:{RUN}:accused:KEY    hash    of a report: verifier → its signature
    rollcall:{RUN}:events         stream  capped at NUM_EVENTS_KEPT
"""

from typing import Final

RUNS: Final = "rollcall:runs"
PROBE: Final = "rollcall:probe"
SENDER: Final = "rollcall:sender"

SEEN_SECONDS: Final = 7 * 86_400
"""Longer than any epoch stays disputable; afterwards a copy of old tokens is off-policy anyway."""
ASKED_SECONDS: Final = 86_400
HANDED_SECONDS: Final = 7 * 86_400
"""How late a verdict may come: longer than any verifier's restart."""
UNUSED_SECONDS: Final = 2 * 86_400
"""A day longer than the longest lease: until then whoever sent a rejected group may ask why."""
NUM_EVENTS_KEPT: Final = 100_000
"""About 25 MB; a demo of 100 steps makes a tenth of it."""
SENDER_SECONDS: Final = 60
UPLOADS_SECONDS: Final = 86_400
UNUSED_BLOBS_SECONDS: Final = 30 * 86_400
"""How long blobs that nothing names take room from their trainer: it need not answer for one crash for ever."""
TALLY_SECONDS: Final = 30 * 86_400
"""A test of withholding goes back 512 versions; a version that is older than this adds little."""


def run_prefix(run_id: int) -> str:
    """Return what every key of a run begins with."""
    return f"rollcall:{{{run_id}}}:"


def used_nonce(nonce: str) -> str:
    return f"rollcall:used:{nonce}"


def uploads(who: str) -> str:
    return f"rollcall:uploads:{who}"


def unused(trainer: str) -> str:
    return f"rollcall:unused:{trainer}"


def bucket(who: str) -> str:
    return f"rollcall:bucket:{who}"

"""Every Redis key, what it holds and how long it lives. Lua builds the same names from the prefix.

All keys of a run share the hash tag `{run}`, so that a cluster keeps them in one slot and a script
may touch them all. Nothing here expires unless it says so: it is the run's record.

    rollcall:runs                 hash    run id → RunSpec JSON
    rollcall:used:NONCE           string  a sign-in nonce; twice the clock skew, then stale anyway
    rollcall:bucket:WHO           hash    token bucket (tokens, at); 60 s after the last request
    rollcall:{RUN}:state          hash    newest, oldest (version still usable), acked, seq,
                                          consumed (groups in batches), unsettled, posted
                                          (units), replaying (groups), revealed (epochs whose
                                          secret is in a file), final (epochs credited)
    rollcall:{RUN}:workers        set     workers ever leased to
    rollcall:{RUN}:worker:ADDR    hash    nonce, accepted_groups, accepted_tokens, excluded, settling,
                                          settled (last nonce), earned, rejected:REASON
    rollcall:{RUN}:held:ADDR      set     nonces of open leases
    rollcall:{RUN}:open           zset    ADDR:nonce → deadline
    rollcall:{RUN}:undecided:ADDR zset    nonces leased or waiting for a verdict
    rollcall:{RUN}:earned:ADDR    zset    digest → nonce of accepted work that no posted epoch has
    rollcall:{RUN}:posted:ADDR    zset    digest → nonce of work in posted epochs that are not final
    rollcall:{RUN}:replay:ADDR    set     digests waiting for a verdict
    rollcall:{RUN}:lease:ID       hash    worker, nonce, deadline, engine, signed, used (digest)
    rollcall:{RUN}:group:DIGEST   hash    one submission's record (`records.Group`)
    rollcall:{RUN}:seen:ROOT      string  lease that first sent these tokens; SEEN_SECONDS
    rollcall:{RUN}:ready          zset    BatchGroup JSON → arrival; admitted and not yet in a batch
    rollcall:{RUN}:waiting        zset    digest → policy version; trainable, waiting for a verdict
    rollcall:{RUN}:audits         zset    DIGEST:slot → when it may be handed out
    rollcall:{RUN}:asked:DIGEST   set     verifiers that were handed the replay; ASKED_SECONDS
    rollcall:{RUN}:slots:DIGEST   hash    slot → verifier holding it
    rollcall:{RUN}:votes:DIGEST   hash    verifier → outcome
    rollcall:{RUN}:verdicts:DIGEST hash   verifier → Verdict JSON
    rollcall:{RUN}:batches        hash    step → Batch JSON
    rollcall:{RUN}:policies       hash    version → SignedManifest JSON
    rollcall:{RUN}:lineage        hash    version → digest of its step record, a blob
    rollcall:{RUN}:epochs         hash    epoch → `records.Epoch` JSON
    rollcall:{RUN}:signed:N:D     hash    verifier → signature of epoch N's header with digest D
    rollcall:{RUN}:reports        hash    digest → `records.Report` JSON
    rollcall:{RUN}:accused:DIGEST hash    verifier → report signature
    rollcall:{RUN}:events         stream  capped at NUM_EVENTS_KEPT
    rollcall:{RUN}:settler        string  who settles now; SETTLER_SECONDS
    rollcall:{RUN}:slasher        string  who slashes now; SETTLER_SECONDS
    rollcall:{RUN}:renewer        string  who renews the permit now; SETTLER_SECONDS
    rollcall:{RUN}:disputer       string  who examines postings now; SETTLER_SECONDS
"""

from typing import Final

RUNS: Final = "rollcall:runs"

SEEN_SECONDS: Final = 7 * 86_400
"""Longer than any epoch stays disputable; afterwards a copy of old tokens is off-policy anyway."""
ASKED_SECONDS: Final = 86_400
NUM_EVENTS_KEPT: Final = 100_000
"""About 25 MB; a demo of 100 steps makes a tenth of it."""
SETTLER_SECONDS: Final = 60


def run_prefix(run_id: int) -> str:
    """Return what every key of a run begins with."""
    return f"rollcall:{{{run_id}}}:"


def used_nonce(nonce: str) -> str:
    return f"rollcall:used:{nonce}"


def bucket(who: str) -> str:
    return f"rollcall:bucket:{who}"

"""Consensus constants. Each gives its unit, the reason for its value, and what breaks if it changes.

Changing any of them is a new `PROTOCOL_VERSION`: old and new parties would disagree on bytes.
"""

from typing import Final

PROTOCOL_VERSION: Final = 4
"""Part of every RunSpec; parties with another number refuse the run instead of disagreeing later."""

DOMAIN_NAME: Final = "Rollcall"
DOMAIN_VERSION: Final = "1"
"""EIP-712 domain, with the chain id and the RunLedger's address. The ledger hashes the same."""

NUM_TOKENS_PER_UNIT: Final = 1
"""Completion tokens per paid unit. Units, not groups, are paid: a group of long answers costs more."""

MAX_CLOCK_SKEW_SECONDS: Final = 120
"""How far a signed time (a worker's `submitted_at`, a verifier's `decided_at`, a sign-in's time of
issue) may be from the orchestrator's clock, either way. NTP keeps common machines within a second;
a laptop that just woke is within two minutes."""

MAX_GROUP_SIZE: Final = 256
"""Rollouts of one task."""
MAX_COMPLETION_TOKENS: Final = 65_536
"""Tokens of one rollout."""
MAX_PROMPT_TOKENS: Final = 32_768
"""Tokens of one prompt. These three bound what one message may make a receiver allocate: a RunSpec
beyond them is refused."""

MAX_SUBMISSION_BYTES: Final = 8 << 20
MAX_SUBMISSION_INFLATED_BYTES: Final = 64 << 20
"""Compressed and inflated size of one submission. 256 rollouts × 16,384 tokens × 8 bytes is 32 MiB;
the inflated cap is checked before anything is allocated, which is what stops a compressed bomb."""

NANO: Final = 1_000_000_000
"""Margins and gaps cross the wire as integers in billionths of a nat: in float32 an honest token's gap
is about 2e-6 nats, which millionths could not tell from 1e-6."""

MARGIN_CAP_NATS: Final = 1.0
"""Margins are capped at 1 nat per token before they are summed, so that one token cannot carry a group
(a single flipped near-tie can reach any value; a cheat shows on many tokens)."""

SURPRISAL_FLOOR_NATS: Final = 1e-5
"""Added to a surprisal (−log-probability) before its logarithm when a replay compares two of them.
The gap is |log(floor + recomputed) − log(floor + claimed)|, in nats: it shows another model on sure
and open tokens alike, while the plain difference sees only the open ones (by plain differences one int4
group in five of the starting model hides among the honest). Surprisals must be exact near 0
(`rollout_worker/engines/likelihood.py`): from a float32 `logit − logsumexp` alone, whose steps are 2e-6,
honest float32 work had a mean gap of 0.0027 instead of 0.000002."""

MICRO: Final = 1_000_000
"""Shares, temperatures and counts of mismatches cross the wire as integers in millionths of one.
Scores are ten-thousandths: `environments/base.py` owns `FULL_SCORE`, so that an environment's digest
covers it."""

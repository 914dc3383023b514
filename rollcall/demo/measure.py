"""Measure a policy's accuracy on held-out problems, from published data alone.

One completion per problem at the run's temperature, sampled by the protocol's seeded stream, so anyone
who repeats it gets the same tokens. The policies are fetched as a worker fetches them.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from audit.tasks import tokenizer_of
from client.policies import PolicyCache, write_model_folder
from client.public import Reader
from protocol.canonical import keccak256
from protocol.environments.base import FULL_SCORE, Environment
from protocol.environments.decoding import Decoder
from protocol.environments.registry import environment
from protocol.run import RunSpec
from protocol.signing import Domain
from protocol.wire import checksum_address
from rollcall.cli.launch import Launched
from rollout_worker.engines.base import Request
from rollout_worker.engines.registry import open_engine


def measure_accuracy(
    reader: Reader, launched: Launched, folder: Path, *, versions: Sequence[int]
) -> dict[int, float]:
    """Return the share of held-out problems solved by each version."""
    import torch

    # Threads that share their cores with a market's roles mostly wait for one another: two took 10 s
    # for 512 problems, one takes 0.4 s.
    torch.set_num_threads(1)
    spec = launched.spec
    domain = Domain(launched.deployment.chain_id, checksum_address(launched.deployment.ledger))
    store = PolicyCache(reader, run_id=launched.run_id, spec=spec, domain=domain, keep=2)
    problems = environment(spec.environment, spec.environment_config)
    tokenizer = tokenizer_of(reader.blob(spec.tokenizer_digest))
    requests = held_out_requests(problems, tokenizer, spec)
    found: dict[int, float] = {}
    engine = None
    for version in versions:
        policy = store.version(version)
        if engine is None:
            write_model_folder(folder, reader.blob(spec.model_config_digest), policy.weights)
            engine = open_engine(
                "transformers",
                folder,
                dtype=spec.compute_dtype,
                max_model_len=spec.max_model_len,
                max_sequences=256,
            )
        engine.load(policy.weights)
        decoder = Decoder(tokenizer, spec.eos_token_ids)
        texts = [decoder.text(done.tokens.tolist()) for done in engine.generate(requests)]
        solved = sum(
            problems.score(problems.problem(spec.held_out_start + i), text) == FULL_SCORE
            for i, text in enumerate(texts)
        )
        found[version] = solved / len(texts)
    if engine is not None:
        engine.close()
    return found


def held_out_requests(problems: Environment, tokenizer: Tokenizer, spec: RunSpec) -> list[Request]:
    """Return one request per held-out problem, seeded by its index."""
    return [
        Request(
            prompt=tuple(tokenizer.encode(problems.problem(index).prompt).ids),
            seed=int.from_bytes(keccak256(b"held out" + index.to_bytes(8, "big"))[:8], "big") >> 1,
            temperature=spec.temperature,
            max_tokens=spec.max_tokens,
            eos_token_ids=spec.eos_token_ids,
        )
        for index in range(spec.held_out_start, spec.held_out_start + spec.num_held_out)
    ]

"""`python -m rollout_worker [verify] --config FILE`: one role, from its file. `rollcall` does more."""

import argparse
import sys
from pathlib import Path

from rollout_worker.config import (
    ConfigError,
    VerifierConfig,
    WorkerConfig,
    key_from_environment,
    read,
)


def main() -> None:
    """Start the role that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m rollout_worker")
    parser.add_argument("role", nargs="?", choices=("work", "verify"), default="work")
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        if arguments.role == "work":
            from rollout_worker import loop

            worker = read(WorkerConfig, arguments.config)
            loop.main(worker, key_from_environment(worker.key_env))
        else:
            from rollout_worker import verifier

            config = read(VerifierConfig, arguments.config)
            verifier.main(config, key_from_environment(config.key_env))
    except ConfigError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

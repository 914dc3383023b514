"""`python -m devchain --port N --state DIR`: a chain on loopback that survives `kill -9`."""

import argparse
import fcntl
import re
import signal
import sys
from pathlib import Path
from types import FrameType

from eth_account.hdaccount import HDPath, seed_from_mnemonic
from eth_keys.datatypes import PrivateKey

from devchain.chain import CHAIN_ID, WALL_CLOCK
from devchain.journal import ChainFile, JournalMismatch
from devchain.rpc import Rpc
from devchain.server import DevChainServer

MNEMONIC = "test test test test test test test test test test test junk"
"""The mnemonic every development chain prints. Its keys are public: never fund them elsewhere."""

NUM_ACCOUNTS = 10


def development_key(index: int) -> bytes:
    """Return the private key of funded account `index`."""
    seed = seed_from_mnemonic(MNEMONIC, "")
    return bytes(HDPath(f"m/44'/60'/0'/0/{index}").derive(seed))


def development_address(index: int) -> str:
    """Return the address of funded account `index`."""
    return str(PrivateKey(development_key(index)).public_key.to_checksum_address())


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8545, help="0 picks a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps the chain")
    parser.add_argument("--fund", action="append", default=[], help="one more funded address")
    options = parser.parse_args()
    for address in options.fund:
        if not re.fullmatch("0x[0-9a-fA-F]{40}", address):
            sys.exit(f"✗ --fund {address} is not an address: 0x and 40 hex digits")
    funded = [*(development_address(index) for index in range(NUM_ACCOUNTS)), *options.fund]
    try:
        journal = ChainFile(options.state)
        lock = (options.state / "lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
        chain = journal.open(funded, int(WALL_CLOCK()))
    except JournalMismatch as error:
        sys.exit(f"✗ {error}")
    except BlockingIOError:
        sys.exit(
            f"✗ {options.state} is in use by another process: stop that one, or name another with --state"
        )
    except OSError as error:
        sys.exit(f"✗ {options.state} keeps no chain ({error.strerror}): name another with --state")
    try:
        server = DevChainServer(Rpc(chain, journal), options.port)
    except (OSError, OverflowError) as error:
        sys.exit(f"✗ cannot listen on port {options.port} ({error}): name another with --port")
    signal.signal(signal.SIGTERM, _interrupt)
    print(
        f"mnemonic: {MNEMONIC} (public: its keys are for tests alone)\nchain {CHAIN_ID}, block {chain.head.number}\n{server.url}",
        flush=True,
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        journal.close()


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()

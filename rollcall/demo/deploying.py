"""Deploy the ledger on a development chain, once, and hand out tokens and gas.

No command deploys a real chain's ledger, which takes care: there the file with its addresses is copied.
"""

from collections.abc import Callable, Sequence

from eth_account.signers.local import LocalAccount

from ledger.amounts import token_of
from ledger.deployment import Deployment, LedgerTerms, deploy
from ledger.errors import ChainUnreachable, LedgerError, NodeRefused
from ledger.ledger import Ledger
from ledger.node import Node
from protocol.user_error import UserError, hosts_only, one_line
from rollcall.cli.desk import read_deployment
from rollcall.cli.launch_config import LaunchConfig, Windows
from rollcall.cli.times import duration

Say = Callable[[str], None]
DEVELOPMENT_GAS_WEI = 10**22


def ensure_deployment(config: LaunchConfig, account: LocalAccount, say: Say) -> Deployment:
    """Return the contracts' addresses; on a development chain deploy them once, and hand out tokens."""
    if config.deployment.exists():
        return read_deployment(config.deployment)
    if config.deploy == "never":
        raise UserError(
            f"no deployment at {config.deployment}: copy the file of an existing ledger there, or "
            'on a development chain set deploy = "with_test_token"'
        )
    require_windows(config.windows)
    give_gas(config.rpc_url, (account.address, *config.endow))
    try:
        made = deploy(Node.at(config.rpc_url), account, terms_of(config))
        ledger = Ledger.connect(config.rpc_url, made, account)
        token = token_of(ledger, made.token)
        ledger.mint(account.address, token.exactly(config.budget))
        for address in config.endow:
            ledger.mint(address, token.exactly(config.min_stake))
    except LedgerError as error:
        raise UserError(
            f"no ledger could be deployed at {hosts_only(config.rpc_url)}: {one_line(error)}"
        ) from error
    config.deployment.parent.mkdir(parents=True, exist_ok=True)
    made.save(config.deployment)
    say(f"ledger deployed at {made.ledger} on chain {made.chain_id}")
    return made


def give_gas(rpc_url: str, addresses: Sequence[str]) -> None:
    """Give accounts the chain's coin if the node can (anvil); otherwise they must have some."""
    node = Node.at(rpc_url)
    try:
        for address in addresses:
            node.ask("anvil_setBalance", address, hex(DEVELOPMENT_GAS_WEI))
    except NodeRefused:
        return
    except ChainUnreachable as error:
        raise UserError(f"{one_line(error)}: start one first") from error


def terms_of(config: LaunchConfig) -> LedgerTerms:
    """Return the terms that the deployment fixes forever."""
    windows = config.windows
    return LedgerTerms(
        treasury=config.treasury,
        arbiter=config.arbiter,
        guardian=config.guardian,
        unbond_seconds=windows.unbond,
        revoke_seconds=windows.revoke,
        min_window_seconds=windows.least,
        appeal_seconds=windows.appeal,
        ruling_seconds=windows.ruling,
        response_seconds=windows.response,
        timelock_seconds=windows.timelock,
        warn_gflops=config.warn_gflops,
    )


def require_windows(windows: Windows) -> None:
    """Require that stake outlasts every way to lose it; the contracts would refuse half-way."""
    if 2 * (windows.response + windows.ruling) >= windows.unbond:
        raise UserError(
            f"windows.unbond ({duration(windows.unbond)}) must be more than twice windows.response + "
            f"windows.ruling ({duration(windows.response + windows.ruling)}): raise the first"
        )
    if max(windows.appeal, 2 * windows.challenge) >= windows.unbond:
        raise UserError(
            f"windows.unbond ({duration(windows.unbond)}) must be more than windows.appeal "
            f"({duration(windows.appeal)}) and twice windows.challenge "
            f"({duration(windows.challenge)}): raise the first"
        )

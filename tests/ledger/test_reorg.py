"""The sender and the cursor on a real anvil: re-organisations, lost and replaced transactions, restarts."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from web3 import Web3

from ledger.artifact import artifact
from ledger.errors import (
    BlocksRemoved,
    LedgerError,
    NotEnoughGas,
    TransactionPending,
    TransactionReplaced,
)
from ledger.events import LogCursor
from ledger.node import MinedTransaction, Node
from ledger.sender import Sender
from ledger.transactions import Waits
from tests.stage.anvil import Anvil, anvil, lossy, needs_anvil, rich
from tests.stage.terms import key
from tests.stage.waiting import wait_until

pytestmark = needs_anvil


class Purse:
    """A test token on anvil, and how to mint one unit of it to oneself."""

    def __init__(self, w3: Web3, sender: Sender) -> None:
        self._compiled = artifact("TestToken")
        factory = w3.eth.contract(abi=self._compiled.abi, bytecode=self._compiled.bytecode)
        made = sender.send(None, Web3.to_bytes(hexstr=factory.constructor().data_in_transaction))
        assert made.contract_address is not None
        self.address = made.contract_address
        self.owner = sender.address
        self._w3 = w3

    def mint(self, amount: int = 1) -> tuple[str, bytes]:
        call = self._token(self._w3).functions.mint(self.owner, amount)
        return self.address, Web3.to_bytes(hexstr=call._encode_transaction_data())

    def give(self, amount: int) -> tuple[str, bytes]:
        call = self._token(self._w3).functions.transfer(key("bob").address, amount)
        return self.address, Web3.to_bytes(hexstr=call._encode_transaction_data())

    def balance(self, w3: Web3 | None = None) -> int:
        return self.balance_of(self.owner, w3)

    def balance_of(self, account: str, w3: Web3 | None = None) -> int:
        return int(self._token(w3 or self._w3).functions.balanceOf(account).call())

    def _token(self, w3: Web3) -> Any:
        return w3.eth.contract(address=self.address, abi=self._compiled.abi)


@pytest.fixture
def node() -> Iterator[Anvil]:
    with anvil() as process:
        yield process


def impatient(
    rpc: Node, *, seconds: float = 300.0, confirmations: int = 0, bump: float = 60.0
) -> Sender:
    """Return a sender that need not wait as long as Ethereum's blocks take."""
    patience = Waits(rebroadcast=0.5, bump=bump, look=0.2, doubt=1.0)
    return Sender(
        *(rpc, rich()),
        timeout_seconds=seconds,
        confirmations=confirmations,
        patience=patience,
        max_gas_gwei=10_000,
    )


class Background:
    """A send in a thread of its own, with what came of it."""

    def __init__(self, send: Callable[[], MinedTransaction]) -> None:
        self.outcome: MinedTransaction | LedgerError | None = None
        self._thread = threading.Thread(target=self._run, args=(send,), daemon=True)
        self._thread.start()

    def _run(self, send: Callable[[], MinedTransaction]) -> None:
        try:
            self.outcome = send()
        except LedgerError as error:
            self.outcome = error

    def join(self) -> MinedTransaction | LedgerError | None:
        self._thread.join()
        return self.outcome

    @property
    def is_waiting(self) -> bool:
        return self._thread.is_alive()


def waiting(node: Anvil) -> list[dict[str, Any]]:
    """Return the transactions in anvil's pool."""
    pool = node.ask("txpool_content")
    return [
        transaction
        for part in ("pending", "queued")
        for by_nonce in pool[part].values()
        for transaction in by_nonce.values()
    ]


def test_an_answer_dropped_on_the_wire_mints_once(node: Anvil) -> None:
    with lossy(node) as proxy:
        rpc = Node.at(proxy.url, timeout_seconds=20.0)
        sender = Sender(rpc, rich())
        purse = Purse(rpc.w3, sender)
        proxy.lost["eth_sendRawTransaction"] = 3
        sender.send(*purse.mint(5))
        assert proxy.asked.count("eth_sendRawTransaction") == 4
        assert purse.balance() == 5
        proxy.lost |= {"eth_getTransactionReceipt": 2, "eth_estimateGas": 2, "eth_gasPrice": 2}
        sender.send(*purse.mint(5))
        assert purse.balance() == 10


def test_what_may_have_been_sent_is_never_called_unsent(node: Anvil) -> None:
    """Every answer is lost, and the transaction is mined all the same: saying "not sent" would pay twice."""
    with lossy(node) as proxy:
        rpc = Node.at(proxy.url, timeout_seconds=20.0)
        purse = Purse(rpc.w3, Sender(rpc, rich()))
        proxy.lost["eth_sendRawTransaction"] = 10**6
        careful = Sender(rpc, rich(), timeout_seconds=0.3)
        with pytest.raises(TransactionPending, match="may yet be mined: look for it"):
            careful.send(*purse.mint())
    assert purse.balance(node.w3) == 1


def test_a_receipt_counts_only_under_its_confirmations(node: Anvil) -> None:
    sender = impatient(node.rpc, confirmations=3)
    purse = Purse(node.w3, Sender(node.rpc, rich()))
    send = Background(lambda: sender.send(*purse.mint()))
    wait_until(lambda: purse.balance() == 1)
    node.ask("anvil_mine", 2)
    time.sleep(0.3)
    assert send.is_waiting
    node.ask("anvil_mine", 1)
    receipt = send.join()
    assert isinstance(receipt, MinedTransaction)
    assert node.w3.eth.block_number == receipt.block + 3


def test_a_transaction_that_a_reorganisation_takes_back_is_mined_again_once(node: Anvil) -> None:
    sender = impatient(node.rpc, confirmations=3)
    purse = Purse(node.w3, Sender(node.rpc, rich()))
    send = Background(lambda: sender.send(*purse.mint()))
    wait_until(lambda: purse.balance() == 1)
    node.ask("anvil_reorg", 1, [])
    assert purse.balance() == 0, "the attack: the block that held the payment is gone"
    wait_until(lambda: purse.balance() == 1)
    node.ask("anvil_mine", 3)
    assert isinstance(send.join(), MinedTransaction)
    assert purse.balance() == 1


def test_without_confirmations_the_next_send_brings_back_what_it_rests_on(node: Anvil) -> None:
    """The attack: what is sent next spends what was lost, so its gas estimate alone would refuse it."""
    sender = impatient(node.rpc)
    purse = Purse(node.w3, sender)
    sender.send(*purse.mint(10))
    sender.send(*purse.mint(100))
    node.ask("anvil_reorg", 2, [])
    assert purse.balance() == 0
    with pytest.raises(LedgerError, match="ERC20InsufficientBalance"):
        impatient(node.rpc).send(*purse.give(110))
    sender.send(*purse.give(110))
    assert purse.balance() == 0
    assert purse.balance_of(key("bob").address) == 110


def test_a_nonce_that_was_lost_behind_a_waiting_transaction_is_offered_with_it(
    node: Anvil,
) -> None:
    """Without the earlier one, the later one could never be mined."""
    sender = impatient(node.rpc)
    purse = Purse(node.w3, sender)
    sender.send(*purse.mint(10))
    node.ask("evm_setAutomine", False)
    send = Background(lambda: sender.send(*purse.mint(100)))
    wait_until(lambda: len(waiting(node)) == 1)
    node.ask("anvil_reorg", 1, [])
    assert purse.balance() == 0
    wait_until(lambda: len(waiting(node)) == 2)
    node.ask("evm_mine")
    assert isinstance(send.join(), MinedTransaction)
    assert purse.balance() == 110


def test_a_transaction_that_the_node_dropped_is_offered_again(node: Anvil) -> None:
    sender = impatient(node.rpc)
    purse = Purse(node.w3, sender)
    node.ask("evm_setAutomine", False)
    send = Background(lambda: sender.send(*purse.mint()))
    wait_until(lambda: len(waiting(node)) == 1)
    node.ask("anvil_dropTransaction", waiting(node)[0]["hash"])
    assert waiting(node) == []
    wait_until(lambda: len(waiting(node)) == 1)
    node.ask("evm_mine")
    assert isinstance(send.join(), MinedTransaction)
    assert purse.balance() == 1


def test_a_transaction_priced_too_low_is_offered_for_more_and_mined_once(node: Anvil) -> None:
    sender = impatient(node.rpc, bump=1.0)
    purse = Purse(node.w3, sender)
    node.ask("evm_setAutomine", False)
    send = Background(lambda: sender.send(*purse.mint()))
    wait_until(lambda: len(waiting(node)) == 1)
    first = waiting(node)[0]
    node.ask("anvil_setNextBlockBaseFeePerGas", hex(4 * int(first["maxFeePerGas"], 16)))
    wait_until(lambda: bool(waiting(node)) and waiting(node)[0]["hash"] != first["hash"])
    assert waiting(node)[0]["nonce"] == first["nonce"]
    node.ask("evm_setAutomine", True)
    wait_until(lambda: node.ask("evm_mine") is not None and not send.is_waiting)
    receipt = send.join()
    assert isinstance(receipt, MinedTransaction)
    assert receipt.transaction_hash != first["hash"]
    assert purse.balance() == 1


def test_a_transaction_replaced_by_another_is_named_and_not_sent_again(node: Anvil) -> None:
    sender = impatient(node.rpc)
    purse = Purse(node.w3, sender)
    node.ask("evm_setAutomine", False)
    send = Background(lambda: sender.send(*purse.mint()))
    wait_until(lambda: len(waiting(node)) == 1)
    nonce = int(waiting(node)[0]["nonce"], 16)
    other = {"to": key("bob").address, "value": 1, "gas": 21_000, "nonce": nonce, "chainId": 31337}
    signed = rich().sign_transaction(
        {**other, "maxFeePerGas": 10**12, "maxPriorityFeePerGas": 10**12}
    )
    node.w3.eth.send_raw_transaction(signed.raw_transaction)
    node.ask("evm_mine")
    outcome = send.join()
    assert isinstance(outcome, TransactionReplaced)
    assert outcome.nonce == nonce
    assert "Nothing was sent again" in str(outcome)
    node.ask("evm_setAutomine", True)
    assert purse.balance() == 0
    sender.send(*purse.mint(7))
    assert purse.balance() == 7


def test_a_nonce_taken_while_an_answer_was_lost_is_not_answered_by_a_second_payment(
    node: Anvil,
) -> None:
    """The sender cannot know which of the two was mined: here its own never was, so it says so."""
    with lossy(node) as proxy:
        rpc = Node.at(proxy.url, timeout_seconds=20.0)
        sender = impatient(rpc)
        purse = Purse(rpc.w3, sender)
        node.ask("evm_setAutomine", False)
        proxy.lost["eth_sendRawTransaction"] = 10**6
        send = Background(lambda: sender.send(*purse.mint()))
        wait_until(lambda: len(waiting(node)) == 1)
        mine = waiting(node)[0]
        other = {"to": key("bob").address, "value": 1, "gas": 21_000, "chainId": 31337}
        fees = {"maxFeePerGas": 10**12, "maxPriorityFeePerGas": 10**12}
        signed = rich().sign_transaction({**other, **fees, "nonce": int(mine["nonce"], 16)})
        node.w3.eth.send_raw_transaction(signed.raw_transaction)
        node.ask("evm_mine")
        proxy.lost.clear()
        assert isinstance(send.join(), TransactionReplaced)
        node.ask("evm_setAutomine", True)
    assert purse.balance(node.w3) == 0


def test_a_node_killed_with_a_transaction_in_its_pool_gets_it_again(tmp_path: Path) -> None:
    with anvil("--no-mining", state=tmp_path / "state.json") as node:
        sender = impatient(node.rpc)
        made = Background(lambda: Purse(node.w3, sender))  # type: ignore[arg-type,return-value]
        wait_until(lambda: len(waiting(node)) == 1)
        node.ask("evm_mine")
        purse: Any = made.join()
        send = Background(lambda: sender.send(*purse.mint()))
        wait_until(lambda: len(waiting(node)) == 1)
        node.end(signal.SIGINT)
        time.sleep(0.3)
        assert send.is_waiting
        node.start()
        wait_until(lambda: len(waiting(node)) == 1)
        node.ask("evm_mine")
        assert isinstance(send.join(), MinedTransaction)
        assert purse.balance() == 1


def test_an_account_without_gas_is_told_how_much_and_where(node: Anvil) -> None:
    purse = Purse(node.w3, Sender(node.rpc, rich()))
    poor = Sender(node.rpc, key("pauper"))
    with pytest.raises(NotEnoughGas, match=r"send it at least .* on chain 31337") as caught:
        poor.send(*purse.mint())
    node.ask("anvil_setBalance", poor.address, hex(caught.value.need))
    poor.send(*purse.mint())
    assert purse.balance() == 1


def names(cursor: LogCursor) -> list[int]:
    """Return the amounts of the transfers that a cursor returns."""
    return [event.values["value"] for event in cursor.poll() if event.name == "Transfer"]


def test_a_cursor_reports_what_a_reorganisation_took_back_and_reads_what_came_instead(
    node: Anvil,
) -> None:
    sender = Sender(node.rpc, rich())
    purse = Purse(node.w3, sender)
    cursor = LogCursor(node.rpc, [purse.address], 0)
    assert names(cursor) == []
    for amount in (1, 2, 3):
        sender.send(*purse.mint(amount))
        assert names(cursor) == [amount]
    head = node.w3.eth.block_number
    node.ask("anvil_reorg", 2, [])
    with pytest.raises(BlocksRemoved, match=f"took back blocks {head - 1} to {head}:"):
        cursor.poll()
    sender.send(*purse.mint(7))
    assert sorted(names(cursor)) == [2, 3, 7], "the sender brought two back, in other blocks"


def test_without_the_hashes_a_cursor_would_go_on_in_another_history(node: Anvil) -> None:
    """The attack on the test above: a block number alone still fits, and the loss is not seen."""
    sender = Sender(node.rpc, rich())
    purse = Purse(node.w3, sender)
    sender.send(*purse.mint(1))
    careless = LogCursor(node.rpc, [purse.address], node.w3.eth.block_number + 1)
    node.ask("anvil_reorg", 1, [])
    assert careless.poll() == []
    assert purse.balance() == 0


def test_a_cursor_on_disk_goes_on_where_it_was_committed(node: Anvil, tmp_path: Path) -> None:
    path = tmp_path / "cursor.json"
    sender = Sender(node.rpc, rich())
    purse = Purse(node.w3, sender)

    def cursor() -> LogCursor:
        return LogCursor(node.rpc, [purse.address], 0, path=path)

    sender.send(*purse.mint(1))
    first = cursor()
    assert names(first) == [1]
    assert names(cursor()) == [1], "polled, but a crash came before it was dealt with"
    first.commit()
    sender.send(*purse.mint(2))
    second = cursor()
    assert names(second) == [2]
    second.commit()
    node.ask("anvil_reorg", 1, [])
    for _ in range(2):  # until it is committed, every restart hears of it
        with pytest.raises(BlocksRemoved):
            cursor().poll()
    path.write_text("{")
    with capture_logs() as said:
        damaged = cursor()
    assert [entry["event"] for entry in said] == ["file is damaged"]
    assert names(damaged) == names(LogCursor(node.rpc, [purse.address], 0)), "read anew"
    second.commit()
    with pytest.raises(LedgerError, match="another deployment"):
        LogCursor(node.rpc, [key("bob").address], 0, path=path)

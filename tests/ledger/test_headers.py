"""A header that its poster hides is found all the same: in wrapped call data, or in the node's trace."""

from dataclasses import fields, replace
from pathlib import Path

from audit.chain_facts import domain_of
from audit.hidden.headers import header_in, posted_header
from audit.history import History, Posted
from audit.watcher import Mandate, Watcher
from ledger.deployment import deploy
from ledger.ledger import Ledger
from ledger.sender import Sender
from ledger.state import Fault, RunParams
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader
from protocol.signing import sign
from tests.stage.anvil import anvil, needs_anvil, rich
from tests.stage.books import NUM_PARAMETERS, Book, header_of
from tests.stage.world import BUDGET, RATE, SECRET, STAKE, TERMS, WINDOW


def words_of(header: EpochHeader) -> bytes:
    values = (getattr(header, entry.name) for entry in fields(EpochHeader))
    return b"".join(v if isinstance(v, bytes) else v.to_bytes(32, "big") for v in values)


def posting_of(header: EpochHeader) -> Posted:
    return Posted(
        run_id=header.run_id,
        epoch=header.epoch,
        generation=header.generation,
        header_hash=header.struct_hash(),
        account_root=header.account_root,
        data_hash=header.data_hash,
        uri="",
        secret=SECRET,
        cost=0,
        final_at=0,
        transaction="0x",
    )


def test_a_header_is_found_anywhere_in_call_data_and_no_other_is() -> None:
    word = keccak256(b"root")
    header = EpochHeader(3, 0, 1, word, word, word, 4, 2, 9, 9, 1, word)
    posted, words = posting_of(header), words_of(header)
    assert header_in(b"\x12\x34\x56\x78" + words + b"tail", posted) == header
    assert header_in(bytes(77) + words, posted) == header
    decoy = words[:64] + bytes(32 * 10)
    assert header_in(decoy + words, posted) == header
    assert header_in(decoy + words[:-1], posted) is None


def inverting(ledger: str) -> bytes:
    """Return the code of a contract that calls `ledger` with every bit of its call data turned over.

    Loop: mem[i] = not calldata[i], a word at a time; then call, and revert where the call does.
    """
    loop = "60005b36811015601557" + "8035198152602001600256" + "5b50"
    call = f"60006000366000600073{ledger[2:].lower()}5af1" + "15603c57005b60006000fd"
    return bytes.fromhex("600b5981380380925939f3" + loop + call)


@needs_anvil
def test_a_header_hidden_by_a_wrapper_is_taken_from_the_trace(tmp_path: Path) -> None:
    with anvil() as node:
        account, sender = rich(), Sender(node.rpc, rich())
        ledger = Ledger(node.rpc, deploy(node.rpc, account, TERMS), account)
        ledger.mint(account.address, 10 * BUDGET)
        ledger.register(2 * STAKE, account.address, account.address)
        run_id = ledger.create_run(_params(ledger, account.address), BUDGET, "")
        ledger.open_epoch(run_id, keccak256(SECRET))

        book = Book(domain_of(ledger), run_id, {"alice": bytes(account.key)}, ledger.block_time())
        file = book.file(0, [book.work("alice", 1)], secret=SECRET)
        # The file that is published does not tell the totals that were signed.
        header = replace(header_of(file), total=500)
        signature = sign(bytes(account.key), book.domain.digest(header))
        post = ledger.draft("post_epoch", header, SECRET, {account.address: signature}, "")
        wrapper = sender.send(None, inverting(ledger.deployment.ledger)).contract_address
        sender.send(wrapper, bytes(~byte & 0xFF for byte in post.data))

        [posted] = History.of(ledger.events().poll()).postings.values()
        transaction = node.w3.eth.get_transaction(posted.transaction)
        assert header_in(bytes(transaction["input"]), posted) is None
        assert posted_header(ledger, posted) == header
        watcher = Watcher(
            ledger,
            tmp_path,
            address=account.address,
            files=lambda _: file.canonical(),
            policy=Mandate(),
        )
        watcher.step()
        faults = [e.values["fault"] for e in ledger.events().poll() if e.name == "FraudProven"]
        assert faults == [Fault.BAD_EDGE]


def _params(ledger: Ledger, verifier: str) -> RunParams:
    return RunParams(
        token=ledger.deployment.token,
        rate=RATE,
        min_stake=STAKE,
        challenge_window=WINDOW,
        settle_window=WINDOW,
        resume_delay=WINDOW,
        threshold=1,
        spec_hash=keccak256(b"spec"),
        base_model=keccak256(b"base model"),
        num_parameters=NUM_PARAMETERS,
        verifiers=(verifier,),
    )

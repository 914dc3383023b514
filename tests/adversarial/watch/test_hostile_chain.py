"""What anyone may write on the chain to blind, stall or ruin those who watch it."""

import tracemalloc
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from audit.hidden.search import Demand, Padded, Revealed, next_step
from audit.history import History, Posted
from audit.served import fetch
from client.public import Reader
from ledger.artifact import artifact
from ledger.events import decode_events
from ledger.state import DisputeKind
from orchestrator.watch import EpochWatch
from protocol.canonical import keccak256
from protocol.epoch import uri_of
from protocol.errors import NotFound
from protocol.merkle import ZERO_WORD, Tree
from tests.orchestrator.test_settling import earn
from tests.stage.books import header_of, opened, work_leaves
from tests.stage.in_process import InProcess
from tests.stage.lying import proposed
from tests.stage.place import Place
from tests.stage.watching import Stage, staged, work
from tests.stage.world import SECRET, World

MARK = "QQQQ"
NOT_UTF8 = b"\xff\xfe\xff\xfe"


@pytest.fixture
def stage(world: World, tmp_path: Path) -> Any:
    """A run on the attacked world."""
    return staged(world, tmp_path)


def send_bytes(stage: Stage, name: str, *arguments: Any) -> Any:
    """Call the ledger with bytes that are no UTF-8 where the arguments hold the mark."""
    world = stage.world
    where = Web3.to_checksum_address(world.deployment.ledger)
    ledger = world.w3.eth.contract(address=where, abi=artifact("RunLedger").abi)
    data = Web3.to_bytes(hexstr=ledger.encode_abi(name, args=list(arguments)))
    assert data.count(MARK.encode()) == 1
    return world.sender("stranger").send(
        world.deployment.ledger, data.replace(MARK.encode(), NOT_UTF8)
    )


def strictly_decoded(stage: Stage, receipt: Any, name: str) -> Any:
    """Read an event as web3 does by itself."""
    contract = stage.world.w3.eth.contract(abi=artifact("RunLedger").abi)
    [log] = [log for log in receipt.logs if decode_events([log])[:1] and _is(log, name)]
    return contract.events[name]().process_log(log)


def _is(log: Any, name: str) -> bool:
    return decode_events([log])[0].name == name


def test_a_spec_uri_that_is_no_utf8_stops_no_reader(stage: Stage) -> None:
    watcher = stage.watcher()
    watcher.step()
    receipt = send_bytes(stage, "createRun", stage.world.params().as_struct(), 0, MARK)
    with pytest.raises(UnicodeDecodeError):
        strictly_decoded(stage, receipt, "RunCreated")
    watcher.step()
    stage.watcher().step()
    assert stage.world.by("stranger").runs()[-1].spec_uri == "\ufffd" * 4


def test_a_data_uri_that_is_no_utf8_keeps_no_epoch_from_being_watched(stage: Stage) -> None:
    file = stage.file(*work(stage))
    stage.publish(file)
    header = header_of(file)
    stage.world.open()
    signatures = stage.world.signed(header.struct_hash(), "v0", "v1")
    bitmap, signed = stage.world.by("stranger")._quorum(header.run_id, signatures)
    receipt = send_bytes(stage, "postEpoch", astuple(header), SECRET, bitmap, signed, MARK)
    with pytest.raises(UnicodeDecodeError):
        strictly_decoded(stage, receipt, "EpochPosted")
    watcher = stage.watcher()
    watcher.step()
    assert watcher.sound == {header.struct_hash()}


def test_a_log_that_only_looks_like_ours_is_left_out(stage: Stage) -> None:
    receipt = send_bytes(stage, "createRun", stage.world.params().as_struct(), 0, MARK)
    [log] = [log for log in receipt.logs if _is(log, "RunCreated")]
    cut = dict(log) | {"data": bytes(log["data"])[:40]}
    bare = dict(log) | {"topics": log["topics"][:1]}
    assert [event.name for event in decode_events([cut, bare, log])] == ["RunCreated"]


# ------------------------------------------------------------------ counts that nobody can hold


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
@pytest.mark.parametrize("num_known", [0, 1, 2, 3, 5])
def test_padding_that_is_not_stored_makes_the_same_tree(count: int, num_known: int) -> None:
    leaves = [keccak256(bytes([n])) for n in range(min(num_known, count))]
    whole = Tree(leaves + [ZERO_WORD] * (count - len(leaves)))
    depth = (count - 1).bit_length()
    padded = Padded(leaves, depth)
    assert padded.root == whole.root
    for height in range(depth + 1):
        for position in range(1 << (depth - height)):
            assert padded.node(height, position) == whole.node(height, position)


def test_a_header_of_four_thousand_million_leaves_costs_no_memory(stage: Stage) -> None:
    leaves = work_leaves(opened(stage.file(*work(stage))))
    count = (1 << 32) - 1
    tracemalloc.start()
    try:
        tree = Revealed(keccak256(b"whatever"), count, leaves)
        step = next_step(tree)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(step, Demand)
    assert step.indices[-1] == count - 1
    assert len(step.indices) <= 100
    assert peak < 1 << 20, "a word for each would be 128 GiB"


def test_a_posted_header_of_a_huge_count_is_asked_about(stage: Stage) -> None:
    header = replace(header_of(stage.file(*work(stage))), work_count=1 << 20)
    stage.post(header)
    stage.fund("stranger")
    posted = stage.posted()
    stage.world.wait((posted.final_at - stage.world.by("stranger").block_time()) // 2)
    stage.watcher(demands=True).step()
    history = History.of(stage.world.by("stranger").events().poll())
    [dispute] = history.disputes.values()
    assert dispute.kind is DisputeKind.WORK
    assert dispute.indices[-1] == (1 << 20) - 1


# ------------------------------------------------------------------ a URI that the poster invents


@pytest.fixture
def junk(place: Place) -> Posted:
    """An honest epoch, posted in front of the orchestrator under a URI that leads nowhere."""
    earn(place, count=2)
    place.tick(seconds=11)
    place.tick()
    file = proposed(place, 0)
    header = header_of(file)
    signed = place.services.chain.domain.digest(header)
    signatures = {place.ground.address("v0"): place.party("v0").sign(signed)}
    stranger = place.ground.by("stranger")
    stranger.post_epoch(header, file.secret, signatures, "blob:0x" + "00" * 32)
    return History.of(stranger.events().poll()).postings[header.struct_hash()]


def test_a_file_under_a_junk_uri_is_found_by_the_orchestrators_record(
    place: Place, junk: Posted
) -> None:
    reader = Reader("http://market.test", transport=InProcess(place.client))
    with pytest.raises(NotFound):
        reader.blob(bytes(32))
    data = fetch(reader, junk)
    assert data is not None
    assert keccak256(data) == junk.data_hash
    honest = replace(junk, epoch=99, uri=uri_of(place.epoch(0).file))
    assert fetch(reader, honest) == data, "and else by the URI"


def test_the_orchestrator_answers_for_its_epoch_under_a_junk_uri(
    place: Place, junk: Posted, tmp_path: Path
) -> None:
    run = place.services.runs[place.run_id]
    watch = EpochWatch(str(tmp_path / "watch"))
    place.call(watch.tick, place.services, run)
    assert watch._watchers[place.run_id].sound == {junk.header_hash}

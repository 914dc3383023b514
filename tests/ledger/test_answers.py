"""What nodes say, in the words and codes that people met, and what it means."""

import time
from email.utils import formatdate
from typing import Any

import pytest
from requests import HTTPError, Response

from ledger.answers import Kind, trouble_in, trouble_of
from ledger.errors import decode_error
from ledger.node import Patience
from ledger.ranges import MOST, Span

LIMITED, SILENT, PASSING, REFUSED = Kind.LIMITED, Kind.SILENT, Kind.PASSING, Kind.REFUSED
CALL, LOGS, SEND, COUNT = "eth_call", "eth_getLogs", "eth_sendRawTransaction", "eth_blockNumber"


def error(code: Any, message: Any, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message, **more}}


@pytest.mark.parametrize(
    ("method", "answer", "kind"),
    [
        (COUNT, error(429, "Too Many Requests"), LIMITED),
        (COUNT, error("429", "no"), LIMITED),
        (COUNT, error(-32005, "limit exceeded"), LIMITED),
        (LOGS, error(-32005, "project ID request rate exceeded"), LIMITED),
        (
            CALL,
            error(-32000, "Your app has exceeded its compute units per second capacity"),
            LIMITED,
        ),
        (CALL, error(-32007, "50/second request limit reached"), LIMITED),
        (CALL, error(0, "daily request count exceeded, request rate limited"), LIMITED),
        (SEND, error(-32016, "over rate limit"), LIMITED),
        (CALL, {"error": "rate limit exceeded"}, LIMITED),
        (LOGS, error(-32005, "query returned more than 10000 results"), REFUSED),
        (LOGS, error(-32600, "eth_getLogs is limited to a 10 block range"), REFUSED),
        (LOGS, error(-32000, "query timeout exceeded"), REFUSED),
        (LOGS, error(-32602, "Log response size exceeded"), REFUSED),
        (LOGS, error(-32005, "limit exceeded"), PASSING),
        (LOGS, error(-32000, "request range limit exceeded: 1000 blocks"), REFUSED),
        (LOGS, error(-32000, "requested block range limit is 500"), REFUSED),
        (LOGS, error(-32005, "logs matched by query exceeds limit of 10000"), REFUSED),
        (LOGS, error(-32602, "ranges of your plan are limited to 1000 blocks"), REFUSED),
        (LOGS, error(-32005, "rate limit exceeded for eth_getLogs"), LIMITED),
        (LOGS, error(-32097, "You've exceeded the RPS limit on the current plan."), LIMITED),
        (LOGS, error(-32000, "One of the blocks specified in filter cannot be found."), PASSING),
        (LOGS, error(4444, "pruned history unavailable"), REFUSED),
        (LOGS, {"result": None}, PASSING),
        (COUNT, {"result": None, "error": None}, PASSING),
        (CALL, error(-32000, "you reached the free tier limit"), LIMITED),
        (CALL, error(-32003, "Monthly capacity limit exceeded."), LIMITED),
        (CALL, error(-32029, "Your plan's compute units are exhausted"), LIMITED),
        (CALL, error(-32000, "dial tcp 10.0.0.1:8545: connect: connection refused"), PASSING),
        (CALL, error(-32000, "EOF"), PASSING),
        (CALL, error(-32000, "the method is currently not available"), PASSING),
        (CALL, error(-32000, "stack limit reached 1024 (1023)"), REFUSED),
        (SEND, error(-32000, "txpool is full"), PASSING),
        (SEND, error(-32000, "exceeds block gas limit"), REFUSED),
        (LOGS, error(-32000, "header not found"), PASSING),
        (CALL, error(-32000, "header not found"), PASSING),
        (CALL, error(-32000, "missing trie node 1f (path ) state 0x2 is not available"), PASSING),
        (CALL, error(-32603, "Internal error"), PASSING),
        (COUNT, error(-32000, "request timed out"), PASSING),
        (SEND, error(-32000, "nonce too low: next nonce 5, tx nonce 4"), REFUSED),
        (SEND, error(-32603, "already known"), REFUSED),
        (SEND, error(-32000, "insufficient funds for gas * price + value"), REFUSED),
        (COUNT, error(-32601, "the method does not exist"), REFUSED),
        (COUNT, {"id": 1, "jsonrpc": "2.0"}, SILENT),
        (COUNT, [], SILENT),
    ],
)
def test_a_nodes_words_have_one_meaning(method: str, answer: Any, kind: Kind) -> None:
    trouble = trouble_in(answer, method)
    assert trouble is not None
    assert trouble.kind is kind, trouble


def test_an_error_of_null_beside_a_result_is_none() -> None:
    assert trouble_in({"result": None, "error": None}, "eth_getTransactionReceipt") is None
    assert trouble_in({"result": "0x1"}, COUNT) is None


DATA = "0x" + "cf479181" + "00" * 31 + "07" + "00" * 31 + "09"
PLACES: list[dict[str, Any]] = [
    error(3, "execution reverted", data=DATA),
    error(-32000, "execution reverted", data={"data": DATA}),
    error(-32603, "VM Exception while processing transaction", data={"data": {"data": DATA}}),
    error(-32000, f"execution reverted: {DATA}"),
    error(-32015, "VM execution error.", data=f"Reverted {DATA}"),
    error(-32000, "VM Exception", data={"0x" + "ab" * 32: {"error": "revert", "return": DATA}}),
    error(-32603, "Internal error", data={"originalError": {"code": 3, "data": DATA}}),
]


@pytest.mark.parametrize("answer", PLACES)
@pytest.mark.parametrize("method", ["eth_call", "eth_estimateGas"])
def test_the_data_of_a_revert_is_found_wherever_a_node_keeps_it(
    answer: dict[str, Any], method: str
) -> None:
    trouble = trouble_in(answer, method)
    assert trouble is not None
    assert trouble.data == bytes.fromhex(DATA[2:])
    assert decode_error(trouble.data or b"")
    assert trouble_in(answer, COUNT) is not None
    assert trouble_in(answer, COUNT).data is None  # type: ignore[union-attr]


def refused(status: int, wait: str = "", body: bytes = b"<html>") -> HTTPError:
    response = Response()
    response.status_code, response._content, response.reason = status, body, "Some Reason"
    response.headers["Retry-After"] = wait
    return HTTPError(response=response)


@pytest.mark.parametrize(
    ("failure", "kind", "after"),
    [
        (refused(429), LIMITED, 0),
        (refused(429, "7"), LIMITED, 7),
        (refused(429, "soon"), LIMITED, 0),
        (refused(503, "3"), SILENT, 3),
        (refused(502), SILENT, 0),
        (refused(504), SILENT, 0),
        (refused(408), SILENT, 0),
        (refused(413), REFUSED, 0),
        (refused(401), REFUSED, 0),
        (refused(404), REFUSED, 0),
        (refused(400, "", b'{"error": {"code": -32005, "message": "rate limit"}}'), LIMITED, 0),
        (refused(500, "", b'{"error": {"code": -32601, "message": "unknown method"}}'), REFUSED, 0),
    ],
)
def test_a_status_has_one_meaning(failure: HTTPError, kind: Kind, after: float) -> None:
    trouble = trouble_of(failure, COUNT, time.time())
    assert (trouble.kind, trouble.retry_after) == (kind, after)


def test_a_date_to_come_again_is_counted_from_now() -> None:
    now = 1_800_000_000
    failure = refused(429, formatdate(now + 9, usegmt=True))
    assert trouble_of(failure, COUNT, now).retry_after == 9
    assert trouble_of(failure, COUNT, now + 60).retry_after == 0


def test_patience_grows_waits_and_ends_both_ways() -> None:
    patience = Patience(silent=2, tries=3, first=0.1, longest=1)
    found = trouble_in([], COUNT)
    assert found is not None
    assert [patience.pause(found, n, 0) for n in (1, 2, 3, 4, 5, 9)] == [0.1, 0.2, 0.4, 0.8, 1, 1]
    assert patience.pause(found, 2, 100) is not None, "so few tries are no patience"
    assert patience.pause(found, 3, 1.5) is not None
    assert patience.pause(found, 3, 1.7) is None


def test_a_range_is_halved_remembered_and_grows_slowly() -> None:
    span, asked = Span(), []
    limit = 10
    for _ in range(400):
        asked.append(span.size)
        span = span.answered(span.size) if span.size <= limit else span.refused(span.size)
    assert asked[:9] == [2000, 1000, 500, 250, 125, 62, 31, 15, 7]
    late = [size for size in asked[100:] if size > limit]
    assert max(asked[20:]) <= 13
    assert len(late) < 10, "each refusal of a larger range doubles the wait for the next"
    assert sum(asked[100:]) / 300 > 9
    limit = MOST
    for _ in range(10_000):
        span = span.answered(span.size)
    assert span.size == MOST
    assert Span(1).refused(1).size == 1

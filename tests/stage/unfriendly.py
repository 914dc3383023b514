"""A node as strangers run them, in front of one that is kind: it limits, refuses, lags and answers oddly.

Each of its habits is one that people met at a public node; together they are worse than any. Requests pass to the
node behind it, so what a market does there is real.
"""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

Json = Any
Answer = tuple[int, dict[str, str], bytes | None]
"""Status, headers and body; without a body the connection is dropped."""
QUANTITIES = (
    "eth_blockNumber",
    "eth_gasPrice",
    "eth_getBalance",
    "eth_getTransactionCount",
    "eth_estimateGas",
)
TAGGED = {
    "eth_call": 1,
    "eth_getBalance": 1,
    "eth_getTransactionCount": 1,
    "eth_getBlockByNumber": 0,
}
LIMITED: tuple[tuple[int, dict[str, str], Json], ...] = (
    (429, {"Retry-After": "0"}, "Too Many Requests"),
    (
        200,
        {},
        {"code": 429, "message": "Your app has exceeded its compute units per second capacity"},
    ),
    (200, {}, {"code": -32005, "message": "limit exceeded"}),
    (200, {}, {"code": -32016, "message": "over rate limit"}),
    (429, {}, {"code": -32029, "message": "Too Many Requests"}),
    (503, {"Retry-After": "0"}, "<html>Service Unavailable</html>"),
    (502, {}, "<html>Bad Gateway</html>"),
    (200, {}, "<html>Just a moment...</html>"),
    (0, {}, None),
)
"""Status, headers and error of each way to say "not now"; a text is the whole body, 0 drops the connection."""
TOO_WIDE: tuple[tuple[int, Json], ...] = (
    (200, {"code": -32600, "message": "eth_getLogs is limited to a {most} block range"}),
    (200, {"code": -32005, "message": "query returned more than 10000 results"}),
    (200, {"code": -32000, "message": "block range is too wide"}),
    (
        200,
        {
            "code": -32602,
            "message": "Log response size exceeded. Retry with the range [0x1, 0x{most:x}]",
        },
    ),
    (200, {"code": -32000, "message": "query timeout exceeded"}),
    (413, "Payload Too Large"),
    (200, {"code": 35, "message": "ranges over {most} blocks are not supported on freetier"}),
)
BEHIND = (
    "header not found",
    "missing trie node 1f (path )",
    "Unknown block",
    "block not found: 0x10",
)
REVERTS = ("object", "message", "parity")
"""Where the data of a revert is: within an object, in the message, after a word."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What a node does to those who ask it; the default does nothing."""

    limits_every: int = 0
    """Every so manieth request is refused, each time in another way; 0: none."""
    most_blocks: int = 0
    """Blocks that a query for events may span; 0: any."""
    is_legacy: bool = False
    """The chain has no EIP-1559."""
    lags_every: int = 0
    """Every so manieth question about the newest state goes to a machine that is a block behind."""
    hides_every: int = 0
    """Every so manieth question for events goes to a machine that is a block behind, and says nothing of it."""
    late_receipts: int = 0
    """How often a receipt is asked for before it is there."""
    is_odd: bool = False
    """Numbers have leading zeros, ids are others, an error of null stands beside a result, tags are unknown, and
    the data of a revert is elsewhere each time."""


ALL = Habits(5, 10, True, 6, 2, 2, True)


class Unfriendly(ThreadingHTTPServer):
    """A proxy with habits. `refused` counts what it refused, `asked` what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, node_url: str, habits: Habits) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.node_port = urlsplit(node_url).port
        self.habits = habits
        self.asked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.ranges: list[int] = []
        self._lock = threading.Lock()
        self._limited, self._too_wide = cycle(LIMITED), cycle(TOO_WIDE)
        self._behind, self._reverts = cycle(BEHIND), cycle(REVERTS)
        self._num_asked = self._num_newest = 0

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a party, or of the node behind, that ends before the other."""

    @property
    def url(self) -> str:
        return f"http://user:pass@127.0.0.1:{self.server_port}/v3/key/"

    def answer(self, body: bytes) -> Answer:
        """Return status, headers and body of an answer; None drops the connection."""
        request = json.loads(body)
        if not isinstance(request, dict):
            return self._error(200, {"code": -32600, "message": "batches are not supported"})
        method, params = request["method"], request.get("params", [])
        with self._lock:
            self.asked[method] += 1
            refusal = self._refusal(method, params)
        if refusal is not None:
            self.refused[method] += 1
            return refusal
        answer = self._from_node(self._as_behind(request))
        if self.habits.is_legacy and method == "eth_getBlockByNumber" and answer.get("result"):
            answer["result"].pop("baseFeePerGas", None)
        if self.habits.is_odd:
            answer = self._odd(method, answer)
        return 200, {}, json.dumps(answer).encode()

    def _refusal(self, method: str, params: Json) -> Answer | None:
        self._num_asked += 1
        if self.habits.limits_every and self._num_asked % self.habits.limits_every == 0:
            status, headers, error = next(self._limited)
            code, more, body = self._error(status, error)
            return code, {**headers, **more}, body
        return (
            self._too_wide_for(method, params)
            or self._unknown(method, params)
            or self._not_yet(method, params)
        )

    def _too_wide_for(self, method: str, params: Json) -> Answer | None:
        if method != "eth_getLogs":
            return None
        if "blockHash" in params[0]:
            return None
        span = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
        self.ranges.append(span)
        if not self.habits.most_blocks or span <= self.habits.most_blocks:
            return None
        status, error = next(self._too_wide)
        if isinstance(error, dict):
            error = {**error, "message": error["message"].format(most=self.habits.most_blocks)}
        return self._error(status, error)

    def _unknown(self, method: str, params: Json) -> Answer | None:
        """What a node of an older or a smaller kind has not: fees of EIP-1559, tags of finality."""
        if self.habits.is_legacy and method in ("eth_maxPriorityFeePerGas", "eth_feeHistory"):
            return self._error(200, {"code": -32601, "message": f"{method} is not available"})
        is_sent = method == "eth_sendRawTransaction"
        if self.habits.is_legacy and is_sent and params[0].startswith("0x02"):
            error = {"code": -32000, "message": "transaction type not supported"}
            return self._error(200, error)
        place = TAGGED.get(method, len(params))
        if self.habits.is_odd and params[place:] and params[place] in ("safe", "finalized"):
            return self._error(200, {"code": -39001, "message": f"Unknown block: {params[place]}"})
        return None

    def _not_yet(self, method: str, params: Json) -> Answer | None:
        if self.habits.lags_every and method in ("eth_call", "eth_estimateGas"):
            self._num_newest += 1
            if self._num_newest % self.habits.lags_every == 0:
                return self._error(200, {"code": -32000, "message": next(self._behind)})
        name = f"receipt {params}"
        if method == "eth_getTransactionReceipt" and self.asked[name] < self.habits.late_receipts:
            self.asked[name] += 1
            return 200, {}, b'{"jsonrpc": "2.0", "id": 1, "result": null}'
        return None

    def _as_behind(self, request: Json) -> Json:
        """Have a machine that lacks the newest block answer for events, every so often."""
        if request["method"] != "eth_getLogs" or not self.habits.hides_every:
            return request
        self.asked["events"] += 1
        if self.asked["events"] % self.habits.hides_every:
            return request
        query, head = request["params"][0], self._newest()
        if query.get("blockHash") == head["hash"]:
            return {
                **request,
                "params": [{**query, "blockHash": "0x" + "00" * 32}],
            }  # unknown to it
        if query.get("toBlock") == head["number"]:
            return {**request, "params": [{**query, "toBlock": hex(int(head["number"], 16) - 1)}]}
        return request

    def _newest(self) -> Json:
        ask = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber"}
        return self._from_node({**ask, "params": ["latest", False]})["result"]

    def _from_node(self, request: Json) -> Json:
        if self.habits.is_odd and request["method"] == "eth_getTransactionCount":
            # A node that does not count what waits.
            request = {**request, "params": [request["params"][0], "latest"]}
        node = http.client.HTTPConnection("127.0.0.1", self.node_port or 80, timeout=60)
        node.request("POST", "/", json.dumps(request), {"content-type": "application/json"})
        found = json.loads(node.getresponse().read())
        node.close()
        return found

    def _odd(self, method: str, answer: Json) -> Json:
        if "error" in answer:
            return {"id": None, "error": self._hidden(answer["error"])}
        result = answer["result"]
        if method in QUANTITIES:
            result = "0x00" + result[2:]
        return {"id": "another", "result": result, "error": None}

    def _hidden(self, error: Json) -> Json:
        data = error.pop("data", None)
        if not data:
            return error
        match next(self._reverts):
            case "object":
                return {
                    "code": -32000,
                    "message": "VM Exception",
                    "data": {"0xfeed": {"return": data}},
                }
            case "message":
                return {"code": -32000, "message": f"execution reverted: {data}"}
        return {"code": -32015, "message": "VM execution error.", "data": f"Reverted {data}"}

    @staticmethod
    def _error(status: int, error: Json) -> Answer:
        if error is None:
            return status, {}, None
        if isinstance(error, str):
            return status, {}, error.encode()
        return status, {}, json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode()


class _Answering(BaseHTTPRequestHandler):
    server: Unfriendly
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        status, headers, body = self.server.answer(
            self.rfile.read(int(self.headers["Content-Length"]))
        )
        if body is None:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def unfriendly(node_url: str, habits: Habits = ALL) -> Iterator[Unfriendly]:
    """Serve a node with habits in front of another."""
    proxy = Unfriendly(node_url, habits)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()

"""A library's account of a failed connection is cut down to its cause."""

import pytest

from protocol.user_error import one_line

POOL = (
    "no chain at http://127.0.0.1:9: HTTPConnectionPool(host='127.0.0.1', port=9): Max retries "
    "exceeded with url: / (Caused by NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=9): "
    'Failed to establish a new connection: [Errno 111] Connection refused"))'
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (POOL, "no chain at http://127.0.0.1:9: connection refused"),
        ("HTTPSConnectionPool(host='h', port=1): Read timed out. (read timeout=10.0)", "no answer"),
        ("two\n lines", "two lines"),
        ("", "ValueError"),
    ],
)
def test_what_failed_is_one_short_line(text: str, line: str) -> None:
    assert one_line(ValueError(text)) == line

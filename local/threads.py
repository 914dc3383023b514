"""Work beside other work, for as long as that lasts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(stop: threading.Event, work: Callable[[], None]) -> Iterator[None]:
    """Do work in a thread of its own for the length of a `with`; it ends soon once `stop` is set, and is waited for."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

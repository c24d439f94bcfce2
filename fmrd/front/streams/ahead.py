"""What takes long to come is fetched in a thread of its own, while what came before is looked at."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")
MOST = 4
"""So many are fetched ahead."""


def ahead(source: Iterator[T]) -> Iterator[T]:
    """Yield what ``source`` does; what that raises is raised behind what it yielded. Whoever stops before its end
    leaves it where it waits, for ever perhaps: the thread ends with the process.
    """
    fetched: Queue[tuple[T | None, BaseException | None]] = Queue(MOST)
    stopped = threading.Event()

    def fetch() -> None:
        try:
            for each in source:
                fetched.put((each, None))
                if stopped.is_set():
                    return
            fetched.put((None, StopIteration()))
        except BaseException as error:
            fetched.put((None, error))

    threading.Thread(target=fetch, name="fmrctl ahead", daemon=True).start()
    try:
        while True:
            each, error = fetched.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield each  # type: ignore[misc]  # it is None only with an error
    finally:
        stopped.set()
        with suppress(Empty):  # who waits for room has it, and sees that nobody wants more
            while True:
                fetched.get_nowait()

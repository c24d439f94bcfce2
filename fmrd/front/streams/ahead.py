"""What takes long to come is fetched in a thread of its own, while what came before is looked at."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")
MOST = 4
"""So many are fetched ahead."""


@dataclass(frozen=True)
class _End:
    """Nothing more comes, or what went wrong."""

    error: BaseException | None = None


def ahead(source: Iterator[T]) -> Iterator[T]:
    """Yield what ``source`` does; what that raises is raised behind what it yielded. Whoever stops before its end
    leaves it where it waits, for ever perhaps: the thread ends with the process.
    """
    fetched: Queue[T | _End] = Queue(MOST)
    stopped = threading.Event()

    def fetch() -> None:
        try:
            for each in source:
                fetched.put(each)
                if stopped.is_set():
                    return
            fetched.put(_End())
        except BaseException as error:
            fetched.put(_End(error))

    threading.Thread(target=fetch, name="fmrctl ahead", daemon=True).start()
    try:
        while True:
            found = fetched.get()
            if not isinstance(found, _End):
                yield found
            elif found.error is None:
                return
            else:
                raise found.error
    finally:
        stopped.set()
        with suppress(Empty):  # who waits for room has it, and sees that nobody wants more
            while True:
                fetched.get_nowait()

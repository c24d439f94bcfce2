"""The process that freezes a file system knows when its daemon is gone. A real freeze: tests/e2e/test_freezing.py."""

import os
import threading
from pathlib import Path

from fmrd.backing.freezing import wait_for_the_end
from tests.processes import end_first_thread, left_behind


def test_it_ends_with_the_order_or_with_the_daemon(tmp_path: Path) -> None:
    order, ours = os.pipe()
    with left_behind(tmp_path) as (process, _):
        waiting = threading.Thread(target=wait_for_the_end, args=(order, process.pid))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        end_first_thread(process)
        waiting.join(20)
        assert not waiting.is_alive(), "it was left behind, and its end of the pipe stays open"
        os.close(ours)
        wait_for_the_end(order, os.getpid())
    os.close(order)

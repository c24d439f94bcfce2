"""The control socket of another fmrd: one that runs keeps it, one that was left behind does not."""

from pathlib import Path

import pytest

from fmrd.errors import Refused
from fmrd.front.daemon.listening import bind
from tests.processes import end_first_thread, left_behind


def test_a_socket_that_nobody_answers_on_any_more(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with left_behind(tmp_path, path) as (process, _):
        with pytest.raises(Refused, match="daemon_running"):
            bind(path, 1)
        end_first_thread(process)
        bind(path, 1).close()

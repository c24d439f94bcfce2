"""What threads write to is noted where the next process finds it."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fmrd.backing.owning import under_way
from fmrd.backing.owning.under_way import Process, Table, Writing, has_ended, identity
from tests.processes import end_first_thread, left_behind

A, B = (1, 10), (1, 11)


def test_a_thread_may_write_while_it_says_so() -> None:
    me = Process.this()
    assert Process.parse(str(me)) == me
    with Writing(A):
        assert me.may_write(A)
        assert not me.may_write(B)
        with Writing(B):
            assert (me.may_write(A), me.may_write(B)) == (False, True)
        assert me.may_write(A)
    assert not me.may_write(A)


def test_the_row_of_a_thread_that_has_ended_is_anothers() -> None:
    table = Table()
    seen: list[int] = []

    def write() -> None:
        row = table.row()
        row.note(A)
        seen.append(row.offset)

    for _ in range(5):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert set(seen) == {0}
    assert list(under_way._rows(table.memory[:])) == []


def test_threads_that_make_the_first_table_at_once_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meanwhile:
        def __enter__(self) -> None:
            under_way._table = others

        def __exit__(self, *details: object) -> None:
            pass

    others = Table()
    monkeypatch.setattr(under_way, "_table", None)
    monkeypatch.setattr(under_way, "_making", Meanwhile())
    assert under_way.table() is others


def test_more_threads_than_rows_do_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    monkeypatch.setattr(under_way, "_ROWS", 0)
    with pytest.raises(OSError, match="threads write already"):
        table.row()


@pytest.mark.parametrize("line", ["", "1 2", "a b c", "-1 2 3", "1 2 3 4"])
def test_what_is_no_process(line: str) -> None:
    assert Process.parse(line) is None


def test_a_process_that_is_left_behind(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    file, other = (identity(os.stat(tmp_path / name)) for name in "ab")
    with left_behind(tmp_path / "a") as (running, line):
        process = Process.parse(line)
        assert process is not None
        assert (process.may_write(file), process.may_write(other)) == (True, False)
        assert not has_ended(process.number)
        end_first_thread(running)
        assert has_ended(process.number)
        assert len(process.threads()) == 1
        assert (process.may_write(file), process.may_write(other)) == (True, False)
        assert not replace(process, began=process.began + 1).may_write(file), "another process of that number"
        assert replace(process, descriptor=999).may_write(other), "where its notes cannot be read it may write anywhere"
        running.kill()
        running.wait()
        assert process.threads() == []
        assert not process.may_write(file)

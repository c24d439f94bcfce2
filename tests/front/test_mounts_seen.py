"""Mounts are watched: whoever waits for a disk hears of each that comes."""

import ctypes
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.front.daemon.mounts_seen import watch_mounts
from tests.waiting import until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="to mount takes root")


@needs_root
async def test_a_mount_is_seen(tmp_path: Path) -> None:
    seen: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_mounts, lambda: seen.append(len(seen)))
        await trio.testing.wait_all_tasks_blocked()
        await trio.run_process(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)])
        try:
            await until(lambda: seen)
        finally:
            ctypes.CDLL(None).umount2(os.fsencode(tmp_path), 0)
        before = len(seen)
        await until(lambda: len(seen) > before or not os.path.ismount(tmp_path))
        nursery.cancel_scope.cancel()


async def test_where_they_cannot_be_watched_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        await watch_mounts(lambda: None, str(tmp_path / "none"))
    assert "mounts are not watched" in caplog.text

"""Random writes, snapshots, marks, restores, growth and kills from one seed: what differs is always named, and the far
side becomes the same after every step.
"""

import io
import os
import random
from pathlib import Path

import pytest

from fmrd.front.ctl.app import App
from fmrd.front.maps.receiving import Options, Receiving
from fmrd.front.maps.sending import Sending, Wish
from tests.e2e.harness import DOORS, MIB, REGION, Daemon, needs_fuse

pytestmark = [needs_fuse]


@pytest.fixture
def door() -> str:
    """The simulation has the engine; this has the programs around it."""
    return DOORS[0]


class Life:
    """A near and a far volume of one daemon, which is killed now and then, and what the near one held when."""

    def __init__(self, daemon: Daemon, base: Path, seed: int) -> None:
        self.daemon, self.base, self.draw = daemon, base, random.Random(seed)
        self.size = MIB
        self.marked = bytes(self.size)
        self.step = 0
        daemon.make("near", self.size, base / "a", base / "b")
        daemon.make("far", self.size, base / "c")
        daemon.json("mark", "near", "m")
        self.snapshot()

    def content(self, name: str) -> bytes:
        return self.daemon.path(name).read_bytes()

    @property
    def newest(self) -> str:
        return f"s{self.step}"

    def snapshot(self) -> None:
        self.step += 1
        self.daemon.json("snapshot", "near", "--instant", self.base / self.newest, "--name", self.newest)

    def write(self) -> None:
        with open(self.daemon.path("near"), "r+b") as file:
            for _ in range(self.draw.randint(1, 3)):
                length = self.draw.choice((1, 4096, REGION, 2 * REGION + 77))
                at = self.draw.randrange(self.size - length)
                data = bytes(length) if self.draw.random() < 0.3 else self.draw.randbytes(length)
                os.pwrite(file.fileno(), data, at)
            if self.draw.random() < 0.7:
                os.fsync(file.fileno())

    def write_to_the_snapshot(self) -> None:
        with open(self.daemon.path(self.newest), "r+b") as file:
            os.pwrite(file.fileno(), self.draw.randbytes(REGION), self.draw.randrange(8) * REGION)
            os.fsync(file.fileno())

    def mark(self) -> None:
        self.daemon.json("mark", "near", "m", "--reset")
        self.marked = self.content("near")

    def grow(self) -> None:
        self.size += REGION
        for name in ("near", "far"):
            self.daemon.json("grow", name, self.size)

    def restore(self) -> None:
        self.daemon.json("restore", "near", "--from", self.newest, "--wait")

    def kill(self) -> None:
        self.daemon.kill()
        self.daemon.umount()
        self.daemon.start()

    def told(self, *words: str) -> list[tuple[int, int]]:
        shown = self.daemon.json("changed", *words)
        return [(each["offset_bytes"], each["length_bytes"]) for each in shown["ranges"]]

    def must_tell(self, now: bytes, then: bytes, *words: str) -> None:
        """Each region that differs is told; what was added since may be."""
        told = {at // REGION for offset, size in self.told(*words) for at in range(offset, offset + size, REGION)}
        for region in range(len(then) // REGION):
            span = slice(region * REGION, (region + 1) * REGION)
            assert now[span] == then[span] or region in told, (self.step, words, region)

    def follow(self) -> None:
        """The far side, by an increment where that fits, else by all of it."""
        old, held = self.newest, self.content(self.newest)
        self.snapshot()
        now = self.content("near")
        self.must_tell(now, held, self.newest, "--since", old)
        self.must_tell(now, self.marked, self.newest, "--mark", "m") if self.marks_it() else None
        app = App(self.daemon.socket, as_json=True)
        since = old if len(held) == len(now) and self.fits(old) else None
        out = io.BytesIO()
        Sending(app, Wish(self.newest, since)).run(out)
        out.seek(0)
        tasks = Receiving(app, "far", out, Options()).run()["tasks"]
        app.wait([task["id"] for task in tasks])
        assert self.content("far") == now == self.content(self.newest)
        self.daemon.json("remove", old, "--erase")

    def marks_it(self) -> bool:
        return self.daemon.ctl("changed", self.newest, "--mark", "m").status == 0

    def fits(self, old: str) -> bool:
        marks = self.daemon.json("receive", "far", "--holds")["marks"]
        return bool(marks) and marks[0]["holds"]["name"] == old and self.content(old) == self.content("far")


@pytest.mark.parametrize("seed", [1, 2])
def test_the_far_side_is_the_same_after_every_step(daemon: Daemon, tmp_path: Path, seed: int) -> None:
    life = Life(daemon, tmp_path, seed)
    deeds = [life.write, life.write, life.mark, life.grow, life.restore, life.kill, life.write_to_the_snapshot]
    for deed in life.draw.sample(deeds, len(deeds)):
        life.write()
        deed()
        life.follow()
    assert life.content("near") == life.content("far")

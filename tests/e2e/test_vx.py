"""fmrd-vx: a session as it is typed under VERITAS Volume Manager, line by line, and what it prints there."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fmrd.front.vx.main import run
from tests.e2e.harness import MIB, REGION, Daemon, needs_fuse, read_at, tool, write_at

pytestmark = needs_fuse

SECTORS = str(64 * MIB // 512)


@dataclass(frozen=True)
class Typed:
    """What one line left behind."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines() if line]


class Hand:
    """Somebody who types VxVM's commands; each that is not said to fail must succeed."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    def type(self, line: str, status: int = 0) -> Typed:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = run(shlex.split(line), self.daemon.socket)
        assert found == status, f"{line} ended with {found}: {err.getvalue()}{self.daemon.log()}"
        return Typed(found, out.getvalue(), err.getvalue())

    def states(self, volume: str) -> dict[str, str]:
        return {plex["name"]: plex["state"] for plex in self.daemon.volume(volume)["plexes"]}


@pytest.fixture
def door() -> str:
    """What is typed comes to the same engine, whatever the door."""
    return "channel"


@pytest.fixture
def hand(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hand:
    """Four disks are in the file of settings."""
    lines = ["[vx.disks]"]
    for number in range(1, 5):
        (tmp_path / f"d{number}").mkdir()
        lines.append(f'disk{number:02d} = "{tmp_path}/d{number}"')
    (tmp_path / "fmrd.conf").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("FMRD_CONF", str(tmp_path / "fmrd.conf"))
    return Hand(daemon)


def test_the_session(hand: Hand, tmp_path: Path) -> None:
    """Each line as it stands in the guides, in one go; what is in the volume is looked at in between."""
    data = hand.daemon.path("vol01")
    hand.type("vxassist -g dg make vol01 64m layout=mirror nmirror=2")
    assert hand.states("vol01") == {"vol01-01": "ACTIVE", "vol01-02": "ACTIVE"}
    assert [p["path"] for p in hand.daemon.volume("vol01")["plexes"]] == [
        f"{tmp_path}/d1/vol01-01.plex", f"{tmp_path}/d2/vol01-02.plex"
    ]  # fmt: skip
    hand.type("vxvol -g dg set fastresync=on vol01")
    assert hand.type("vxprint -g dg -F%fastresync vol01").out == "on\n"

    hand.type("vxplex -g dg det vol01-02")
    write_at(data, 0, b"1" * REGION)
    assert hand.states("vol01")["vol01-02"] == "STALE"
    assert "(fast; 1 region(s)" in hand.type("vxplex -g dg att vol01 vol01-02").err
    assert hand.states("vol01")["vol01-02"] == "ACTIVE"

    hand.type("vxassist -g dg -b snapstart vol01")
    hand.type("vxassist -g dg snapwait vol01")
    hand.type("vxassist -g dg snapshot vol01 snapvol01")
    write_at(data, 0, b"2" * REGION)
    assert read_at(hand.daemon.path("snapvol01"), 0, 4) == b"1111"
    assert hand.type("vxassist -g dg snapprint vol01").rows == [
        ["V", "NAME", "USETYPE", "LENGTH"], ["SS", "SNAPOBJ", "NAME", "LENGTH", "%DIRTY"],
        ["DP", "NAME", "VOLUME", "LENGTH", "%DIRTY"],
        ["v", "snapvol01", "fsgen", SECTORS], ["ss", "vol01_snp", "vol01", SECTORS, "0"],
        ["v", "vol01", "fsgen", SECTORS], ["ss", "snapvol01_snp", "snapvol01", SECTORS, "0"],
    ]  # fmt: skip
    hand.type("vxassist -g dg snapback snapvol01")
    assert read_at(data, 0, 4) == b"2222"

    hand.type("vxassist -g dg snapshot vol01 snapvol01")
    write_at(data, 0, b"3" * REGION)
    hand.type("vxassist -g dg -o resyncfromreplica snapback snapvol01")
    assert read_at(data, 0, 4) == b"2222"

    hand.type("vxassist -g dg snapshot vol01 snapvol01")
    hand.type("vxassist -g dg snapclear vol01 snapvol01")
    assert hand.daemon.volume("snapvol01")["snapshot_of"] is None
    assert hand.type("vxtask list").rows == [["TASKID", "PTID", "TYPE/STATE", "PCT", "PROGRESS"]]

    hand.type("vxmend -g dg off vol01-02")
    assert hand.states("vol01")["vol01-02"] == "OFFLINE"
    hand.type("vxmend -g dg on vol01-02")
    hand.type("vxrecover -g dg -sb vol01")
    hand.daemon.in_sync("vol01")
    _the_second_half(hand, data)


def _the_second_half(hand: Hand, data: Path) -> None:
    hand.type("vxsnap -g dg prepare vol01 regionsize=64k")
    hand.type("vxsnap -g dg addmir vol01")
    assert sorted(hand.states("vol01").values()) == ["ACTIVE", "ACTIVE", "SNAPDONE"]
    hand.type("vxsnap -g dg make source=vol01/newvol=snap2/nmirror=1")
    write_at(data, 0, b"4" * REGION)
    hand.type("vxsnap -g dg refresh snap2 source=vol01")
    assert read_at(hand.daemon.path("snap2"), 0, 4) == b"4444"
    write_at(data, 0, b"5" * REGION)
    hand.type("vxsnap -g dg restore vol01 source=snap2 destroy=no")
    assert read_at(data, 0, 4) == read_at(hand.daemon.path("snap2"), 0, 4) == b"4444"
    assert hand.type("vxsnap -g dg print").rows == [
        ["NAME", "SNAPOBJECT", "TYPE", "PARENT", "SNAPSHOT", "%DIRTY", "%VALID"],
        ["snap2", "vol01_snp", "volume", "vol01", "--", "0.00", "100.00"],
        ["snapvol01", "--", "volume", "--", "--", "--", "100"],
        ["vol01", "--", "volume", "--", "--", "--", "100"],
        ["snap2_snp", "volume", "--", "snap2", "0.00", "--"],
    ]  # fmt: skip
    hand.type("vxsnap -g dg reattach snap2 source=vol01")
    printed = hand.type("vxprint -g dg -ht").rows
    assert printed[:5] == [
        ["Disk", "group:", "dg"], ["DG", "NAME", "NCONFIG", "NLOG", "MINORS", "GROUP-ID"],
        ["V", "NAME", "RVG/VSET/CO", "KSTATE", "STATE", "LENGTH", "READPOL", "PREFPLEX", "UTYPE"],
        ["PL", "NAME", "VOLUME", "KSTATE", "STATE", "LENGTH", "LAYOUT", "NCOL/WID", "MODE"],
        ["SD", "NAME", "PLEX", "DISK", "DISKOFFS", "LENGTH", "[COL/]OFF", "DEVICE", "MODE"],
    ]  # fmt: skip
    assert ["v", "vol01", "-", "ENABLED", "ACTIVE", SECTORS, "SELECT", "-", "fsgen"] in printed
    assert ["pl", "vol01-01", "vol01", "ENABLED", "ACTIVE", SECTORS, "CONCAT", "-", "RW"] in printed
    path = hand.daemon.plex("vol01", "vol01-01")["path"]
    assert ["sd", "vol01-01-s1", "vol01-01", "disk01", "0", SECTORS, "0", path, "ENA"] in printed
    counted = hand.type("vxstat -g dg -i 1 -c 2 vol01").rows
    assert counted[:2] == [
        ["OPERATIONS", "BLOCKS", "AVG", "TIME(ms)"], ["TYP", "NAME", "READ", "WRITE", "READ", "WRITE", "READ", "WRITE"]
    ]  # fmt: skip
    first, second = (row for row in counted if row[0] == "vol")
    assert first[:2] == second[:2] == ["vol", "vol01"] and int(first[3]) > 0
    assert second[2:6] == ["0", "0", "0", "0"]


def test_a_table_has_its_columns_where_veritas_has_them(hand: Hand) -> None:
    hand.type("vxassist -g dg make vol01 1m -o fmrd_paths=" + ",".join(f"{hand.daemon.base}/{n}" for n in "ab"))
    lines = hand.type("vxprint -g dg -ht vol01").out.splitlines()
    head = next(line for line in lines if line.startswith("V "))
    assert head.startswith("V  NAME         RVG/VSET/CO  KSTATE   STATE    LENGTH   READPOL   PREFPLEX UTYPE")
    row = next(line for line in lines if line.startswith("v "))
    assert row.startswith("v  vol01        -            ENABLED  ACTIVE   2048     SELECT    -        fsgen")


def test_what_has_no_counterpart_is_named(hand: Hand) -> None:
    hand.type("vxassist make vol01 1m")
    for line, named in (
        ("vxassist maxsize layout=mirror", "vxassist maxsize"), ("vxassist shrinkto vol01 512k", "vxassist shrinkto"),
        ("vxassist make v2 1m layout=stripe ncol=2", "ncol="), ("vxassist make v2 1m layout=raid5", "layout=raid5"),
        ("vxplex -o rm dis vol01-01", "vxplex -o rm dis"), ("vxplex -f det vol01-01", "vxplex -f"),
        ("vxsnap make source=vol01/snapvol=s1", "snapvol="), ("vxsnap split s1", "vxsnap split"),
        ("vxassist -o name=SNAP%v-%d snapshot vol01", "%d"), ("vxdg deport dg", "vxdg"),
        ("vxsnap prepare vol01 regionsize=1m", "regionsize=1m"), ("vxprint -m", "vxprint -m"),
        ("vxprint -F %nosuch vol01", "%nosuch"), ("vxsnap -d file make", "vxsnap -d"),
    ):  # fmt: skip
        said = hand.type(line, 1).err
        assert said.startswith("fmrd-vx: not supported: ") and named in said.splitlines()[0], line
        assert said.splitlines()[1].startswith("hint: "), line
    assert [volume["name"] for volume in hand.daemon.json("print")["volumes"]] == ["vol01"]


def test_scripts_see_the_exit_statuses_of_vxvm(hand: Hand) -> None:
    hand.type("vxassist make vol01 1m")
    hand.type("vxassist make vol01 1m", 12)
    hand.type("vxprint gone", 11)
    hand.type("vxplex det gone-01", 11)
    hand.type("vxplex det vol01-01", 3)
    hand.type("vxassist make", 2)
    hand.type("vxassist make v2 one", 2)


def test_a_snapshot_is_nobody_elses(hand: Hand) -> None:
    """Who names the wrong volume beside a snapshot gets neither restored nor cleared."""
    hand.type("vxassist make vol01 1m")
    hand.type("vxassist make vol02 1m")
    write_at(hand.daemon.path("vol02"), 0, b"mine")
    hand.type("vxassist snapstart vol01")
    hand.type("vxassist snapshot vol01 snap1")
    for line in (
        "vxassist snapclear vol02 snap1", "vxsnap refresh snap1 source=vol02", "vxsnap reattach snap1 source=vol02",
        "vxsnap restore vol02 source=snap1", "vxsnap restore vol01 source=vol02", "vxsnap dis vol01",
    ):  # fmt: skip
        assert "bad_request" in hand.type(line, 2).err, line
    assert hand.daemon.volume("snap1")["snapshot_of"] == "vol01"
    assert read_at(hand.daemon.path("vol02"), 0, 4) == b"mine"


def test_snapshots_have_several_plexes_and_come_together(hand: Hand) -> None:
    hand.type("vxassist make vol01 1m disk01")
    hand.type("vxassist -b snapstart nmirror=2 vol01")
    hand.type("vxtask monitor vol01")
    hand.type("vxassist snapshot nmirror=2 vol01 snap1")
    assert hand.states("snap1") == {"vol01-02": "ACTIVE", "vol01-03": "ACTIVE"}
    hand.type("vxassist snapback nmirror=1 snap1")
    assert len(hand.states("snap1")) == 1
    hand.type("vxassist -o allplexes snapback snap1")
    assert sorted(hand.states("vol01").values()) == ["ACTIVE", "SNAPDONE", "SNAPDONE"]
    hand.type("vxassist make vol02 1m disk01")
    hand.type("vxassist snapstart vol02 disk02")
    hand.type("vxsnap make source=vol01/newvol=vol01-s source=vol02/newvol=vol02-s")
    assert {hand.daemon.volume(f"{name}-s")["snapshot_of"] for name in ("vol01", "vol02")} == {"vol01", "vol02"}
    hand.type("vxsnap reattach vol02-s source=vol02")
    hand.type("vxsnap make source=vol01/newvol=a source=vol02/newvol=b", 1)
    hand.type("vxassist -o name=%v_snap snapshot vol01 vol02")
    assert hand.daemon.volume("vol02_snap")["snapshot_of"] == "vol02"
    hand.type("vxassist snapabort vol01", 1)


def test_mirrors_come_and_go_on_disks_of_their_own(hand: Hand) -> None:
    hand.type("vxassist make vol01 20480 disk02")
    hand.type("vxassist mirror vol01")
    hand.type("vxassist mirror vol01 nmirror=2")
    folders = [Path(p["path"]).parent.name for p in hand.daemon.volume("vol01")["plexes"]]
    assert folders == ["d2", "d1", "d3", "d4"]
    assert "no_disk" in hand.type("vxassist mirror vol01", 1).err
    hand.type("vxassist remove mirror vol01 !disk03")
    hand.type("vxplex dis vol01-04")
    assert hand.states("vol01") == {"vol01-01": "ACTIVE", "vol01-02": "ACTIVE"}
    hand.type("vxassist growby vol01 1m")
    assert hand.daemon.volume("vol01")["length_bytes"] == 11 * MIB
    hand.type("vxvol rdpol prefer vol01 vol01-02")
    assert hand.type("vxprint -F '%{name:-10}|%pref_name' vol01").out.splitlines()[0] == "vol01     |vol01-02"


def test_volumes_stop_and_start(hand: Hand) -> None:
    hand.type("vxassist make vol01 1m")
    hand.type("vxassist make vol02 1m")
    hand.type("vxvol stopall")
    assert hand.type("vxprint -F '%name %kstate' vol01 vol02").out == "vol01 DISABLED\nvol02 DISABLED\n"
    hand.type("vxvol start vol01 vol02")
    assert hand.type("vxprint -vF '%kstate'").out == "ENABLED\nENABLED\n"


def test_an_instant_snapshot_in_a_cache_is_synchronised(hand: Hand) -> None:
    hand.type("vxassist make vol01 1m")
    write_at(hand.daemon.path("vol01"), 0, b"1" * REGION)
    hand.type("vxsnap make source=vol01/newvol=s1/cache=c1")
    listed = hand.type("vxsnap -vx list").rows
    assert listed[0][:4] == ["NAME", "DG", "OBJTYPE", "SNAPTYPE"]
    assert listed[1][:6] == ["s1", "fmrd", "vol", "fullinst", "vol01", "fmrd"]
    hand.type("vxsnap syncstart s1")
    hand.type("vxsnap syncwait s1")
    assert hand.type("vxsnap list s1").rows[1][3] == "mirbrk"
    hand.type("vxsnap syncpause s1", 1)


def test_a_cache_that_is_a_store_is_shared_and_grows(hand: Hand, tmp_path: Path) -> None:
    hand.daemon.json("store", "add", "c1", tmp_path / "store", "size=2M")
    for volume in ("vol01", "vol02"):
        hand.type(f"vxassist make {volume} 1m")
        hand.type(f"vxsnap make source={volume}/newvol=s-{volume}/cache=c1")
    assert {path.name for path in (tmp_path / "store").glob("*.plex")} == {"s-vol01.plex", "s-vol02.plex"}
    hand.type("vxcache growcacheby c1 1m")
    assert hand.type("vxcache list c1").rows[1][:4] == ["c1", "fmrd", "2", str((3 << 20) // 512)]
    hand.type("vxcache shrinkcacheto c1 1k", 3)
    hand.type("vxsnap syncstart s-vol01", 3)


def test_a_copy_is_watched_and_steered(hand: Hand) -> None:
    hand.type("vxassist make vol01 4m")
    for region in range(64):
        write_at(hand.daemon.path("vol01"), region * REGION, b"x" * REGION, sync=False)
    hand.daemon.json("set", "vol01", "rate=64K")
    hand.type("vxassist -b -t nightly mirror vol01")
    listed = hand.type("vxtask -h list vol01")
    [_, row] = listed.rows
    assert "\n\n" not in listed.out
    assert row[1] == "ATCOPY/R" and row[4:] == ["PLXATT", "vol01", "vol01-02"]
    assert re.fullmatch(r"[0-9]{2}\.[0-9]{2}%", row[2]) and re.fullmatch(r"0/8192/[0-9]+", row[3])
    hand.type(f"vxtask pause {row[0]}")
    assert hand.type("vxtask list").rows[1][1] == "ATCOPY/P"
    for words in ("list nightly", f"-i {row[0]} list", "-i nightly -v vol01 list", "list vol01 nightly"):
        assert [found[0] for found in hand.type(f"vxtask {words}").rows[1:]] == [row[0]]
    assert hand.type("vxtask -i other list").rows[1:] == []
    hand.type("vxtask list other", status=11)
    hand.type("vxtask resume nightly")
    hand.type("vxassist -b -t 7 mirror vol01", status=2)
    hand.daemon.json("set", "vol01", "rate=0")
    hand.type(f"vxtask set slow=0 {row[0]}")
    lines = hand.type("vxtask monitor vol01").rows
    assert lines[0][0] == "TASKID" and lines[-1][1:3] == ["ATCOPY/EXITED", "100.00%"]


def test_it_is_called_by_links(hand: Hand, tmp_path: Path) -> None:
    """As a program of its own: the name of the link is the tool."""
    program = tmp_path / "fmrd-vx"
    program.write_text(f"#!{sys.executable}\nfrom fmrd.front.vx.main import main\nmain()\n")
    program.chmod(0o755)
    links = tmp_path / "links"
    links.mkdir()
    tool(program, "--link", links)
    assert sorted(os.listdir(links)) == [
        "vxassist", "vxcache", "vxmend", "vxplex", "vxprint", "vxrecover", "vxsnap", "vxstat", "vxtask", "vxvol"
    ]  # fmt: skip
    environment = os.environ | {"FMRD_SOCKET": str(hand.daemon.socket)}
    tool(links / "vxassist", "make", "vol01", "1m", env=environment)
    assert tool(links / "vxprint", "-F%kstate", "vol01", env=environment) == "ENABLED\n"
    again = subprocess.run([program, "--link", links], capture_output=True, text=True)
    assert again.returncode == 0
    (links / "vxstat").unlink()
    (links / "vxstat").write_text("VxVM's own")
    assert subprocess.run([program, "--link", links], capture_output=True).returncode == 1
    assert (links / "vxstat").read_text() == "VxVM's own"
    assert "vxassist [-b] snapstart VOLUME" in tool(program, "--help")

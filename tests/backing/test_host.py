"""The machine: home copies that appear at once and whole, one owner of the state, sidecars and tails."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fmrd.backing.dcofile import DcoFile
from fmrd.backing.host import LinuxHost
from fmrd.backing.plexfile import PlexFile
from fmrd.backing.protocol import LOCATOR_BYTES, Kind, Probe
from fmrd.errors import BadRequest, Failed, Refused
from tests.processes import left_behind

BLOCK = 4096


@pytest.fixture
def host(tmp_path: Path) -> LinuxHost:
    return LinuxHost(tmp_path / "state")


def test_the_state_is_its_owners_alone(tmp_path: Path, host: LinuxHost) -> None:
    assert stat.S_IMODE((tmp_path / "state" / "volumes").stat().st_mode) == 0o700
    LinuxHost(tmp_path / "state")  # again does no harm


@pytest.mark.parametrize("umask", [0, 0o777], ids=oct)
def test_the_umask_neither_opens_nor_closes_what_is_made(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        LinuxHost(tmp_path / "new" / "fmrd" / "state").lock()
    finally:
        os.umask(old)
    for made in ("new", "new/fmrd", "new/fmrd/state", "new/fmrd/state/volumes"):
        assert stat.S_IMODE((tmp_path / made).stat().st_mode) == 0o700, made


def test_a_state_that_is_open_to_others_is_closed_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"
    (state / "volumes").mkdir(parents=True)
    for each in (state, state / "volumes"):
        each.chmod(0o777)
    LinuxHost(state).lock()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (state, state / "volumes")] == [0o700, 0o700]
    assert caplog.text.count("was open to others (mode 0777)") == 2


def test_a_directory_that_is_not_fmrds_alone_stays_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As /tmp, given as --state."""
    (tmp_path / "of somebody else").touch()
    tmp_path.chmod(0o1777)
    LinuxHost(tmp_path).lock()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    assert "left as it is" in caplog.text
    assert stat.S_IMODE((tmp_path / "volumes").stat().st_mode) == 0o700


def test_what_was_never_published_goes_at_a_start_when_nobody_makes_it_any_more(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = LinuxHost(state)
    first.lock()
    for name in ("data", "b.dco.new"):
        first.create_home(name, BLOCK).close()
    first.publish_home("b.dco.new")
    with pytest.raises(Refused, match="daemon_running"):
        LinuxHost(state).lock()
    assert sorted(os.listdir(state / "volumes")) == ["b.dco.new.dco", "data.dco.new"]
    assert first._lock is not None
    first._lock.release()  # as a kill does
    LinuxHost(state).lock()
    assert os.listdir(state / "volumes") == ["b.dco.new.dco"]


def test_two_names_of_one_plex_are_told_from_another_owner(tmp_path: Path, host: LinuxHost, loop: str) -> None:
    file, alias, block = str(tmp_path / "p"), str(tmp_path / "alias"), str(tmp_path / "block")
    os.symlink("p", alias)
    os.symlink(loop, block)
    with contextlib.closing(host.create_plex(file, BLOCK)), contextlib.closing(host.open_plex(loop, 0)):
        for first, second in ((file, alias), (loop, block)):
            with pytest.raises(Failed, match=f"{second} and {first} are one file") as caught:
                host.open_plex(second, 0)
            assert caught.value.code == "plex_busy"
            with pytest.raises(Failed, match=r"plex_busy: .* (locked|in use)"):
                LinuxHost(tmp_path / "other").open_plex(second, 0)
    host.open_plex(alias, 0).close()


def test_one_daemon_owns_the_state(tmp_path: Path, host: LinuxHost) -> None:
    host.lock()
    with pytest.raises(Refused, match="daemon_running"):
        LinuxHost(tmp_path / "state").lock()
    LinuxHost(tmp_path / "other").lock()


@pytest.mark.parametrize("name", ["data", "a.dco", ".hidden", "-x", "sp ace", "ümläut", "a\nb", "%s", "*"])
def test_a_home_copy_counts_once_it_is_published(host: LinuxHost, name: str) -> None:
    file = host.create_home(name, 4 * BLOCK)
    file.write(0, b"x" * BLOCK)
    assert host.homes() == []
    with pytest.raises(Failed, match="home_missing"):
        host.open_home(name)
    host.publish_home(name)
    assert host.homes() == [name]
    file.write(BLOCK, b"y" * BLOCK)  # the open copy is the published one
    file.close()
    again = host.open_home(name)
    assert again.read(0, 2 * BLOCK) == b"x" * BLOCK + b"y" * BLOCK
    again.close()
    host.remove_home(name)
    assert host.homes() == []
    host.remove_home(name)


def test_homes_are_sorted_and_apart(host: LinuxHost) -> None:
    for name in ("b", "a", "b.dco.new", "a.dco"):
        host.create_home(name, BLOCK).close()
        host.publish_home(name)
    assert host.homes() == ["a", "a.dco", "b", "b.dco.new"]
    host.remove_home("a")
    assert host.homes() == ["a.dco", "b", "b.dco.new"]


def test_a_home_copy_that_was_never_published_is_replaced(host: LinuxHost) -> None:
    file = host.create_home("data", BLOCK)
    file.write(0, b"x" * BLOCK)
    file.close()
    again = host.create_home("data", BLOCK)
    host.publish_home("data")
    assert again.read(0, BLOCK) == bytes(BLOCK)
    again.close()


def test_probe_looks_and_does_not_touch(tmp_path: Path, host: LinuxHost, loop: str) -> None:
    (tmp_path / "p").write_bytes(b"x" * 5000)
    (tmp_path / "link").symlink_to("p")
    assert host.probe(str(tmp_path / "none")) == Probe(False)
    assert host.probe(str(tmp_path / "p")) == host.probe(str(tmp_path / "link")) == Probe(True, False, 5000)
    assert host.probe(loop) == Probe(True, True, 4 << 20)
    with pytest.raises(BadRequest, match="not_a_plex"):
        host.probe(str(tmp_path))
    with pytest.raises(OSError, match="Not a directory"):
        host.probe(str(tmp_path / "p" / "q"))


def test_a_host_looks_before_it_takes(tmp_path: Path, host: LinuxHost) -> None:
    (tmp_path / "p").write_bytes(b"x" * 5000)
    (tmp_path / "q.dco").write_bytes(b"x")
    assert [each.kind for each in host.look(str(tmp_path / "p"), None).has_data] == [Kind.NOT_EMPTY]
    assert [each.kind for each in host.look(str(tmp_path / "p"), str(tmp_path)).in_use] == [Kind.OWN_MOUNT]
    assert [each.kind for each in host.look(str(tmp_path / "q"), None).has_data] == [Kind.SIDECAR]
    assert host.look(str(tmp_path / "q"), None, sidecar=False).blank


def test_a_file_has_its_copy_beside_it_or_where_it_is_told(tmp_path: Path, host: LinuxHost) -> None:
    path, elsewhere = str(tmp_path / "p"), str(tmp_path / "elsewhere")
    host.create_plex(path, BLOCK).close()
    assert host.tail_bytes(path) is None
    for dco_path, expected in ((None, path + ".dco"), (elsewhere, elsewhere)):
        assert host.open_dco(path, dco_path) is None
        file = host.create_dco(path, dco_path, 2 * BLOCK)
        assert file.path == expected
        file.close()
        again = host.open_dco(path, dco_path)
        assert again is not None and again.length == 2 * BLOCK
        again.close()
        host.remove_dco(path, dco_path)
        assert not os.path.exists(expected)
        host.remove_dco(path, dco_path)


def test_a_device_has_its_copy_at_its_tail_or_where_it_is_told(tmp_path: Path, host: LinuxHost, loop: str) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    host.create_dco(loop, elsewhere, 2 * BLOCK).close()
    assert host.tail_bytes(loop) is None and host.open_dco(loop, None) is None
    host.create_dco(loop, None, 2 * BLOCK).close()
    assert host.tail_bytes(loop) == 2 * BLOCK + LOCATOR_BYTES
    again = host.open_dco(loop, None)
    assert again is not None and again.length == 2 * BLOCK
    again.close()
    host.remove_dco(loop, None)
    assert host.tail_bytes(loop) is None and os.path.exists(elsewhere)
    assert os.path.exists(loop)


def test_a_plex_file_is_removed_and_a_device_is_not(tmp_path: Path, host: LinuxHost, loop: str) -> None:
    path = str(tmp_path / "p")
    host.create_plex(path, BLOCK).close()
    for _ in range(2):
        host.remove_plex(path)
        assert not os.path.exists(path)
    host.remove_plex(loop)
    assert os.path.exists(loop)


def test_what_a_process_that_was_left_behind_may_write_to_stays_out(
    tmp_path: Path, host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks are free; what it writes to is asked of its notes, whoever opens that."""
    monkeypatch.setattr("fmrd.backing.owning.state.END_SECONDS", 0.05)
    plex, sound = str(tmp_path / "p"), str(tmp_path / "q")
    host.create_plex(plex, BLOCK).close()
    host.create_plex(sound, BLOCK).close()
    host.create_dco(plex, None, BLOCK).close()
    host.create_home("data", BLOCK).close()
    host.publish_home("data")
    home = str(tmp_path / "state" / "volumes" / "data.dco")
    looked = host.look(plex, None)
    attempts: dict[str, list[Callable[[], object]]] = {
        plex: [lambda: host.open_plex(plex, 0), lambda: host.take_plex(plex, 0, looked)],
        plex + ".dco": [
            lambda: host.open_dco(plex, None),
            lambda: host.create_dco(plex, None, BLOCK, replace=True),
        ],
        home: [lambda: host.open_home("data")],
    }
    for path, calls in attempts.items():
        with left_behind(path) as (process, line):
            (tmp_path / "state" / "lock").write_text(f"nonsense\n{line}\n")
            host.lock()
            assert [each.number for each in host.left_behind] == [process.pid]
            assert line in (tmp_path / "state" / "lock").read_text().splitlines(), "the one after this one asks, too"
            for call in calls:
                with pytest.raises(Failed, match=f"process {process.pid}\\) has not returned") as caught:
                    call()
                assert caught.value.code == "plex_hung"
            host.open_plex(sound, 0).close()
            process.kill()
            process.wait()
            for call in calls:
                found = call()
                assert isinstance(found, PlexFile | DcoFile)
                found.close()
        assert host._lock is not None
        host._lock.release()


def test_a_full_state_directory_can_be_owned(host: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "pwrite", refuse)
    host.lock()


def test_nothing_is_opened_that_leads_back_to_the_own_mount(tmp_path: Path) -> None:
    """Not by its name, not by a link, and no copy of the DCO either."""
    mount = tmp_path / "volumes"
    mount.mkdir()
    (mount / "low").write_bytes(bytes(4096))
    (tmp_path / "link").symlink_to(mount / "low")
    (tmp_path / "plex").write_bytes(bytes(4096))
    host = LinuxHost(tmp_path / "state", mount)
    for path in (mount / "low", tmp_path / "link"):
        for act in (
            lambda at=str(path): host.open_plex(at, 0),
            lambda at=str(path): host.tail_bytes(at),
            lambda at=str(path): host.open_dco(at, None),
            lambda at=str(path): host.open_dco(str(tmp_path / "plex"), at),
            lambda at=str(path): host.create_dco(str(tmp_path / "plex"), at, 4096),
        ):
            with pytest.raises(Refused) as refused:
                act()
            assert refused.value.code == "refused_in_use" and "own mount" in refused.value.message
    host.open_plex(str(tmp_path / "plex"), 0).close()

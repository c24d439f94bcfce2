"""What fmrd tells whoever started it, and what it gets back from there."""

import array
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmrd.front.daemon import supervisor
from fmrd.front.daemon.supervisor import Supervisor, supervisor_of

ME = os.getpid()


@pytest.fixture(params=["a path", "an abstract name"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "a path" else f"@fmrd-test-{ME}"


@pytest.fixture
def listener(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("\0" + address[1:] if address.startswith("@") else address)
        made.settimeout(10)
        yield made


def test_it_is_told(address: str, listener: socket.socket) -> None:
    assert Supervisor(address).notify("READY=1")
    assert listener.recv(100) == b"READY=1"


def test_it_is_given_a_descriptor_under_a_name(address: str, listener: socket.socket, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"kept")
    with file.open("rb") as given:
        assert Supervisor(address, stores=True).keep("volume", given.fileno())
    message, [(_, kind, data)], *_ = listener.recvmsg(100, socket.CMSG_SPACE(4))
    assert (message, kind) == (b"FDSTORE=1\nFDNAME=volume", socket.SCM_RIGHTS)
    [descriptor] = array.array("i", data)
    try:
        assert os.read(descriptor, 10) == b"kept"
    finally:
        os.close(descriptor)


def test_one_without_a_store_is_given_nothing(address: str, listener: socket.socket) -> None:
    listener.setblocking(False)
    assert not Supervisor(address).keep("volume", 0)
    with pytest.raises(BlockingIOError):
        listener.recv(100)


def test_one_that_does_not_listen_is_no_reason_to_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not Supervisor(str(tmp_path / "nobody")).notify("READY=1")
    assert "READY=1" in caplog.text


def test_nobody_is_told_where_nobody_asked(caplog: pytest.LogCaptureFixture) -> None:
    assert not supervisor_of({}, ME).notify("READY=1")
    assert not caplog.text


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Two, as if they had been inherited as the first ones."""
    first, second = os.pipe()
    os.dup2(first, second, inheritable=True)
    if second != first + 1:
        second = os.dup2(first, first + 1, inheritable=True)
    os.set_inheritable(first, True)
    monkeypatch.setattr(supervisor, "FIRST_DESCRIPTOR", first)
    yield [first, second]
    os.close(first)
    os.close(second)


def test_what_was_kept_is_had_back_by_its_name_once(descriptors: list[int]) -> None:
    told = {"LISTEN_PID": str(ME), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "one:two"}
    found = supervisor_of(told, ME)
    assert found.kept == dict(zip(("one", "two"), descriptors, strict=True))
    assert not any(os.get_inheritable(each) for each in descriptors)
    assert found.take("two") == descriptors[1]
    assert found.take("two") is None


def test_what_was_kept_for_another_process_is_left_alone(descriptors: list[int]) -> None:
    told = {"LISTEN_PID": str(ME + 1), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "one:two"}
    assert supervisor_of(told, ME).kept == {}
    assert all(os.get_inheritable(each) for each in descriptors)


@pytest.mark.parametrize(
    ("told", "stores"),
    [
        ({}, False),
        ({"NOTIFY_SOCKET": "/x"}, False),
        ({"NOTIFY_SOCKET": "/x", "FDSTORE": "0"}, False),
        ({"NOTIFY_SOCKET": "/x", "FDSTORE": "4"}, True),
        ({"FDSTORE": "4"}, False),
    ],
)
def test_who_has_a_store_says_so(told: dict[str, str], stores: bool) -> None:
    assert supervisor_of(told, ME).stores is stores

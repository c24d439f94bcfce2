"""Where the kernel gives no ring, one sentence says why; nothing is left open."""

import errno
import os
from pathlib import Path

import pytest

from fmrd.backing.ring import abi, probe
from fmrd.backing.ring.ring import Ring
from tests.backing.ring.conftest import MakeRing


def refuse(monkeypatch: pytest.MonkeyPatch, code: int, switch: Path) -> None:
    def setup(entries: int, flags: int, cq_entries: int) -> tuple[int, abi.Parameters]:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(abi, "setup", setup)
    monkeypatch.setattr(probe, "SWITCH", switch)


@pytest.mark.parametrize(
    ("code", "switch", "says"),
    [
        (errno.EPERM, "2\n", "io_uring_disabled = 2"),
        (errno.EPERM, "0\n", "seccomp"),
        (errno.EPERM, None, "seccomp"),
        (errno.ENOSYS, None, "no io_uring"),
        (errno.ENOMEM, "0\n", "RLIMIT_MEMLOCK"),
        (errno.EMFILE, "0\n", "Too many open files"),
        (errno.EINVAL, "0\n", "Invalid argument"),
    ],
)
def test_it_says_why_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, switch: str | None, says: str
) -> None:
    where = tmp_path / "switch"
    if switch is not None:
        where.write_text(switch)
    refuse(monkeypatch, code, where)
    reason = probe.open_ring()
    assert isinstance(reason, str) and says in reason


def test_a_kernel_that_lacks_what_is_needed(make_ring: MakeRing, monkeypatch: pytest.MonkeyPatch) -> None:
    make_ring(2)  # skips where there is none at all
    before = len(os.listdir("/proc/self/fd"))
    real = abi.setup

    def setup(entries: int, flags: int, cq_entries: int) -> tuple[int, abi.Parameters]:
        descriptor, made = real(entries, flags, cq_entries)
        made.features &= ~abi.FEAT_NODROP
        return descriptor, made

    with monkeypatch.context() as old:
        old.setattr(abi, "setup", setup)
        assert probe.open_ring(2) == "this kernel has no io_uring, or one from before Linux 5.15"
    with monkeypatch.context() as old:

        def set_workers(descriptor: int, bounded: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        old.setattr(abi, "set_workers", set_workers)
        assert probe.open_ring(2) == "this kernel has no io_uring, or one from before Linux 5.15"
    with monkeypatch.context() as old:
        old.setattr(abi, "operations", lambda descriptor: {abi.READ})
        assert probe.open_ring(2) == "io_uring of this kernel cannot fsync, write"
    assert len(os.listdir("/proc/self/fd")) == before


def test_flags_that_a_kernel_does_not_know_are_left_out(make_ring: MakeRing, monkeypatch: pytest.MonkeyPatch) -> None:
    make_ring(2)
    real = abi.setup

    def setup(entries: int, flags: int, cq_entries: int) -> tuple[int, abi.Parameters]:
        if flags & ~(abi.SETUP_CLAMP | abi.SETUP_CQSIZE):
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(entries, flags, cq_entries)

    monkeypatch.setattr(abi, "setup", setup)
    make_ring(2)


def test_there_is_one_here(make_ring: MakeRing) -> None:
    make_ring(2)
    found = probe.open_ring(4)
    assert isinstance(found, Ring)
    found.close()

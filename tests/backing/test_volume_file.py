"""The file of a volume, as clients read and write it."""

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fmrd.backing.clients.volume_file import VolumeFile

MIB = 1 << 20


def test_a_direct_request_begins_with_a_page_so_that_it_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that begins elsewhere touches a page more, which may be one too many for a request of the kernel's."""
    path = tmp_path / "volume"
    path.write_bytes(b"o" * 2 * MIB)
    began: list[int] = []

    def noting(call: Callable[[int, Any, int], int]) -> Callable[[int, Any, int], int]:
        def noted(descriptor: int, data: Any, offset: int) -> int:
            view = data[0] if isinstance(data, list) else data
            began.append(ctypes.addressof(ctypes.c_char.from_buffer(view)) % mmap.PAGESIZE)
            return call(descriptor, data, offset)

        return noted

    monkeypatch.setattr(os, "pwrite", noting(os.pwrite))
    monkeypatch.setattr(os, "preadv", noting(os.preadv))
    with VolumeFile(str(path), writes=True, direct=True) as file:
        file.write(MIB, b"n" * MIB)
        file.write(0, b"f" * 4096)
        assert file.read(0, 2 * MIB) == b"f" * 4096 + b"o" * (MIB - 4096) + b"n" * MIB
        assert file.read(MIB - 512, 1024) == b"o" * 512 + b"n" * 512
    assert began and not any(began)
    assert path.read_bytes() == b"f" * 4096 + b"o" * (MIB - 4096) + b"n" * MIB

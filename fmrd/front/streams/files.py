"""Streams in files, opened, and made so that a name stands for a whole one; and in pipes."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import IO, BinaryIO

from fmrd.backing.clients.volume_file import sync
from fmrd.errors import Failed
from fmrd.front.streams.stream import CHUNK_BYTES, Readable


def widen(pipe: IO[bytes]) -> None:
    """Have a pipe hold a record, as far as the system lets it: else both ends wake each other up for each 64 KiB."""
    with contextlib.suppress(OSError, ValueError):  # it is no pipe, or is closed: then nothing is to be gained
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, CHUNK_BYTES)


class Descriptor:
    """What is read by its descriptor: a thread that waits there holds up nobody who leaves."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int) -> bytes:
        return os.read(self._descriptor, size)


def unbuffered(source: IO[bytes]) -> Readable:
    """Return what reads past the buffer, which holds nothing yet; itself where it is in memory."""
    try:
        return Descriptor(source.fileno())
    except OSError:
        return source


@contextlib.contextmanager
def opened(path: str) -> Iterator[Readable]:
    """Open one to be read; Failed('stream_missing')."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb", buffering=0))  # see Descriptor
        except OSError as error:
            raise Failed("stream_missing", f"{path}: {error.strerror}") from error
        yield file


@contextlib.contextmanager
def made(path: str) -> Iterator[BinaryIO]:
    """Make a new one: it has its name once all of it is durable, and is gone where that is not to be. Failed
    ('stream_file').
    """
    part = f"{path}.part"
    try:
        if os.path.lexists(path):
            raise Failed("stream_file", f"{path} is there already", "another name, or remove it first")
        with open(part, "xb") as file:
            try:
                yield file
                file.flush()
                sync(file.fileno())
                os.rename(part, path)
            except BaseException:
                os.unlink(part)
                raise
    except OSError as error:
        raise Failed("stream_file", f"{path}: {error.strerror or error}") from error

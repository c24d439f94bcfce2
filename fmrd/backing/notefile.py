"""A plain file in the state directory is for what may be lost: whoever reads it checks what it says."""

import os


class NoteFile:
    """This is protocol.Notes for real: made if it is missing and ``make`` says so, mode 0600. Errors are OSError."""

    def __init__(self, path: str, *, make: bool) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
        self._fd = os.open(path, flags, 0o600)

    def read(self, offset: int, length: int) -> bytes:
        found = os.pread(self._fd, length, offset)
        return found + bytes(length - len(found))

    def write(self, offset: int, data: bytes) -> None:
        while data:
            written = os.pwrite(self._fd, data, offset)
            offset, data = offset + written, data[written:]

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

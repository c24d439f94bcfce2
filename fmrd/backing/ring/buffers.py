"""Memory that the kernel reads from or writes to while nobody waits: where it lies, and a pool of it."""

import contextlib
import ctypes
import mmap
import sys

HUGE_BYTES = 2 << 20


class _View(ctypes.Structure):
    """Python's Py_buffer, as far as it is the same in all versions; the rest is room."""

    _fields_ = (("address", ctypes.c_void_p), ("rest", ctypes.c_void_p * 15))


_get, _release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
_get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
_release.argtypes = [ctypes.c_void_p]
_release.restype = None
_SIMPLE = 0
_of_bytes = ctypes.pythonapi.PyBytes_AsString
_of_bytes.argtypes = [ctypes.py_object]
_of_bytes.restype = ctypes.c_void_p
_byte = ctypes.c_char.from_buffer
_address = ctypes.addressof


def address_of(buffer: bytes | bytearray | memoryview) -> int:
    """Where its bytes lie, as long as it lives and does not change its length; BufferError where they lie apart.

    This costs 0.3 us, and 1 us for what is no bytes and cannot be written to, where Python's official ways are long.
    """
    if type(buffer) is bytes:
        return int(_of_bytes(buffer))
    if not len(buffer):
        return 0
    if type(buffer) is bytearray or not buffer.readonly:  # type: ignore[union-attr]  # a bytearray never is
        return _address(_byte(buffer))
    view = _View()
    where = _address(view)
    _get(buffer, where, _SIMPLE)
    found = view.address
    _release(where)
    return int(found)


class Pool:
    """Memory of ``size`` bytes each, from the beginning of a huge page on where there are any. ``most`` of them are
    used again as soon as nobody refers to them any more: no one need say so, which a disk that hangs could forget.

    All of its pages are there before anybody has it. A request that the kernel copies from /dev/fuse into a page that
    is not is lost, with EIO to whoever asked, if the process is killed while the kernel looks for one.
    """

    def __init__(self, size: int, most: int) -> None:
        self._size = size
        self._most = most
        self._memories: list[mmap.mmap] = []

    def spare(self) -> memoryview | None:
        """As ``take``, but None where all that are used again are in use: another one would be dear, and gone soon."""
        memory = _unused(self._memories, _REFERENCES)
        if memory is not None:
            return self._view(memory)
        return self.take() if len(self._memories) < self._most else None

    def take(self) -> memoryview:
        """Return memory to be filled that nobody refers to; which is looked for first where it is in the caches yet."""
        memory = _unused(self._memories, _REFERENCES)
        if memory is not None:
            return self._view(memory)
        memory = mmap.mmap(-1, self._size + HUGE_BYTES)
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
        if len(self._memories) < self._most:
            self._memories.append(memory)
        view = self._view(memory)
        view[:: mmap.PAGESIZE] = bytes(-(-self._size // mmap.PAGESIZE))
        return view

    def _view(self, memory: mmap.mmap) -> memoryview:
        start = -_address(_byte(memory)) % HUGE_BYTES
        return memoryview(memory)[start : start + self._size]


def _unused(memories: list[mmap.mmap], references: int) -> mmap.mmap | None:
    """Return the first that has so many: the list's, this loop's, and the question's own, which not every Python
    counts. Each view of it, and of a part of it, is one more.
    """
    for memory in memories:
        if sys.getrefcount(memory) == references:
            return memory
    return None


def _references_of_unused() -> int:
    """As this Python counts; 0, so that nothing is ever used again, where that does not tell what is in use."""
    memories = [mmap.mmap(-1, mmap.PAGESIZE)]
    for references in range(1, 9):
        if _unused(memories, references) is not None:
            view = memoryview(memories[0])[1:]
            return 0 if _unused(memories, references) is not None or not view else references
    return 0


_REFERENCES = _references_of_unused()

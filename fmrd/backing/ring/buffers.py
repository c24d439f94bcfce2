"""Memory that the kernel reads from or writes to while nobody waits: where it lies, and a pool of it on whole pages."""

import ctypes
import mmap


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


class Buffer:
    """Pages of a pool: ``memory`` to be filled, at ``address``."""

    __slots__ = ("address", "memory")

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.address = address_of(memory)


class Pool:
    """``count`` buffers of ``size`` bytes each (whole pages). It never grows: where it is empty, ``take`` has none."""

    def __init__(self, size: int, count: int) -> None:
        assert size > 0 and size % mmap.PAGESIZE == 0, f"{size} bytes are no whole pages"
        memory = memoryview(mmap.mmap(-1, size * count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._free = [Buffer(memory[at : at + size]) for at in range(0, size * count, size)]

    def take(self) -> Buffer | None:
        """The one that was given back last: it is in the processor's cache still."""
        return self._free.pop() if self._free else None

    def give_back(self, buffer: Buffer) -> None:
        """When nobody reads or writes there any more."""
        self._free.append(buffer)

"""These are the numbers of io_uring, its layouts, and its three system calls, as linux/io_uring.h has them.

All architectures but alpha have the same three numbers for the calls.
"""

import ctypes
import errno
import os
import struct

_SETUP, _ENTER, _REGISTER = 425, 426, 427

FSYNC, READ, WRITE = 3, 22, 23
"""Operations (IORING_OP_)."""
FSYNC_DATASYNC = 1
"""IORING_FSYNC_DATASYNC, for FSYNC."""
SQE_ASYNC = 1 << 4
"""IOSQE_ASYNC: a worker does it, and nothing is tried before."""

RWF_NOWAIT = 8
"""For WRITE: where it would have to wait, for whatever, it ends with -EAGAIN, in the call that hands it over."""

SETUP_CQSIZE = 1 << 3
SETUP_CLAMP = 1 << 4
SETUP_SUBMIT_ALL = 1 << 7
SETUP_COOP_TASKRUN = 1 << 8
SETUP_SINGLE_ISSUER = 1 << 12
SETUP_DEFER_TASKRUN = 1 << 13

FEAT_SINGLE_MMAP = 1 << 0
"""Both queues lie in one piece of memory (5.4)."""
FEAT_NODROP = 1 << 1
"""What does not fit into the queue of ends is kept by the kernel (5.5)."""
FEAT_EXT_ARG = 1 << 8
"""A wait may have a limit (5.11)."""
FEAT_NATIVE_WORKERS = 1 << 9
"""Workers are threads of the process (5.12)."""

ENTER_GETEVENTS = 1 << 0
ENTER_EXT_ARG = 1 << 3

SQ_CQ_OVERFLOW = 1 << 1
SQ_TASKRUN = 1 << 2

OFF_RINGS = 0
OFF_SQES = 0x10000000

REGISTER_PROBE = 8
REGISTER_IOWQ_MAX_WORKERS = 19

SQE = struct.Struct("=BBHiQQIIQQQQ")
"""A request: operation, flags, priority, descriptor, offset, address, length, flags of the operation, user data, 0."""
SQE_BYTES = 64
CQE = struct.Struct("=Qi4x")
"""An end: user data, result; its flags are not needed."""
CQE_BYTES = 16
_PARAMETERS = struct.Struct("=7I12x 7I4xQ 7I4xQ")
_TIMESPEC = struct.Struct("=qq")
_ARGUMENT = struct.Struct("=QIIQ")
"""What ENTER_EXT_ARG takes: signal mask, its size, padding, the address of a time."""
_PROBE_HEAD, _OPERATIONS, _OPERATION, _SUPPORTED = 16, 256, struct.Struct("=BxH4x"), 1
"""What REGISTER_PROBE answers: a head, and for each operation its number and whether it is known."""

assert SQE.size == SQE_BYTES and CQE.size == CQE_BYTES and _PARAMETERS.size == 120


class NotBegun(OSError):
    """The kernel had no memory, or no thread, for a request, and did nothing."""


def error_of(result: int) -> OSError:
    """Of a request that failed. -ECANCELED is said where no thread could be had: nothing here cancels one."""
    if result in (-errno.EAGAIN, -errno.ECANCELED, -errno.EINTR):
        return NotBegun(errno.ENOMEM, "no memory, or no thread, for a request to io_uring")
    return OSError(-result, os.strerror(-result))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = [*[ctypes.c_long] * 5, ctypes.c_void_p, ctypes.c_size_t]
_syscall.restype = ctypes.c_long


class Parameters:
    """What the kernel says of a new ring: how long its queues are, and at which byte each word of them lies."""

    def __init__(self, raw: bytes) -> None:
        fields = _PARAMETERS.unpack(raw)
        self.sq_entries, self.cq_entries = fields[0:2]
        self.features: int = fields[5]
        _, self.sq_tail, self.sq_mask, _, self.sq_flags, _, self.sq_array = fields[7:14]
        self.cq_head, self.cq_tail, self.cq_mask, _, _, self.cqes, _ = fields[15:22]

    @property
    def bytes(self) -> int:
        """Of the memory that holds both queues."""
        return int(max(self.sq_array + 4 * self.sq_entries, self.cqes + CQE_BYTES * self.cq_entries))


def setup(entries: int, flags: int, cq_entries: int) -> tuple[int, Parameters]:
    """Make a ring: its descriptor (O_CLOEXEC), and where things are in it."""
    raw = ctypes.create_string_buffer(_PARAMETERS.pack(0, cq_entries, flags, *[0] * 20), _PARAMETERS.size)
    descriptor = _checked(_syscall(_SETUP, entries, ctypes.addressof(raw), 0, 0, None, 0))
    return descriptor, Parameters(raw.raw)


def enter(descriptor: int, submit: int, wait_for: int, flags: int) -> int:
    """Hand over so many requests, and wait for so many ends; how many were taken, or -errno."""
    done: int = _syscall(_ENTER, descriptor, submit, wait_for, flags, None, 0)
    return done if done >= 0 else -ctypes.get_errno()


def enter_for(descriptor: int, submit: int, seconds: float) -> int:
    """The same with one end waited for, at most so long: then -ETIME."""
    time = ctypes.create_string_buffer(_TIMESPEC.pack(int(seconds), int(seconds % 1 * 1e9)))
    argument = _ARGUMENT.pack(0, 0, 0, ctypes.addressof(time))
    flags = ENTER_GETEVENTS | ENTER_EXT_ARG
    done: int = _syscall(_ENTER, descriptor, submit, 1, flags, argument, _ARGUMENT.size)
    return done if done >= 0 else -ctypes.get_errno()


def register(descriptor: int, what: int, argument: ctypes.Array[ctypes.c_char], count: int) -> int:
    """Ask or tell the kernel something about the ring; OSError."""
    return _checked(_syscall(_REGISTER, descriptor, what, ctypes.addressof(argument), count, None, 0))


def set_workers(descriptor: int, bounded: int) -> None:
    """How many workers at most this thread may have of the kind that is bounded; of the other, as it was. OSError."""
    register(descriptor, REGISTER_IOWQ_MAX_WORKERS, ctypes.create_string_buffer(struct.pack("=II", bounded, 0), 8), 2)


def operations(descriptor: int) -> set[int]:
    """Which the kernel knows; OSError."""
    raw = ctypes.create_string_buffer(_PROBE_HEAD + _OPERATIONS * _OPERATION.size)
    register(descriptor, REGISTER_PROBE, raw, _OPERATIONS)
    return {number for number, known in _OPERATION.iter_unpack(raw.raw[_PROBE_HEAD:]) if known & _SUPPORTED}


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result

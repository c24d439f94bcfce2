"""A range is copied between two plexes inside the kernel, holes kept, blocks never shared.

It takes copy_file_range where both are files of one file system that is known to copy, sendfile elsewhere (which needs
the target's file position, so each copy borrows a descriptor), pread and pwrite where the kernel does neither, and to
find out which side failed: an in-kernel copy does not tell.
"""

import errno
import mmap
import os
from collections.abc import Sequence

from fmrd.backing import libc
from fmrd.backing.descriptor import Descriptor
from fmrd.backing.holes import make_zero, segments
from fmrd.backing.protocol import SourceError

_NOT_HERE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_BUFFER_BYTES = 1 << 20


def copy_range(source: Descriptor, target: Descriptor, offset: int, length: int) -> int:
    """Make the range equal; return the bytes written. SourceError where reading failed, OSError where writing did."""
    known = source.known_data
    if known[0] <= offset and offset + length <= known[1]:
        _copy_data(source, target, offset, length)
        return length
    _must_reach(source, offset + length)
    written = 0
    for start, stop, is_data in segments(source, offset, offset + length):
        if is_data:
            _copy_data(source, target, start, stop - start)
            written += stop - start
        else:
            written += _make_hole(target, start, stop)
    return written


def copy_spans(source: Descriptor, target: Descriptor, spans: Sequence[tuple[int, int]]) -> int:
    """Make each [start, stop) equal, and return the bytes written, or raise as ``copy_range``. Short runs of data are
    what a resync mostly meets, and the way there must cost little beside the 16 us that the kernel takes for 64 KiB.
    """
    written = 0
    from_, to, call = source.fd, target.fd, os.copy_file_range
    plain = _by_kernel(source, target)
    for start, stop in spans:
        known = source.known_data
        if plain and known[0] <= start and stop <= known[1]:
            try:
                if call(from_, to, stop - start, start, start) == stop - start:
                    written += stop - start
                    continue
            except OSError:
                plain = False  # copy_range finds out which side it was
        written += copy_range(source, target, start, stop - start)
    return written


def _must_reach(source: Descriptor, stop: int) -> None:
    """What lies beyond the end of a file looks like a hole; here it is a file that somebody cut."""
    try:
        size = stop if source.is_block else os.fstat(source.fd).st_size
    except OSError as error:
        raise SourceError(error) from error
    if size < stop:
        raise SourceError(OSError(errno.EIO, f"{source.path} ends at byte {size}, before {stop}"))


def _copy_data(source: Descriptor, target: Descriptor, offset: int, length: int) -> None:
    try:
        done = _by_copy_file_range(source, target, offset, length) if _by_kernel(source, target) else 0
        if done < length:
            done += _by_sendfile(source, target, offset + done, length - done)
    except OSError:
        done = 0
    if done < length:
        _by_hand(source, target, offset + done, length - done)


def _by_kernel(source: Descriptor, target: Descriptor) -> bool:
    """Two files of one kind of file system that is known to copy: copy_file_range will."""
    same = not (source.is_block or target.is_block) and source.file_system == target.file_system
    return same and source.file_system in libc.SEPARATE_BLOCKS


def _by_copy_file_range(source: Descriptor, target: Descriptor, offset: int, length: int) -> int:
    done = 0
    while done < length:
        try:
            count = os.copy_file_range(source.fd, target.fd, length - done, offset + done, offset + done)
        except OSError as error:
            if error.errno in _NOT_HERE:
                return done
            raise
        if count == 0:
            return done
        done += count
    return done


def _by_sendfile(source: Descriptor, target: Descriptor, offset: int, length: int) -> int:
    descriptor = target.borrow()
    done = 0
    try:
        os.lseek(descriptor, offset, os.SEEK_SET)
        while done < length:
            try:
                count = os.sendfile(descriptor, source.fd, offset + done, length - done)
            except OSError as error:
                if error.errno in _NOT_HERE:
                    return done
                raise
            if count == 0:
                return done
            done += count
    finally:
        target.give_back(descriptor)
    return done


def _by_hand(source: Descriptor, target: Descriptor, offset: int, length: int) -> None:
    # Not closed by hand: the traceback of a failed write still holds a slice of it.
    view = memoryview(mmap.mmap(-1, min(length, _BUFFER_BYTES)))
    done = 0
    while done < length:
        want = min(len(view), length - done)
        try:
            count = os.preadv(source.fd, [view[:want]], offset + done)
            if count == 0:
                raise OSError(errno.EIO, f"{source.path} ends at byte {offset + done}")
        except OSError as error:
            raise SourceError(error) from error
        target.pwrite(offset + done, view[:count])
        done += count


def _make_hole(target: Descriptor, start: int, stop: int) -> int:
    """The bytes written where the target cannot have one."""
    if not target.is_block and all(not is_data for _, _, is_data in segments(target, start, stop)):
        return 0
    return make_zero(target, start, stop, punch=True)

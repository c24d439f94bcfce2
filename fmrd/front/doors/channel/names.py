"""Requests about names and attributes are answered from what is known, at once: everything but data."""

import errno
import stat
from collections.abc import Callable

from fmrd.front.doors.channel import protocol, replies
from fmrd.front.doors.channel.protocol import Op
from fmrd.front.doors.channel.replies import Attributes
from fmrd.front.doors.tree import BLOCK_BYTES, CACHE_SECONDS, NAME_BYTES, Entry, Tree

Body = bytes
"""Behind the header."""


class Names:
    """``answer`` gives the body of the answer, or raises OSError with the errno of the refusal. That FLUSH, ACCESS and
    FSYNCDIR are ENOSYS the kernel remembers, and does not ask again: there is nothing to do at a close.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._answers: dict[int, Callable[[int, Body], bytes]] = {
            Op.LOOKUP: self._lookup,
            Op.GETATTR: self._getattr,
            Op.SETATTR: self._setattr,
            Op.STATFS: self._statfs,
            Op.OPENDIR: self._opendir,
            Op.READDIR: self._readdir,
            Op.RELEASEDIR: self._nothing,
            **dict.fromkeys(
                (Op.CREATE, Op.MKNOD, Op.MKDIR, Op.UNLINK, Op.RMDIR, Op.SYMLINK, Op.RENAME, Op.RENAME2, Op.LINK),
                self._never,
            ),
        }

    def answer(self, opcode: int, inode: int, body: Body) -> bytes:
        work = self._answers.get(opcode)
        if work is None:
            raise OSError(errno.ENOSYS, f"opcode {opcode}")
        return work(inode, body)

    def _lookup(self, inode: int, body: Body) -> bytes:
        return replies.pack_entry(self._attributes(self._tree.lookup(inode, protocol.name_of(body))))

    def _getattr(self, inode: int, body: Body) -> bytes:
        return replies.pack_attr(self._attributes(self._tree.entry(inode)))

    def _setattr(self, inode: int, body: Body) -> bytes:
        valid, _, _, size = protocol.fixed_of(Op.SETATTR, body)
        other = bool(valid & (protocol.SET_MODE | protocol.SET_UID | protocol.SET_GID))
        wanted = size if valid & protocol.SET_SIZE else None
        return replies.pack_attr(self._attributes(self._tree.change(inode, owner_or_mode=other, size=wanted)))

    def _statfs(self, inode: int, body: Body) -> bytes:
        blocks, files = self._tree.space()
        return replies.pack_statfs(blocks, 0, files, BLOCK_BYTES, NAME_BYTES)

    def _opendir(self, inode: int, body: Body) -> bytes:
        self._tree.must_be_root(inode)
        return replies.pack_open(0)

    def _readdir(self, inode: int, body: Body) -> bytes:
        _, offset, size, *_ = protocol.fixed_of(Op.READDIR, body)
        listing = b""
        for name, entry in self._tree.files():
            if entry.inode > offset:
                record = replies.pack_dirent(entry.inode, entry.inode, stat.S_IFREG >> 12, name)
                if len(listing) + len(record) > size:
                    break
                listing += record
        return listing

    def _nothing(self, inode: int, body: Body) -> bytes:
        return b""

    def _never(self, inode: int, body: Body) -> bytes:
        """Volumes come and go by fmrctl alone."""
        raise OSError(errno.EPERM, "volumes are made by fmrctl")

    def _attributes(self, found: Entry) -> Attributes:
        uid, gid = self._tree.owner
        return Attributes(
            found.inode, found.mode, found.size, 1, uid, gid, found.changed_ns, BLOCK_BYTES, CACHE_SECONDS
        )

"""NBD: its numbers and layouts, as the protocol's description has them. All integers are big endian."""

import errno
import struct

GREETING = struct.Struct(">QQH")
"""magic, magic of the newstyle, flags"""
NBD_MAGIC, OPTION_MAGIC = 0x4E42444D41474943, 0x49484156454F5054
FIXED_NEWSTYLE, NO_ZEROES = 1, 2

OPTION = struct.Struct(">QII")
"""magic, option, length"""
ABORT, STARTTLS, GO, STRUCTURED_REPLY, SET_META_CONTEXT = 2, 5, 7, 8, 10
OPTION_REPLY = struct.Struct(">QIII")
"""magic, option, type, length"""
OPTION_REPLY_MAGIC = 0x3E889045565A9
ACK, INFO, META_CONTEXT = 1, 3, 4
REFUSAL = 1 << 31
"""Set in the type of every reply that refuses."""
UNSUPPORTED, POLICY, INVALID, TLS_REQUIRED, UNKNOWN, SHUTDOWN, BLOCK_SIZE_REQUIRED = (
    REFUSAL + number for number in (1, 2, 3, 5, 6, 7, 8)
)

INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3
EXPORT = struct.Struct(">HQH")
"""type, size in bytes, flags"""
BLOCK_SIZE = struct.Struct(">HIII")
"""type, least, preferred, most bytes of a request"""

HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES = 1, 2, 4, 8, 32, 64

REQUEST = struct.Struct(">IHHQQI")
"""magic, flags, command, cookie, offset, length"""
REQUEST_MAGIC = 0x25609513
READ, WRITE, DISCONNECT, FLUSH, WRITE_ZEROES, BLOCK_STATUS = 0, 1, 2, 3, 6, 7
FUA, NO_HOLE = 1, 2

SIMPLE = struct.Struct(">IIQ")
"""magic, error, cookie"""
SIMPLE_MAGIC = 0x67446698
CHUNK = struct.Struct(">IHHQI")
"""magic, flags, type, cookie, length"""
CHUNK_MAGIC = 0x668E33EF
DONE = 1
NONE, OFFSET_DATA, OFFSET_HOLE, STATUS, ERROR, ERROR_OFFSET = 0, 1, 2, 5, 32769, 32770
IS_ERROR = 1 << 15
HOLE = struct.Struct(">QI")
FAILURE = struct.Struct(">IH")
"""error, length of the message"""
EXTENT = struct.Struct(">II")
"""length, flags"""
EXTENT_ZERO = 2

COMMANDS = {
    READ: "read", WRITE: "write", FLUSH: "flush", WRITE_ZEROES: "write of zeros", BLOCK_STATUS: "question for holes",
}  # fmt: skip
ERRORS = {
    1: errno.EPERM, 5: errno.EIO, 22: errno.EINVAL, 28: errno.ENOSPC, 75: errno.EOVERFLOW,
    95: errno.EOPNOTSUPP, 108: errno.ESHUTDOWN,
}  # fmt: skip
"""What a server may answer; anything else counts as EIO, that it has no memory, too: that would be taken for ours."""

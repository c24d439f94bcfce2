"""Small durable writes through a ring, of whole blocks: marks, which an application's write waits for."""

import errno

from fmrd.backing.calls.system_calls import Began
from fmrd.backing.owning.under_way import HandedOver
from fmrd.backing.ring import transfers
from fmrd.backing.ring.abi import NotBegun
from fmrd.backing.ring.buffers import Pool, address_of

MOST_BYTES = 16384
"""What may be begun at once; larger writes are not for anybody who waits, and take a thread."""
_blocks = Pool(MOST_BYTES, 64)


def begin_write(file: transfers.File, handed_over: HandedOver, offset: int, data: bytes, ended: Began) -> None:
    """Begin it, on trio's thread, from memory that O_DIRECT takes. NotBegun where it is refused all the same, as
    by some file systems, or where there is no room for its note: then a thread does it.
    """
    try:
        handed_over.enter()
    except OSError as error:
        ended(NotBegun(errno.ENOMEM, str(error)))
        return
    blocks = _blocks.take()[: len(data)]
    blocks[:] = data

    def over(error: Exception | None) -> None:
        handed_over.leave()
        refused = isinstance(error, OSError) and error.errno == errno.EINVAL
        ended(NotBegun(errno.EINVAL, str(error)) if refused else error)

    transfers.Write(file, offset, address_of(blocks), len(blocks), blocks, over).push()

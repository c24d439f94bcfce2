"""Where pages lie in a copy whose columns may fill several banks."""

from collections.abc import Iterable

from fmrd.backing.protocol import DCO_BLOCK_BYTES, DcoFile
from fmrd.core.far.uris import is_uri
from fmrd.core.records.rows import Rows
from fmrd.dco import layout


def offset_of(rows: Rows, column: int, page: int, slot: int) -> int:
    """Return where a page slot lies in a copy, in bytes."""
    return layout.page_offset(column % rows.columns, rows.row(column, page), slot, rows.columns)


def size_of(rows: Rows, pages: int) -> int:
    """Return the size in bytes of a copy of a volume whose columns have so many pages."""
    return layout.copy_bytes(rows.count(pages), rows.columns)


def spans_of(rows: Rows, columns: Iterable[int], pages: range) -> list[tuple[int, int]]:
    """Return (offset, length) in bytes of these pages of columns, as far as they lie beyond the first bank, which is
    preallocated as a whole. Neighbours are one.
    """
    found: list[tuple[int, int]] = []
    size = 2 * DCO_BLOCK_BYTES
    for page in pages:
        for column in sorted(columns):
            if column < rows.columns:
                continue
            offset = offset_of(rows, column, page, 0)
            if found and sum(found[-1]) == offset:
                found[-1] = found[-1][0], found[-1][1] + size
            else:
                found.append((offset, size))
    return found


def is_fixed(file: DcoFile) -> bool:
    """Tell whether it never becomes longer: the tail of a device, or an export."""
    return file.tail is not None or is_uri(file.path)

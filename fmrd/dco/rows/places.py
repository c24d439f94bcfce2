"""Where pages lie in a copy whose columns may fill several banks."""

from fmrd.backing.protocol import DcoFile
from fmrd.core.far.uris import is_uri
from fmrd.core.records.rows import Rows
from fmrd.dco import layout


def offset_of(rows: Rows, column: int, page: int, slot: int) -> int:
    """Return where a page slot lies in a copy, in bytes."""
    return layout.page_offset(column % rows.columns, rows.row(column, page), slot, rows.columns)


def size_of(rows: Rows, pages: int) -> int:
    """Return the size in bytes of a copy of a volume whose columns have so many pages."""
    return layout.copy_bytes(rows.count(pages), rows.columns)


def is_fixed(file: DcoFile) -> bool:
    """Tell whether it never becomes longer: the tail of a device, or an export."""
    return file.tail is not None or is_uri(file.path)

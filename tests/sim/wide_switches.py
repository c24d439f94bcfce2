"""The rules of rows as switches, as those of switches.py: a DCO that gets more columns while it is in use."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from fmrd.core.records.rows import Rows
from fmrd.dco.rows import widening
from tests.sim.dcos import SimDco


def _by_page_number() -> AbstractContextManager[Any]:
    """All banks of a page side by side, as if the copy had been made with so many columns."""

    def row(self: Rows, column: int, page: int) -> int:
        return page * self.banks + column // self.columns

    return patch.object(Rows, "row", row)


def _in_place() -> AbstractContextManager[Any]:
    """The new columns lie where the old ones do."""
    return patch.object(Rows, "row", lambda self, column, page: page)


@contextmanager
def _the_record_first() -> Iterator[None]:
    """No copy becomes longer."""

    async def lengthen(*_: Any) -> None:
        pass

    def reserve(self: SimDco, length: int, spans: Any) -> None:
        pass

    with patch.object(widening, "_lengthen", lengthen), patch.object(SimDco, "reserve", reserve):
        yield


SWITCHES = {
    "rows: nothing that was written moves": _by_page_number,
    "rows: each column has pages of its own": _in_place,
    "rows: copies are longer before a record needs it": _the_record_first,
}
"""Rule -> a context manager that takes it out."""

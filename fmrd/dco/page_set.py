"""A set of pages is one bit each, by column: the maps of a large volume have tens of thousands of pages together.

A set of tuples takes trio's thread ten times as long to make, to sort and to go through, and all of that is one step.
"""

from collections.abc import Iterable, Iterator

from bitarray import bitarray
from bitarray.util import ones, zeros

Key = tuple[int, int]
"""(column, page number)."""


class PageSet:
    """A set of keys; ``|=`` adds another, ``^=`` changes whether each of another is in it."""

    __slots__ = ("_columns",)

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._columns: dict[int, bitarray] = {}
        if isinstance(keys, PageSet):
            self |= keys
        else:
            self.update(keys)

    @classmethod
    def of_columns(cls, columns: Iterable[int], pages: int) -> "PageSet":
        """Return the first ``pages`` pages of each of these columns."""
        found = cls()
        found._columns = {column: ones(pages) for column in columns}
        return found

    def add(self, key: Key) -> None:
        column, page = key
        self._of(column, page + 1)[page] = 1

    def update(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.add(key)

    def take(self, most: int) -> list[Key]:
        """Return the first ones, ``most`` of them or all, by page number and then by column; they leave the set."""
        taken: list[Key] = []
        columns = sorted(self._columns.items())
        for page in self._pages().search(1):
            for column, bits in columns:
                if page < len(bits) and bits[page]:
                    if len(taken) == most:
                        return taken
                    bits[page] = 0
                    taken.append((column, page))
        return taken

    def _pages(self) -> bitarray:
        """The numbers that any column has."""
        found = zeros(max(map(len, self._columns.values()), default=0))
        for bits in self._columns.values():
            found[: len(bits)] |= bits
        return found

    def up_to(self, column: int) -> "PageSet":
        """Return a copy of it without the columns from that one on."""
        found = PageSet()
        found._columns = {index: bits.copy() for index, bits in self._columns.items() if index < column}
        return found

    def __contains__(self, key: Key) -> bool:
        column, page = key
        bits = self._columns.get(column)
        return bits is not None and page < len(bits) and bool(bits[page])

    def __iter__(self) -> Iterator[Key]:
        """By column, then by page number."""
        for column, bits in sorted(self._columns.items()):
            for page in bits.search(1):
                yield column, page

    def __len__(self) -> int:
        return sum(bits.count() for bits in self._columns.values())

    def copy(self) -> "PageSet":
        return PageSet(self)

    def __or__(self, other: "PageSet") -> "PageSet":
        found = self.copy()
        found |= other
        return found

    def __ior__(self, other: "PageSet") -> "PageSet":
        for column, bits in other._columns.items():
            self._of(column, len(bits))[: len(bits)] |= bits
        return self

    def __ixor__(self, other: "PageSet") -> "PageSet":
        for column, bits in other._columns.items():
            self._of(column, len(bits))[: len(bits)] ^= bits
        return self

    def _of(self, column: int, pages: int) -> bitarray:
        """The bits of a column, at least so many."""
        bits = self._columns.setdefault(column, bitarray())
        if len(bits) < pages:
            bits.extend(zeros(pages - len(bits)))
        return bits

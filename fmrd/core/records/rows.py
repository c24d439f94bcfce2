"""Rows say where in a copy of the DCO the pages of a column lie (FORMAT, "Rows").

A row holds one page number of so many columns, side by side; those columns are a *bank*. As long as one bank is enough,
row N holds page N. Where more columns are needed a bank is added behind all rows that are there: nothing that was
written moves. Where the volume then grows, each bank gets its new rows at the end.
"""

MOST_BANKS = 16
MOST_RUNS = 1024
"""Of rows of one bank that lie together: each growth adds one for each bank."""

Runs = tuple[tuple[int, int], ...]
"""(bank, how many of its pages lie here, in order), one behind the other."""


class Rows:
    """The rows of a family: one value for all copies of its DCO, which all follow when it changes. ``columns`` are
    those of a row; ``runs`` is empty where there is one bank, of whatever length.
    """

    def __init__(self, columns: int, runs: Runs = ()) -> None:
        self.columns = columns
        self.runs = runs

    @property
    def banks(self) -> int:
        return 1 + max((bank for bank, _ in self.runs), default=0)

    @property
    def total(self) -> int:
        """How many columns there are."""
        return self.columns * self.banks

    def row(self, column: int, page: int) -> int:
        """Return the number of the row that holds a page of a column."""
        bank, row, left = column // self.columns, 0, page
        if not self.runs:
            return page
        for each, pages in self.runs:
            if each == bank:
                if left < pages:
                    return row + left
                left -= pages
            row += pages
        raise AssertionError(f"page {page} of column {column} has no row")

    def count(self, pages: int) -> int:
        """Return how many rows there are, of a volume of so many pages where it has one bank."""
        return sum(count for _, count in self.runs) if self.runs else pages

    def in_order(self, pages: int) -> list[tuple[int, range]]:
        """Return (bank, page numbers) of each run as they lie, of a volume of so many pages."""
        found, first = [], dict.fromkeys(range(self.banks), 0)
        for bank, count in self.runs or ((0, pages),):
            found.append((bank, range(first[bank], first[bank] + count)))
            first[bank] += count
        return found

    def shortest(self) -> int:
        """Return how many pages of every column have a row; only where there are runs."""
        return min(sum(count for bank, count in self.runs if bank == each) for each in range(self.banks))

    def widened(self, banks: int, pages: int) -> Runs:
        """The runs with so many banks more. The longest volume has so many ``pages``."""
        known = self.runs or ((0, pages),)
        most = max(pages, self.shortest()) if self.runs else pages
        return known + tuple((self.banks + each, most) for each in range(banks))

    def grown(self, pages: int) -> Runs:
        """The runs once a volume has so many pages: the same where there is room, or one bank."""
        more = pages - self.shortest() if self.runs else 0
        return self.runs + tuple((bank, more) for bank in range(self.banks)) if more > 0 else self.runs

    def trimmed(self, used: int) -> Runs:
        """The runs without banks of which no column is in use, as far as these lie at the end. ``used`` is the highest
        that is.
        """
        runs, last = self.runs, used // self.columns
        while runs and runs[-1][0] > last:
            runs = runs[:-1]
        if any(bank > last for bank, _ in runs):  # the volume grew since they came
            return self.runs
        return runs if last else ()

    def agrees(self, pages: int, other: "Rows", other_pages: int) -> bool:
        """Tell whether all rows that both have hold the same: then one is what the other was, or will be."""
        if self.columns != other.columns:
            return False
        ours, theirs = self._by_row(pages), other._by_row(other_pages)
        common = min(len(ours), len(theirs))
        return ours[:common] == theirs[:common]

    def _by_row(self, pages: int) -> bytes:
        """Of which bank each row is."""
        return b"".join(bytes([bank]) * count for bank, count in self.runs or ((0, pages),))

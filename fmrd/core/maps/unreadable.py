"""These are bytes that no plex could give: they failed everywhere, and were neither read nor written since."""

MOST_SPANS = 1000
"""Of a disk that fails everywhere the first ones are enough."""


class Unreadable:
    """The spans are [start, stop) in bytes, in order and apart from each other, at most MOST_SPANS of them."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []

    def add(self, start: int, stop: int) -> None:
        """No plex could give these bytes."""
        touching = [span for span in self.spans if span[0] <= stop and start <= span[1]]
        self.spans = [span for span in self.spans if span not in touching]
        if len(self.spans) < MOST_SPANS:
            joined = (min([start, *(a for a, _ in touching)]), max([stop, *(b for _, b in touching)]))
            self.spans = sorted([*self.spans, joined])

    def remove(self, start: int, stop: int) -> None:
        """These bytes were read after all, or written anew."""
        left = []
        for a, b in self.spans:
            left += [(low, high) for low, high in ((a, min(b, start)), (max(a, stop), b)) if low < high]
        self.spans = left

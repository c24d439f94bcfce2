"""Bytes that no plex could give: what was tried, failed everywhere, and was neither read nor written since. Pure."""

MOST_SPANS = 1000
"""Of a disk that fails everywhere the first ones are enough."""


class Unreadable:
    """Spans [start, stop) in bytes, in order and apart from each other."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []

    def add(self, start: int, stop: int) -> None:
        touching = [span for span in self.spans if span[0] <= stop and start <= span[1]]
        self.spans = [span for span in self.spans if span not in touching]
        if len(self.spans) < MOST_SPANS:
            joined = (min([start, *(a for a, _ in touching)]), max([stop, *(b for _, b in touching)]))
            self.spans = sorted([*self.spans, joined])

    def remove(self, start: int, stop: int) -> None:
        """They were read, or written anew."""
        left = []
        for a, b in self.spans:
            left += [(low, high) for low, high in ((a, min(b, start)), (max(a, stop), b)) if low < high]
        self.spans = left

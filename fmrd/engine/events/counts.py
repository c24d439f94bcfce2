"""What has happened, as numbers since the daemon was started: for those who look at figures."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Counts:
    """Used on trio's thread alone."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Kind of event -> how often."""
    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Hook, and how a run of it ended (done, failed, killed) or that it was not given an event (dropped) -> how often.
    """

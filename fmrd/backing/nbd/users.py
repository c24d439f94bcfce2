"""Who uses a session: its plex, the copy of the DCO at its tail, and whoever only looks."""

import threading


class Users:
    """They are counted from whatever thread; it begins with one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 1
        self._plex = False
        self._over = False
        self._unused = False

    @property
    def has_plex(self) -> bool:
        """Tell whether a plex is among them."""
        return self._plex

    def take(self) -> bool:
        """One more; return False where it is over."""
        with self._lock:
            if not self._over:
                self._count += 1
            return not self._over

    def become_plex(self) -> bool:
        """One of them is the plex from now on; return False where another one is."""
        with self._lock:
            had, self._plex = self._plex, True
            return not had

    def leave(self, *, plex: bool = False) -> bool:
        """One less; return whether it was the last."""
        with self._lock:
            self._count -= 1
            self._plex = self._plex and not plex
            return not self._count

    def end(self) -> bool:
        """Nobody may come any more; return False, and change nothing, where somebody is there."""
        with self._lock:
            self._over = self._over or not self._count
            return not self._count

    def is_unused_again(self) -> bool:
        """Tell whether nobody is there, and nobody was when this was asked last."""
        with self._lock:
            before, self._unused = self._unused, not self._count
            return before and self._unused

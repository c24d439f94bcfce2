#!/usr/bin/env python3
"""fmrd as it was before the calls of a write began together: one plex after the other. For far_plex.py."""

from fmrd.engine.serving.open_plex import OpenPlex
from fmrd.front.daemon.daemon import main

_real = OpenPlex.__post_init__


def _never_begins(self: OpenPlex) -> None:
    _real(self)
    self.begins = self.now = False


if __name__ == "__main__":
    OpenPlex.__post_init__ = _never_begins  # type: ignore[method-assign]  # that is the whole difference
    main()

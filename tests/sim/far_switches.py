"""The rules of far plexes as switches (switches.py says what a switch is)."""

from unittest.mock import patch

from fmrd.core.decisions import standing
from fmrd.engine.running import Running
from tests.sim.sessions import Sessions
from tests.sim.switches import without

SWITCHES = {
    "a fence proves that a session is over": lambda: patch.object(Sessions, "proves", False),
    "what a dead daemon had under way is asked for": lambda: without(
        standing, "_judge", "plex.session and not (here.fenced or options.settled)"
    ),
    "... of a closed plex, too": lambda: without(Running, "must_be_over", "(plex.session and not lanes.known)"),
}
"""Rule -> a context manager that takes it out."""

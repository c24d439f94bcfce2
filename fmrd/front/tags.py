"""Tags of tasks, as the control socket takes them: with which verbs, and what one looks like."""

from fmrd.core.names import TAGS_ARE, is_tag
from fmrd.errors import BadRequest

BEGINS_TASKS = frozenset({
    "make", "import_volume", "start", "start_all", "grow", "plex_add", "plex_att", "plex_replace", "recover",
    "snapstart", "snapshot", "snapsync", "snapback", "undo", "refresh", "receive_commit", "verify",
})  # fmt: skip
"""Verbs that take a tag beside their arguments; the tasks that they begin then have it."""


def check_tag(what: str, value: object) -> str:
    """Return a tag, or raise BadRequest('bad_name')."""
    if not isinstance(value, str) or not is_tag(value):
        raise BadRequest("bad_name", f"{what} {value!r:.100} is no tag", TAGS_ARE)
    return value

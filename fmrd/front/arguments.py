"""These are the verbs that the control socket knows, and what their arguments must look like: no client is trusted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fmrd.errors import BadRequest
from fmrd.front import checks
from fmrd.front.tags import BEGINS_TASKS, check_tag


@dataclass(frozen=True)
class Argument:
    """An argument has a check, which returns its value or raises BadRequest, and may be required."""

    check: Callable[[str, object], Any]
    required: bool = False


VOLUME = Argument(checks.check_name, required=True)
A_VOLUME = Argument(checks.check_name)
NEW_NAME = Argument(checks.check_new_name, required=True)
PLEX = Argument(checks.check_plex, required=True)
A_PLEX = Argument(checks.check_plex)
FLAG = Argument(checks.check_flag)
NUMBER = Argument(checks.check_number)
TEXT = Argument(checks.check_text)
ID = Argument(checks.check_number, required=True)
TAG = Argument(check_tag)
TASKS_MEANT = {"id": NUMBER, "tag": TAG}
A_UUID = Argument(checks.check_uuid, required=True)
PATH = Argument(checks.check_path, required=True)
A_PATH = Argument(checks.check_path)
MOUNTS = Argument(checks.list_of(checks.check_mount_point))
VOLUMES = Argument(checks.list_of(checks.check_name))
PLEXES = Argument(checks.list_of(checks.check_plex))
UUIDS = Argument(checks.list_of(checks.check_uuid))
DIRECTORY = Argument(checks.check_mount_point, required=True)
DIGEST = Argument(checks.check_digest, required=True)
TURN = Argument(checks.check_source, required=True)
A_DIGEST = Argument(checks.check_digest)
VOLUME_AND_PLEX = {"volume": VOLUME, "plex": PLEX}

VERBS: dict[str, dict[str, Argument]] = {
    "make": {
        "volume": NEW_NAME, "size_bytes": ID,
        "plexes": Argument(checks.list_of(checks.check_wish), required=True), "from_path": A_PATH, "force": FLAG,
        "region_size_bytes": NUMBER, "drl_extent_bytes": NUMBER, "fmr": FLAG, "rdpol": TEXT, "dry_run": FLAG,
    },
    "import_volume": {
        "paths": Argument(checks.list_of(checks.check_path), required=True), "prefer": A_PLEX, "force": FLAG,
        "dry_run": FLAG,
    },
    "start": {"volume": VOLUME, "without": PLEXES, "accept": A_PLEX, "force": FLAG, "settled": FLAG},
    "stop": {"volume": VOLUME},
    "start_all": {},
    "stop_all": {},
    "rename": {"volume": VOLUME, "name": NEW_NAME},
    "remove": {"volume": VOLUME, "erase": FLAG, "uuid": Argument(checks.check_uuid), "snapshot_of": A_VOLUME},
    "grow": {"volume": VOLUME, "size_bytes": NUMBER, "more_bytes": NUMBER, "most": FLAG},
    "set": {"volume": VOLUME, "settings": Argument(checks.check_settings, required=True)},
    "print": {"volume": A_VOLUME},
    "stat": {"volume": A_VOLUME},
    "map": {"volume": VOLUME, "plex": A_PLEX, "cells": NUMBER},
    "plex_add": {"volume": VOLUME, "path": PATH, "dco": A_PATH, "force": FLAG,
                 "rate": NUMBER, "dry_run": FLAG},
    "plex_det": VOLUME_AND_PLEX,
    "plex_att": {**VOLUME_AND_PLEX, "full": FLAG, "discard": FLAG, "settled": FLAG, "rate": NUMBER, "dry_run": FLAG},
    "plex_replace": {**VOLUME_AND_PLEX, "path": PATH, "dco": A_PATH, "force": FLAG,
                     "rate": NUMBER, "dry_run": FLAG},
    "plex_convert": VOLUME_AND_PLEX,
    "plex_dis": VOLUME_AND_PLEX,
    "plex_off": VOLUME_AND_PLEX,
    "plex_on": VOLUME_AND_PLEX,
    "recover": {"volume": A_VOLUME, "waiting": FLAG, "dry_run": FLAG},
    "snapstart": {"volume": VOLUME, "path": PATH, "dco": A_PATH, "force": FLAG,
                  "rate": NUMBER, "dry_run": FLAG},
    "snapwait": {"volume": VOLUME, "count": NUMBER},
    "snapabort": {"volume": VOLUME, "plex": A_PLEX},
    "snapshot": {
        "volumes": VOLUMES, "all": FLAG, "name": TEXT, "nmirror": NUMBER,
        "freeze": MOUNTS, "instant": A_PATH, "dco": A_PATH, "force": FLAG,
        "sync": FLAG, "store": Argument(checks.check_new_name), "dry_run": FLAG,
    },
    "snapsync": {"snapshot": VOLUME, "rate": NUMBER},
    "snapback": {
        "snapshot": VOLUME, "from_replica": FLAG, "plexes": PLEXES, "all_plexes": FLAG,
        "keep_undo": FLAG, "force": FLAG, "rate": NUMBER, "dry_run": FLAG,
    },
    "undo": {"volume": VOLUME, "force": FLAG, "rate": NUMBER, "dry_run": FLAG},
    "refresh": {"snapshot": VOLUME, "freeze": MOUNTS, "rate": NUMBER, "dry_run": FLAG},
    "snapclear": {"snapshot": VOLUME},
    "snapprint": {"volume": A_VOLUME},
    "store_add": {
        "name": NEW_NAME, "directory": DIRECTORY, "size_bytes": ID, "step_bytes": NUMBER,
        "most_bytes": NUMBER, "high_water": NUMBER, "dry_run": FLAG,
    },
    "store_print": {"name": Argument(checks.check_new_name)},
    "store_resize": {"name": NEW_NAME, "size_bytes": NUMBER, "step_bytes": NUMBER, "most_bytes": NUMBER,
                     "high_water": NUMBER, "dry_run": FLAG},
    "store_remove": {"name": NEW_NAME, "dry_run": FLAG},
    "changed": {"volume": VOLUME, "since": A_VOLUME, "mark": A_VOLUME, "everything": FLAG, "whole": FLAG},
    "receive_begin": {
        "volume": VOLUME, "stream": A_UUID, "snapshot": A_UUID, "name": VOLUME, "length_bytes": ID, "pristine": FLAG,
        "increment": FLAG, "bases": UUIDS, "pristine_only": FLAG, "source": Argument(checks.check_source),
        "region_size_bytes": NUMBER, "chunks": NUMBER, "offset_bytes": NUMBER, "chain": A_DIGEST,
        "spool": A_PATH, "force": FLAG, "dry_run": FLAG,
    },
    "receive_progress": {
        "volume": VOLUME, "stream": A_UUID, "turn": TURN, "chunks": ID, "offset_bytes": ID, "chain": DIGEST,
    },
    "receive_commit": {"volume": VOLUME, "stream": A_UUID, "turn": TURN, "force": FLAG, "rate": NUMBER},
    "restore_begin": {"volume": VOLUME, "snapshot": VOLUME, "spool": A_PATH, "dry_run": FLAG},
    "receive_token": {"volume": VOLUME},
    "receive_discard": {"volume": VOLUME, "stream": Argument(checks.check_uuid)},
    "mark": {"volume": VOLUME, "name": A_VOLUME, "reset": FLAG, "delete": FLAG},
    "nights": {},
    "night_note": {"volume": VOLUME, "begun": ID, "problem": TEXT, "snapshot": A_VOLUME, "sent": A_VOLUME},
    "verify": {"volume": VOLUME, "repair": FLAG, "from_plex": A_PLEX, "rate": NUMBER},
    "verify_report": {"id": ID},
    "events": {"since": TEXT, "follow": FLAG},
    "history": {"volume": A_VOLUME, "most": NUMBER},
    "task_list": {
        "all": FLAG, "volumes": Argument(checks.list_of(checks.check_name, checks.MAX_IDS)), "tag": TAG,
        "types": Argument(checks.list_of(checks.check_text)),
    },
    "task_get": {"id": ID},
    "task_monitor": {"ids": Argument(checks.list_of(checks.check_number, checks.MAX_IDS))},
    "task_pause": TASKS_MEANT,
    "task_resume": TASKS_MEANT,
    "task_abort": TASKS_MEANT,
    "task_set": {**TASKS_MEANT, "rate": ID},
}  # fmt: skip
"""Verb -> its arguments. Verbs are methods of engine.verbs.Verbs; task_monitor, events, history, nights and night_note
are control's own.
"""


def check_arguments(verb: str, arguments: dict[str, object]) -> dict[str, Any]:
    """Return the arguments, checked; those given as null are left out. BadRequest says which one cannot be."""
    known = VERBS.get(verb)
    if known is None:
        raise BadRequest("bad_request", f"there is no verb {verb!r}")
    if verb in BEGINS_TASKS:
        known = known | {"tag": TAG}
    unknown = sorted(arguments.keys() - known.keys())
    if unknown:
        raise BadRequest("bad_request", f"{verb} takes no argument {', '.join(map(repr, unknown))}")
    given = {name: value for name, value in arguments.items() if value is not None}
    missing = sorted(name for name, argument in known.items() if argument.required and name not in given)
    if missing:
        raise BadRequest("bad_request", f"{verb} needs {', '.join(missing)}")
    return {name: known[name].check(name, value) for name, value in given.items()}

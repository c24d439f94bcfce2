"""These are the verbs that the control socket knows, and what their arguments must look like: no client is trusted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fmrd.core.far.uris import canonical, is_uri
from fmrd.core.names import GIVEN_LENGTH, PLEX_LENGTH, VOLUME_LENGTH, is_name
from fmrd.errors import BadRequest
from fmrd.front.tags import BEGINS_TASKS, check_tag

MAX_PATH_BYTES = 4095
MAX_ITEMS = 64
MAX_IDS = 4096
"""Of tasks that are waited for together: those of all volumes."""
MAX_NUMBER = 1 << 62
UUID_LENGTH = 36
DIGEST_LENGTH = 64
"""Hexadecimal, of SHA-256."""
SOURCE_LENGTH = 1024
"""Of what a sender wants to be given back (dco/marks.py)."""


def check_name(what: str, value: object, most: int = VOLUME_LENGTH) -> str:
    """Return what may name a volume, or raise BadRequest('bad_name'): it becomes a file name in two directories."""
    if not isinstance(value, str) or not is_name(value, most):
        raise BadRequest("bad_name", f"{what} {value!r} is not a name", "fmrctl explain bad_name")
    return value


def _new_name(what: str, value: object) -> str:
    """Leaves room for the names of its snapshots."""
    return check_name(what, value, GIVEN_LENGTH)


def _text(what: str, value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value or not value.isprintable():
        raise BadRequest("bad_request", f"{what} is not a line of text that can be printed: {value!r:.200}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = MAX_PATH_BYTES + 1
    if size > MAX_PATH_BYTES:
        raise BadRequest("bad_request", f"{what} is longer than {MAX_PATH_BYTES} bytes, or not UTF-8")
    return value


def _path(what: str, value: object) -> str:
    path = _text(what, value)
    if is_uri(path):
        return canonical(path)
    if not path.startswith("/") or path.endswith("/"):
        raise BadRequest("bad_request", f"{what} {path!r} is not an absolute path of a file or device")
    return path


def _mount_point(what: str, value: object) -> str:
    path = _text(what, value)
    if not path.startswith("/"):
        raise BadRequest("bad_request", f"{what} {path!r} is not an absolute path of a directory")
    return path.rstrip("/") or "/"


def _plex(what: str, value: object) -> str:
    text = _text(what, value)
    return _path(what, text) if "/" in text else check_name(what, text, PLEX_LENGTH)


def _flag(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadRequest("bad_request", f"{what} is neither true nor false")
    return value


def _number(what: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise BadRequest("bad_request", f"{what} is not a whole number from 0 to {MAX_NUMBER}")
    return value


def _list(check: Callable[[str, object], Any], most: int = MAX_ITEMS) -> Callable[[str, object], list[Any]]:
    def checked(what: str, value: object) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise BadRequest("bad_request", f"{what} is not a list of at most {most}")
        return [check(what, item) for item in value]

    return checked


def _wish(what: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or "path" not in value or not value.keys() <= {"path", "dco"}:
        raise BadRequest("bad_request", f"{what}: a plex is given as a path, and perhaps a dco")
    return {key: _path(key, found) for key, found in value.items() if found is not None}


def _settings(what: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not value or len(value) > MAX_ITEMS:
        raise BadRequest("bad_setting", "settings are KEY=VALUE, at least one")
    return {_text(what, key): "" if found == "" else _text(str(key), found) for key, found in value.items()}


def _uuid(what: str, value: object) -> str:
    text = _text(what, value)
    if len(text) != UUID_LENGTH or text.replace("-", "").strip("0123456789abcdef"):
        raise BadRequest("bad_request", f"{what} is not a UUID")
    return text


def _digest(what: str, value: object) -> str:
    text = _text(what, value)
    if len(text) != DIGEST_LENGTH or text.strip("0123456789abcdef"):
        raise BadRequest("bad_request", f"{what} is not a digest")
    return text


def _source(what: str, value: object) -> str:
    text = _text(what, value)
    if len(text) > SOURCE_LENGTH:
        raise BadRequest("bad_request", f"{what} is longer than {SOURCE_LENGTH} characters")
    return text


@dataclass(frozen=True)
class Argument:
    """An argument has a check, which returns its value or raises BadRequest, and may be required."""

    check: Callable[[str, object], Any]
    required: bool = False


VOLUME = Argument(check_name, required=True)
A_VOLUME = Argument(check_name)
STORE = Argument(_new_name, required=True)
PLEX = Argument(_plex, required=True)
A_PLEX = Argument(_plex)
FLAG = Argument(_flag)
NUMBER = Argument(_number)
TEXT = Argument(_text)
ID = Argument(_number, required=True)
TAG = Argument(check_tag)
TASKS_MEANT = {"id": NUMBER, "tag": TAG}
A_UUID = Argument(_uuid, required=True)
VOLUME_AND_PLEX = {"volume": VOLUME, "plex": PLEX}

VERBS: dict[str, dict[str, Argument]] = {
    "make": {
        "volume": Argument(_new_name, required=True), "size_bytes": Argument(_number, required=True),
        "plexes": Argument(_list(_wish), required=True), "from_path": Argument(_path), "force": FLAG,
        "region_size_bytes": NUMBER, "drl_extent_bytes": NUMBER, "fmr": FLAG, "rdpol": TEXT, "dry_run": FLAG,
    },
    "import_volume": {
        "paths": Argument(_list(_path), required=True), "prefer": A_PLEX, "force": FLAG, "dry_run": FLAG,
    },
    "start": {"volume": VOLUME, "without": Argument(_list(_plex)), "accept": A_PLEX, "force": FLAG, "settled": FLAG},
    "stop": {"volume": VOLUME},
    "start_all": {},
    "stop_all": {},
    "rename": {"volume": VOLUME, "name": Argument(_new_name, required=True)},
    "remove": {"volume": VOLUME, "erase": FLAG, "uuid": Argument(_uuid), "snapshot_of": A_VOLUME},
    "grow": {"volume": VOLUME, "size_bytes": NUMBER, "more_bytes": NUMBER, "most": FLAG},
    "set": {"volume": VOLUME, "settings": Argument(_settings, required=True)},
    "print": {"volume": A_VOLUME},
    "stat": {"volume": A_VOLUME},
    "map": {"volume": VOLUME, "plex": A_PLEX, "cells": NUMBER},
    "plex_add": {"volume": VOLUME, "path": Argument(_path, required=True), "dco": Argument(_path), "force": FLAG,
                 "rate": NUMBER, "dry_run": FLAG},
    "plex_det": VOLUME_AND_PLEX,
    "plex_att": {**VOLUME_AND_PLEX, "full": FLAG, "discard": FLAG, "settled": FLAG, "rate": NUMBER, "dry_run": FLAG},
    "plex_replace": {**VOLUME_AND_PLEX, "path": Argument(_path, required=True), "dco": Argument(_path), "force": FLAG,
                     "rate": NUMBER, "dry_run": FLAG},
    "plex_convert": VOLUME_AND_PLEX,
    "plex_dis": VOLUME_AND_PLEX,
    "plex_off": VOLUME_AND_PLEX,
    "plex_on": VOLUME_AND_PLEX,
    "recover": {"volume": A_VOLUME, "waiting": FLAG, "dry_run": FLAG},
    "snapstart": {"volume": VOLUME, "path": Argument(_path, required=True), "dco": Argument(_path), "force": FLAG,
                  "rate": NUMBER, "dry_run": FLAG},
    "snapwait": {"volume": VOLUME, "count": NUMBER},
    "snapabort": {"volume": VOLUME, "plex": A_PLEX},
    "snapshot": {
        "volumes": Argument(_list(check_name)), "all": FLAG, "name": TEXT, "nmirror": NUMBER,
        "freeze": Argument(_list(_mount_point)), "instant": Argument(_path), "dco": Argument(_path), "force": FLAG,
        "sync": FLAG, "store": Argument(_new_name), "dry_run": FLAG,
    },
    "snapsync": {"snapshot": VOLUME, "rate": NUMBER},
    "snapback": {
        "snapshot": VOLUME, "from_replica": FLAG, "plexes": Argument(_list(_plex)), "all_plexes": FLAG,
        "keep_undo": FLAG, "force": FLAG, "rate": NUMBER, "dry_run": FLAG,
    },
    "undo": {"volume": VOLUME, "force": FLAG, "rate": NUMBER, "dry_run": FLAG},
    "refresh": {"snapshot": VOLUME, "freeze": Argument(_list(_mount_point)), "rate": NUMBER, "dry_run": FLAG},
    "snapclear": {"snapshot": VOLUME},
    "snapprint": {"volume": A_VOLUME},
    "store_add": {
        "name": STORE, "directory": Argument(_mount_point, required=True), "size_bytes": ID, "step_bytes": NUMBER,
        "most_bytes": NUMBER, "high_water": NUMBER, "dry_run": FLAG,
    },
    "store_print": {"name": Argument(_new_name)},
    "store_resize": {"name": STORE, "size_bytes": NUMBER, "step_bytes": NUMBER, "most_bytes": NUMBER,
                     "high_water": NUMBER, "dry_run": FLAG},
    "store_remove": {"name": STORE, "dry_run": FLAG},
    "changed": {"volume": VOLUME, "since": A_VOLUME, "mark": A_VOLUME, "everything": FLAG, "whole": FLAG},
    "receive_begin": {
        "volume": VOLUME, "stream": A_UUID, "snapshot": A_UUID, "name": VOLUME, "length_bytes": ID, "pristine": FLAG,
        "increment": FLAG, "bases": Argument(_list(_uuid)), "pristine_only": FLAG, "source": Argument(_source),
        "region_size_bytes": NUMBER, "chunks": NUMBER, "offset_bytes": NUMBER, "chain": Argument(_digest),
        "spool": Argument(_path), "force": FLAG, "dry_run": FLAG,
    },
    "receive_progress": {
        "volume": VOLUME, "stream": A_UUID, "chunks": ID, "offset_bytes": ID, "chain": Argument(_digest, required=True),
    },
    "receive_commit": {"volume": VOLUME, "stream": A_UUID, "force": FLAG, "rate": NUMBER},
    "restore_begin": {"volume": VOLUME, "snapshot": VOLUME, "spool": Argument(_path), "dry_run": FLAG},
    "receive_token": {"volume": VOLUME},
    "receive_discard": {"volume": VOLUME, "stream": Argument(_uuid)},
    "mark": {"volume": VOLUME, "name": A_VOLUME, "reset": FLAG, "delete": FLAG},
    "nights": {},
    "night_note": {"volume": VOLUME, "begun": ID, "problem": TEXT, "snapshot": A_VOLUME, "sent": A_VOLUME},
    "verify": {"volume": VOLUME, "repair": FLAG, "from_plex": A_PLEX, "rate": NUMBER},
    "verify_report": {"id": ID},
    "events": {"since": TEXT, "follow": FLAG},
    "history": {"volume": A_VOLUME, "most": NUMBER},
    "task_list": {
        "all": FLAG, "volumes": Argument(_list(check_name, MAX_IDS)), "tag": TAG, "types": Argument(_list(_text)),
    },
    "task_get": {"id": ID},
    "task_monitor": {"ids": Argument(_list(_number, MAX_IDS))},
    "task_pause": TASKS_MEANT,
    "task_resume": TASKS_MEANT,
    "task_abort": TASKS_MEANT,
    "task_set": {**TASKS_MEANT, "rate": Argument(_number, required=True)},
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

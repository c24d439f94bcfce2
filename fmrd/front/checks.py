"""What an argument of a verb must look like: each check returns its value, or raises BadRequest."""

from collections.abc import Callable
from typing import Any

from fmrd.core.far.uris import canonical, is_uri
from fmrd.core.names import GIVEN_LENGTH, PLEX_LENGTH, VOLUME_LENGTH, is_name
from fmrd.errors import BadRequest

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


def check_new_name(what: str, value: object) -> str:
    """Leaves room for the names of its snapshots."""
    return check_name(what, value, GIVEN_LENGTH)


def check_text(what: str, value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value or not value.isprintable():
        raise BadRequest("bad_request", f"{what} is not a line of text that can be printed: {value!r:.200}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = MAX_PATH_BYTES + 1
    if size > MAX_PATH_BYTES:
        raise BadRequest("bad_request", f"{what} is longer than {MAX_PATH_BYTES} bytes, or not UTF-8")
    return value


def check_path(what: str, value: object) -> str:
    path = check_text(what, value)
    if is_uri(path):
        return canonical(path)
    if not path.startswith("/") or path.endswith("/"):
        raise BadRequest("bad_request", f"{what} {path!r} is not an absolute path of a file or device")
    return path


def check_mount_point(what: str, value: object) -> str:
    path = check_text(what, value)
    if not path.startswith("/"):
        raise BadRequest("bad_request", f"{what} {path!r} is not an absolute path of a directory")
    return path.rstrip("/") or "/"


def check_plex(what: str, value: object) -> str:
    text = check_text(what, value)
    return check_path(what, text) if "/" in text else check_name(what, text, PLEX_LENGTH)


def check_flag(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadRequest("bad_request", f"{what} is neither true nor false")
    return value


def check_number(what: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise BadRequest("bad_request", f"{what} is not a whole number from 0 to {MAX_NUMBER}")
    return value


def list_of(check: Callable[[str, object], Any], most: int = MAX_ITEMS) -> Callable[[str, object], list[Any]]:
    def checked(what: str, value: object) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise BadRequest("bad_request", f"{what} is not a list of at most {most}")
        return [check(what, item) for item in value]

    return checked


def check_wish(what: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or "path" not in value or not value.keys() <= {"path", "dco"}:
        raise BadRequest("bad_request", f"{what}: a plex is given as a path, and perhaps a dco")
    return {key: check_path(key, found) for key, found in value.items() if found is not None}


def check_settings(what: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not value or len(value) > MAX_ITEMS:
        raise BadRequest("bad_setting", "settings are KEY=VALUE, at least one")
    return {check_text(what, key): "" if found == "" else check_text(str(key), found) for key, found in value.items()}


def check_uuid(what: str, value: object) -> str:
    text = check_text(what, value)
    if len(text) != UUID_LENGTH or text.replace("-", "").strip("0123456789abcdef"):
        raise BadRequest("bad_request", f"{what} is not a UUID")
    return text


def check_digest(what: str, value: object) -> str:
    text = check_text(what, value)
    if len(text) != DIGEST_LENGTH or text.strip("0123456789abcdef"):
        raise BadRequest("bad_request", f"{what} is not a digest")
    return text


def check_source(what: str, value: object) -> str:
    text = check_text(what, value)
    if len(text) > SOURCE_LENGTH:
        raise BadRequest("bad_request", f"{what} is longer than {SOURCE_LENGTH} characters")
    return text

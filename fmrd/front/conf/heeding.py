"""What the file of settings says is heeded: options of fmrd that are not given, and what new volumes get."""

from collections.abc import Mapping
from typing import Any

import click

from fmrd.core.sizes import read_size
from fmrd.errors import BadRequest
from fmrd.front.conf.reading import Conf, bad, read_conf

MADE_WITH = ("region_size", "drl_extent", "fmr", "rdpol")
"""What a volume is made with; all other settings are set when it is there."""


class Configured(click.Command):
    """A command whose options may stand in [daemon]. The command line and the environment come first."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        try:
            extra.setdefault("default_map", dict(read_conf().daemon))
        except BadRequest as error:
            raise click.UsageError(f"{error.code}: {error.message}") from None
        return super().make_context(info_name, args, *rest, **extra)


def options_of_make(conf: Conf) -> dict[str, Any]:
    """Return defaults for the options of 'fmrctl make', by their names in the program."""
    found = {key: value for key, value in conf.volumes.items() if key in MADE_WITH}
    if "fmr" in found:
        found["no_fmr"] = not found.pop("fmr")
    return found


def arguments_of_make(conf: Conf, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of the verb make: what is ``told`` (keys of [volumes]), else what the file says.
    BadRequest('bad_conf').
    """
    wanted = {**conf.volumes, **told}
    sizes = {key: _size(conf, key, wanted.get(key)) for key in ("region_size", "drl_extent")}
    return {
        "region_size_bytes": sizes["region_size"], "drl_extent_bytes": sizes["drl_extent"], "fmr": wanted.get("fmr"),
        "rdpol": wanted.get("rdpol"),
    }  # fmt: skip


def settings_of(wanted: Mapping[str, Any], *, made: bool) -> dict[str, str]:
    """Return keys of [volumes] as the verb set takes them; ``made``: without those that make has taken already."""
    left_out = MADE_WITH if made else ("region_size", "drl_extent")
    found = {key: value for key, value in wanted.items() if key not in left_out}
    return {key: ("on" if value else "off") if isinstance(value, bool) else str(value) for key, value in found.items()}


def _size(conf: Conf, key: str, text: str | None) -> int | None:
    found = None if text is None else read_size(text)
    if text is not None and found is None:
        raise bad(conf.path, f"has {key} = {text!r}, which is not a size")
    return found

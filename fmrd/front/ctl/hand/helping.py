"""What the daemon cannot know of an error and fmrctl can: who has a volume open, which name may have been meant."""

from typing import Any

from fmrd.core.printable import printable
from fmrd.errors import FmrdError
from fmrd.front.client import Client
from fmrd.front.ctl.glance.picking import meant
from fmrd.front.ctl.hand.holders import holders
from fmrd.front.ctl.hand.meaning import LOSES

LOOK_SECONDS = 5.0


def helped(error: FmrdError, asked: Client, verb: str, args: dict[str, Any]) -> FmrdError:
    """Return the error, with more in it where there is more to say. Nothing here fails."""
    try:
        if error.code == "volume_open":
            _name_holders(error, asked)
        elif error.code in ("volume_missing", "plex_unknown") and not error.hint and _harmless(verb, args):
            names = [v["name"] for v in _volumes(asked)]
            if error.code == "plex_unknown":
                names = [p["name"] for v in _volumes(asked) if v["name"] == args.get("volume") for p in v["plexes"]]
            typed = args.get("plex" if error.code == "plex_unknown" else "volume") or args.get("snapshot")
            if not typed and len(args.get("volumes") or ()) == 1:
                typed = args["volumes"][0]
            error.hint = meant(str(typed), names) if typed else ""
    except (FmrdError, OSError, KeyError, TypeError):
        pass
    return error


def _name_holders(error: FmrdError, asked: Client) -> None:
    words = {word.strip(",:") for word in error.message.split()}
    held = []
    for volume in _volumes(asked):
        if volume["open_count"] and volume["name"] in words and (who := holders(volume["path"])):
            held.append(f"{volume['name']} by {', '.join(who)}")
    error.message += printable(f": held open, {'; '.join(held)}", 1000) if held else ""


def _volumes(asked: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Client(asked.path, min(asked.timeout_seconds, LOOK_SECONDS)).ask("print")["volumes"]
    return found


def _harmless(verb: str, args: dict[str, Any]) -> bool:
    """Whether a name may be guessed: nothing is given up by the verb, or by what else was asked for."""
    return not LOSES & {verb, *verb.split("_"), *(f"--{name}" for name, value in args.items() if value)}

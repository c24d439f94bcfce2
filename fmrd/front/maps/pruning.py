"""Snapshots of a volume go that no rule keeps. One of which something is lost stands for no night; it goes once a newer
one is whole.
"""

from collections.abc import Collection, Mapping

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, FmrdError
from fmrd.front.ctl.app import App
from fmrd.front.maps.retention import candidates, kept, stands_alone


def pruned(app: App, volume: str, rules: Mapping[str, int], *, dry_run: bool, spared: Collection[str] = ()) -> Json:
    """Return what prune shows. ``rules``: how many, by the words of PERIODS; ``spared``: names that stay whatever the
    rules say. BadRequest('bad_request') for a snapshot; Failed('volume_missing').
    """
    original = app.ask("print", volume=volume)["volumes"][0]
    if original["snapshot_of"] is not None:
        raise BadRequest("bad_request", f"{volume} is a snapshot of {original['snapshot_of']}: name that")
    found, left = candidates(app.ask("print")["volumes"], volume)
    rules_of = kept(found, rules)
    going = []
    for each in found:
        if rules_of[each.name]:
            continue
        if each.name in spared:
            left.append({"name": each.name, "code": "stream_unfit", "message": "the next increment is sent since it"})
        elif stands_alone(each, found):
            lost = "something of it is lost, and no newer snapshot is whole"
            left.append({"name": each.name, "code": "snap_invalid", "message": lost})
        else:
            going.append(each)
    shown: Json = {
        "kept": [{"name": each.name, "rules": rules_of[each.name]} for each in found if rules_of[each.name]],
        "removed": [], "left": left,
    }  # fmt: skip
    for each in sorted(going, key=lambda each: each.at):
        try:
            if not dry_run:
                app.ask("remove", volume=each.name, erase=True, uuid=each.uuid, snapshot_of=volume)
            shown["removed"].append(each.name)
        except FmrdError as error:
            left.append({"name": each.name, "code": error.code, "message": error.message})
    if dry_run:
        shown["notice"] = f"would remove {len(shown['removed'])} of {len(found) + len(left)} snapshot(s)"
    return shown

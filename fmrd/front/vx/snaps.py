"""vxassist's words about snapshots: snapstart, snapwait, snapshot, snapback, snapclear, snapabort, snapprint."""

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest
from fmrd.front.vx.asking import Vx, show
from fmrd.front.vx.assist import MAX_MIRRORS, family
from fmrd.front.vx.disks import new_paths
from fmrd.front.vx.typed import NotSupported, Typed, read_count, sectors

PRINTED = (
    ("V", "NAME", "USETYPE", "LENGTH"), ("SS", "SNAPOBJ", "NAME", "LENGTH", "%DIRTY"),
    ("DP", "NAME", "VOLUME", "LENGTH", "%DIRTY"),
)  # fmt: skip


def start(vx: Vx, typed: Typed) -> None:
    """vxassist [-b] snapstart VOLUME [nmirror=N] [DISK...], vxsnap [-b] addmir VOLUME [nmirror=N] [DISK...]"""
    volume, *disks = typed.words
    disks += [each for key, value in typed.attributes if key == "alloc" for each in value.split(",")]
    many = read_count("nmirror", typed.attribute("nmirror", "1"), MAX_MIRRORS)
    for path in new_paths(typed, vx.conf.disks, volume, disks, many, family(vx, volume)):
        vx.conclude(vx.ask("snapstart", volume=volume, path=path), background=typed.background)


def wait(vx: Vx, typed: Typed) -> None:
    """vxassist snapwait VOLUME, vxsnap snapwait VOLUME"""
    vx.ask("snapwait", volume=typed.words[0])


def abort(vx: Vx, typed: Typed) -> None:
    """vxassist snapabort VOLUME, vxsnap rmmir VOLUME"""
    for _ in range(read_count("nmirror", typed.attribute("nmirror", "1"), MAX_MIRRORS)):
        left = vx.ask("snapabort", volume=typed.words[0])["plex"]
        vx.tell(f"the file of plex {left['name']} stays: {left['path']}")


def snapshot(vx: Vx, typed: Typed) -> None:
    """vxassist snapshot VOLUME [SNAPSHOT], -o name=PATTERN snapshot VOLUME..., -o allvols snapshot [nmirror=N]"""
    words = list(typed.words)
    pattern = typed.options.get("name")
    every = "allvols" in typed.options
    if pattern is not None and "%d" in pattern:
        raise NotSupported("-o name= with %d", "fmrctl snapshot VOL --name PATTERN knows %v alone")
    if pattern is None and not every and len(words) == 2:  # the second is no volume, but the snapshot's name
        pattern = words.pop()
    if every == bool(words):
        raise BadRequest("bad_request", "vxassist snapshot: name the volumes, or give -o allvols")
    many = read_count("nmirror", typed.attribute("nmirror", "1"), MAX_MIRRORS)
    taken = vx.ask("snapshot", volumes=words, all=every, name=pattern, nmirror=many)
    for each in taken["volumes"]:
        vx.tell(f"snapshot {each['name']} of volume {each['snapshot_of']}: {each['path']}")


def back(vx: Vx, typed: Typed) -> None:
    """vxassist [-b] [-o resyncfromreplica] [-o allplexes] snapback SNAPSHOT [nmirror=N]"""
    names = [plex["name"] for plex in vx.volume(typed.words[0])["plexes"]]
    many = typed.attribute("nmirror")
    chosen = names[: read_count("nmirror", many, len(names))] if many else []
    vx.conclude(
        vx.ask(
            "snapback", snapshot=typed.words[0], from_replica="resyncfromreplica" in typed.options,
            plexes=chosen or None, all_plexes="allplexes" in typed.options,
        ), background=typed.background,
    )  # fmt: skip


def clear(vx: Vx, typed: Typed) -> None:
    """vxassist snapclear VOLUME SNAPSHOT, or snapclear SNAPSHOT"""
    *volume, snapshot = typed.words
    vx.original_of(snapshot, volume[0] if volume else None)
    vx.ask("snapclear", snapshot=snapshot)


def show_all(vx: Vx, typed: Typed) -> None:
    """vxassist snapprint [VOLUME]"""
    named = typed.words[0] if typed.words else None
    volumes = {each["name"]: each for each in vx.volumes()}
    if named is not None:
        family = vx.volume(named)
        volumes = {n: v for n, v in volumes.items() if n == named or named in (v["snapshot_of"], family["snapshot_of"])}
    told = vx.ask("snapprint")
    rows: list[tuple[str, ...]] = []
    for name, volume in volumes.items():
        rows.append(("v", name, "fsgen", str(sectors(volume["length_bytes"]))))
        for snap in told["snapshots"]:
            if snap["volume"] == name:
                rows.append(_row("ss", f"{snap['name']}_snp", snap["name"], snap))
            elif snap["name"] == name:
                rows.append(_row("ss", f"{snap['volume']}_snp", snap["volume"], snap))
        rows += [_row("dp", plex["name"], name, plex) for plex in told["detached"] if plex["volume"] == name]
    show(vx, PRINTED, rows)


def _row(kind: str, name: str, other: str, of: Json) -> tuple[str, ...]:
    return kind, name, other, str(sectors(of["length_bytes"])), f"{of['percent_dirty']:.0f}"

"""vxassist: volumes and their mirrors. Its words about snapshots are in snaps.py."""

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest
from fmrd.front.conf.heeding import arguments_of_make, settings_of
from fmrd.front.vx.asking import Vx
from fmrd.front.vx.disks import new_paths
from fmrd.front.vx.typed import NotSupported, Typed, read_count, read_length

MAX_MIRRORS = 39
LAYOUTS = {"mirror": 2, "mirror-concat": 2, "concat": 1, "nomirror": 1, "span": 1, "nolog": 1, "log": 1, "nostripe": 1}
"""A plex is one file from its first byte to its last, so these are the layouts there are; each with how many mirrors it
has where nobody says.
"""


def make(vx: Vx, typed: Typed) -> None:
    """vxassist make VOLUME LENGTH [layout=mirror] [nmirror=N] [DISK...]"""
    volume, length, *disks = typed.words
    mirrors = 1
    for layout in filter(None, typed.attribute("layout").split(",")):
        if layout not in LAYOUTS:
            raise NotSupported(f"layout={layout}", f"each plex is one whole copy: fmrctl make {volume} SIZE PATH PATH")
        mirrors = max(mirrors, LAYOUTS[layout])
    given = typed.options.get("fmrd_paths", "")
    mirrors = len(given.split(",")) if given else mirrors
    mirrors = read_count("nmirror", typed.attribute("nmirror", str(mirrors)), MAX_MIRRORS)
    paths = new_paths(typed, vx.conf.disks, volume, disks, mirrors)
    vx.conclude(
        vx.ask(
            "make", volume=volume, size_bytes=read_length(length), plexes=[{"path": path} for path in paths],
            **arguments_of_make(vx.conf, {}) | _told(typed),
        ), background=typed.background,
    )  # fmt: skip
    settings = settings_of(vx.conf.volumes, made=True)
    if settings:
        vx.ask("set", volume=volume, settings=settings)


def _told(typed: Typed) -> dict[str, object]:
    """What the line says itself of how the volume is made."""
    region, tracked = typed.attribute("regionsize"), typed.attribute("fastresync")
    told: dict[str, object] = {"region_size_bytes": read_length(region)} if region else {}
    return told | ({"fmr": switch(typed, "fastresync", tracked)} if tracked else {})


def switch(typed: Typed, key: str, default: str) -> bool:
    """Read on or off; BadRequest('bad_request')."""
    value = typed.attribute(key, default)
    if value not in ("on", "off", "yes", "no"):
        raise BadRequest("bad_request", f"{key}={value} is neither on nor off")
    return value in ("on", "yes")


def mirror(vx: Vx, typed: Typed) -> None:
    """vxassist mirror VOLUME [nmirror=N] [DISK...]"""
    volume, *disks = typed.words
    many = read_count("nmirror", typed.attribute("nmirror", "1"), MAX_MIRRORS)
    for path in new_paths(typed, vx.conf.disks, volume, disks, many, family(vx, volume)):
        vx.conclude(vx.ask("plex_add", volume=volume, path=path), background=typed.background)


def family(vx: Vx, volume: str) -> list[Json]:
    """Return the plexes of a volume and of its snapshots; Failed('volume_missing')."""
    vx.volume(volume)
    return [
        plex for each in vx.volumes() if volume in (each["name"], each["snapshot_of"]) for plex in each["plexes"]
    ]  # fmt: skip


def grow_to(vx: Vx, typed: Typed) -> None:
    """vxassist growto VOLUME LENGTH"""
    volume, length = typed.words
    vx.ask("grow", volume=volume, size_bytes=read_length(length))


def grow_by(vx: Vx, typed: Typed) -> None:
    """vxassist growby VOLUME LENGTH"""
    volume, length = typed.words
    vx.ask("grow", volume=volume, size_bytes=vx.volume(volume)["length_bytes"] + read_length(length))


def remove(vx: Vx, typed: Typed) -> None:
    """vxassist remove volume VOLUME, or remove mirror VOLUME PLEX|!DISK"""
    what, volume, *rest = typed.words
    if what == "volume" and not rest:
        paths = [plex["path"] for plex in vx.volume(volume)["plexes"]]
        vx.ask("remove", volume=volume)
        vx.tell(f"the plexes of {volume} stay, and hold its data: {', '.join(paths)}")
        return
    if what != "mirror":
        raise NotSupported(f"vxassist remove {what}", f"fmrctl plex dis {volume} PLEX")
    if len(rest) != 1:
        raise BadRequest("bad_request", f"vxassist remove mirror {volume}: say which one, as PLEX or !DISK")
    plex = _on_disk(vx, volume, rest[0][1:]) if rest[0].startswith("!") else rest[0]
    vx.ask("plex_dis", volume=volume, plex=plex)


def _on_disk(vx: Vx, volume: str, disk: str) -> str:
    folder = vx.conf.disks.get(disk, disk).rstrip("/")
    plexes = [p for p in vx.volume(volume)["plexes"] if p["path"] == disk or p["path"].startswith(f"{folder}/")]
    if len(plexes) != 1:
        raise BadRequest("bad_request", f"{len(plexes)} plexes of volume {volume} are on {disk}: name the plex")
    return str(plexes[0]["name"])

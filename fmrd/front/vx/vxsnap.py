"""vxsnap: snapshots as later releases of VxVM command them."""

from collections.abc import Sequence

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed
from fmrd.front.ctl.words import format_size
from fmrd.front.vx.asking import Vx, show
from fmrd.front.vx.assist import MAX_MIRRORS
from fmrd.front.vx.disks import new_paths
from fmrd.front.vx.typed import NotSupported, Typed, read_count, read_length, sectors

PRINTED = ("NAME", "SNAPOBJECT", "TYPE", "PARENT", "SNAPSHOT", "%DIRTY", "%VALID")
LISTED = ("NAME", "DG", "OBJTYPE", "SNAPTYPE", "PARENT", "PARENTDG", "SNAPDATE", "CHANGE_DATA", "SYNCED_DATA")
CACHES = ("cache", "cachesize")


def prepare(vx: Vx, typed: Typed) -> None:
    """vxsnap prepare VOLUME [regionsize=LENGTH]: each volume has its DCO from the start, so this only looks"""
    for name in typed.words:
        volume = vx.volume(name)
        region = typed.attribute("regionsize")
        if region and read_length(region) != volume["region_size_bytes"]:
            has = f"volume {name} has regions of {format_size(volume['region_size_bytes'])}, for good"
            raise NotSupported(f"regionsize={region}: {has}", "fmrctl make --region-size, when a volume is made")
        if not volume["fmr"]:
            vx.ask("set", volume=name, settings={"fmr": "on"})
        vx.tell(f"volume {name} is prepared: it has a DCO, and FastResync is on")


def unprepare(vx: Vx, typed: Typed) -> None:
    """vxsnap unprepare VOLUME: FastResync is off from then on"""
    for name in typed.words:
        vx.ask("set", volume=name, settings={"fmr": "off"})


def make(vx: Vx, typed: Typed) -> None:
    """vxsnap make source=VOLUME/newvol=SNAPSHOT[/nmirror=N | /cache=NAME]..."""
    if "-d" in typed.values:
        raise NotSupported("vxsnap -d, a file of descriptions", "name the snapshots on the line: source=... source=...")
    wishes = [_wish(value) for key, value in typed.attributes if key == "source"]
    if not wishes:
        raise BadRequest("bad_request", "vxsnap make: source=VOLUME/newvol=SNAPSHOT/nmirror=N")
    if any(key in wish for wish in wishes for key in CACHES):
        _instant(vx, typed, wishes)
        return
    mirrors = {read_count("nmirror", wish.get("nmirror", "1"), MAX_MIRRORS) for wish in wishes}
    if len(mirrors) > 1:
        raise NotSupported("vxsnap make with another nmirror= for each volume", "fmrctl snapshot VOL... --nmirror N")
    names = [wish["source"] for wish in wishes]
    pattern = _pattern(names, [wish["newvol"] for wish in wishes])
    _told(vx, vx.ask("snapshot", volumes=names, name=pattern, nmirror=mirrors.pop())["volumes"])


def _wish(text: str) -> dict[str, str]:
    """Read what stands behind source=. BadRequest, NotSupported."""
    volume, *parts = text.split("/")
    wish = {key: value for key, _, value in (part.partition("=") for part in parts)}
    if "snapvol" in wish:
        hint = f"fmrctl snapshot {volume} --instant PATH --sync --name {wish['snapvol']}"
        raise NotSupported("vxsnap make with snapvol=, a volume that is there already", hint)
    unknown = sorted(wish.keys() - {"newvol", "nmirror", *CACHES})
    if unknown:
        raise NotSupported(f"vxsnap make with {unknown[0]}=", f"fmrctl snapshot {volume} --name NAME")
    if not volume or not wish.get("newvol"):
        raise BadRequest("bad_request", f"source={text}: source=VOLUME/newvol=SNAPSHOT, which names both")
    return {**wish, "source": volume}


def _pattern(names: Sequence[str], snapshots: Sequence[str]) -> str:
    """Return one pattern for all names, in which %v stands for a volume: so all are taken at one instant."""
    if len(names) == 1:
        return snapshots[0]
    before, found, after = snapshots[0].partition(names[0])
    pattern = f"{before}%v{after}"
    if not found or [pattern.replace("%v", name) for name in names] != list(snapshots):
        hint = "fmrctl snapshot V1 V2 --name %v-snap: of several the names hold their volumes' in one way"
        raise NotSupported(f"snapshots {', '.join(snapshots)} at one instant", hint)
    return pattern


def _instant(vx: Vx, typed: Typed, wishes: Sequence[dict[str, str]]) -> None:
    if len(wishes) > 1:
        raise NotSupported("several snapshots with a cache at one instant", "fmrctl snapshot VOL --instant PATH")
    wish = wishes[0]
    cache = wish.get("cache", "")
    if cache in {store["name"] for store in _stores(vx)}:
        _told(vx, [vx.ask("snapshot", volumes=[wish["source"]], name=wish["newvol"], store=cache)["volume"]])
        return
    disks = list(vx.conf.disks)[-1:] if "fmrd_paths" not in typed.options else []
    path = new_paths(typed, vx.conf.disks, wish["newvol"], disks, 1)[0]
    vx.tell(f"no store is named {cache!r}: {wish['newvol']} keeps old data in {path}, a sparse file of its own")
    _told(vx, [vx.ask("snapshot", volumes=[wish["source"]], name=wish["newvol"], instant=path)["volume"]])


def _stores(vx: Vx) -> list[Json]:
    return list(vx.ask("store_print")["stores"])


def list_caches(vx: Vx, typed: Typed) -> None:
    """vxcache list [CACHE...]: stores, which are fmrd's caches"""
    rows = [
        (s["name"], typed.group, str(len(s["snapshots"])), str(sectors(s["size_bytes"])),
         "-" if s["used_bytes"] is None else f"{100 * s['used_bytes'] / s['size_bytes']:.0f}")
        for s in _stores(vx) if not typed.words or s["name"] in typed.words
    ]  # fmt: skip
    show(vx, [("CACHE", "DG", "SNAPSHOTS", "LENGTH", "%USED")], rows)


def size_cache(vx: Vx, typed: Typed) -> None:
    """vxcache growcacheto|growcacheby|shrinkcacheto|shrinkcacheby CACHE LENGTH"""
    name, by = typed.words[0], read_length(typed.words[1])
    was = int(vx.ask("store_print", name=name)["stores"][0]["size_bytes"])
    sizes = {"growcacheto": max(was, by), "growcacheby": was + by, "shrinkcacheto": min(was, by)}
    vx.ask("store_resize", name=name, size_bytes=sizes.get(typed.keyword, max(0, was - by)))


def _told(vx: Vx, volumes: Sequence[Json]) -> None:
    for each in volumes:
        vx.tell(f"snapshot {each['name']} of volume {each['snapshot_of']}: {each['path']}")


def refresh(vx: Vx, typed: Typed) -> None:
    """vxsnap [-b] refresh SNAPSHOT source=VOLUME; VOLUME source=SNAPSHOT restores it, as vxsnap restore does"""
    name, source = typed.words[0], typed.attribute("source") or None
    if source is not None and vx.volume(source)["snapshot_of"] == name:
        _restore(vx, name, source, keep=True)
        return
    vx.original_of(name, source)
    vx.conclude(vx.ask("refresh", snapshot=name), background=typed.background)


def restore(vx: Vx, typed: Typed) -> None:
    """vxsnap restore VOLUME source=SNAPSHOT [destroy=yes|no]: with no, which is the default, the snapshot is kept"""
    destroy = typed.attribute("destroy", "no")
    if len(typed.words) > 1 or destroy not in ("yes", "no"):
        raise NotSupported("vxsnap restore of several volumes", "fmrctl snapback --from-replica SNAPSHOT, one by one")
    if typed.background and destroy == "no":
        raise NotSupported("vxsnap -b restore with destroy=no", "fmrctl snapback --from-replica SNAPSHOT")
    _restore(vx, typed.words[0], typed.attribute("source"), keep=destroy == "no", background=typed.background)


def _restore(vx: Vx, volume: str, snapshot: str, *, keep: bool, background: bool = False) -> None:
    """A restore gives the snapshot back to its original; to keep it, it is taken anew when all is copied."""
    if not snapshot:
        raise BadRequest("bad_request", f"vxsnap restore {volume}: source=SNAPSHOT is missing")
    vx.original_of(snapshot, volume)
    mirrors = len(vx.volume(snapshot)["plexes"])
    vx.conclude(vx.ask("snapback", snapshot=snapshot, from_replica=True), background=background)
    if keep:
        vx.ask("snapwait", volume=volume)
        _told(vx, vx.ask("snapshot", volumes=[volume], name=snapshot, nmirror=mirrors)["volumes"])
        vx.tell(f"{snapshot} was taken anew: what was written to {volume} since the restore began is in it")


def reattach(vx: Vx, typed: Typed) -> None:
    """vxsnap [-b] reattach SNAPSHOT source=VOLUME [nmirror=N]"""
    snapshot = typed.words[0]
    vx.original_of(snapshot, typed.attribute("source") or None)
    plexes = [plex["name"] for plex in vx.volume(snapshot)["plexes"]]
    many = read_count("nmirror", typed.attribute("nmirror", str(len(plexes))), len(plexes))
    vx.conclude(vx.ask("snapback", snapshot=snapshot, plexes=plexes[:many]), background=typed.background)


def dissociate(vx: Vx, typed: Typed) -> None:
    """vxsnap dis SNAPSHOT"""
    vx.original_of(typed.words[0], None)
    vx.ask("snapclear", snapshot=typed.words[0])


def sync(vx: Vx, typed: Typed) -> None:
    """vxsnap [-b] syncstart|syncwait|syncpause|syncresume|syncstop SNAPSHOT"""
    snapshot = typed.words[0]
    if typed.keyword == "syncstart":
        vx.conclude(vx.ask("snapsync", snapshot=snapshot), background=typed.background)
        return
    vx.volume(snapshot)
    tasks = [t for t in vx.ask("task_list")["tasks"] if (t["type"], t["volume"]) == ("SNAPSYNC", snapshot)]
    if typed.keyword == "syncwait":
        vx.wait([task["id"] for task in tasks])
        return
    if not tasks:
        raise Failed(
            "task_missing", f"nothing synchronises snapshot {snapshot} just now", f"vxsnap syncstart {snapshot}"
        )
    verb = {"syncpause": "task_pause", "syncresume": "task_resume", "syncstop": "task_abort"}[typed.keyword]
    for task in tasks:
        vx.ask(verb, id=task["id"])


def show_all(vx: Vx, typed: Typed) -> None:
    """vxsnap print [VOLUME]"""
    if typed.flags & {"-n", "-l"}:
        show_list(vx, typed)
        return
    rows = []
    for volume in _chosen(vx, typed):
        if volume["snapshot_of"] is None:
            rows.append((volume["name"], "--", "volume", "--", "--", "--", "100"))
        else:
            dirty = _dirty(vx, volume)
            rows.append((volume["name"], f"{volume['snapshot_of']}_snp", "volume", volume["snapshot_of"], "--",
                         f"{dirty['percent_dirty']:.2f}", f"{_valid(volume):.2f}"))  # fmt: skip
        for snap in volume["snapshots"]:
            rows.append(("", f"{snap['name']}_snp", "volume", "--", snap["name"], f"{snap['percent_dirty']:.2f}", "--"))
    show(vx, [PRINTED], rows)


def show_list(vx: Vx, typed: Typed) -> None:
    """vxsnap [-v] [-x] list [VOLUME]"""
    group = typed.group
    rows = []
    for volume in _chosen(vx, typed):
        size, parent = format_size(volume["length_bytes"]), volume["snapshot_of"]
        if parent is None:
            rows.append((volume["name"], group, "vol", "-", "-", "-", "-", "-", f"{size} (100%)"))
        else:
            dirty, valid = _dirty(vx, volume), _valid(volume)
            synced = format_size(round(volume["length_bytes"] * valid / 100))
            change = f"{format_size(dirty['dirty_bytes'])} ({dirty['percent_dirty']:.1f}%)"
            kind = "mirbrk" if valid == 100 else "fullinst"
            rows.append((volume["name"], group, "vol", kind, parent, group, "-", change, f"{synced} ({valid:.0f}%)"))
        for plex in volume["plexes"]:
            if plex["state"] in ("SNAPDONE", "SNAPATT"):
                have = 100 * (1 - plex["dirty_bytes"] / volume["length_bytes"])
                synced = f"{format_size(volume['length_bytes'] - plex['dirty_bytes'])} ({have:.0f}%)"
                rows.append((plex["name"], group, "plex", "snapmir", volume["name"], group, "-", "-", synced))
    show(vx, [LISTED], rows)


def _chosen(vx: Vx, typed: Typed) -> list[Json]:
    volumes = vx.volumes()
    if not typed.words:
        return volumes
    named = vx.volume(typed.words[0])["name"]
    return [each for each in volumes if named in (each["name"], each["snapshot_of"])]


def _dirty(vx: Vx, snapshot: Json) -> Json:
    """How much differs from its original; that one's side of the association tells."""
    for each in vx.volume(snapshot["snapshot_of"])["snapshots"]:
        if each["name"] == snapshot["name"]:
            return dict(each)
    return {"dirty_bytes": 0, "percent_dirty": 0.0}


def _valid(snapshot: Json) -> float:
    """How much of it lies on its own plexes, in percent: an instant one reads the rest from its original."""
    lacks = min((int(plex["dirty_bytes"]) for plex in snapshot["plexes"]), default=0)
    return round(100 * (1 - lacks / max(1, int(snapshot["length_bytes"]))), 2)

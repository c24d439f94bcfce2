"""vxprint: volumes and plexes in VxVM's columns, or in a format of the user's (-F)."""

import re
from collections.abc import Iterator

from fmrd.core.json_object import Json
from fmrd.errors import Failed
from fmrd.front.vx.asking import Row, Vx, show
from fmrd.front.vx.disks import disk_of
from fmrd.front.vx.typed import NotSupported, Typed, sectors

LONG = (
    ("DG", "NAME", "NCONFIG", "NLOG", "MINORS", "GROUP-ID"),
    ("V", "NAME", "RVG/VSET/CO", "KSTATE", "STATE", "LENGTH", "READPOL", "PREFPLEX", "UTYPE"),
    ("PL", "NAME", "VOLUME", "KSTATE", "STATE", "LENGTH", "LAYOUT", "NCOL/WID", "MODE"),
    ("SD", "NAME", "PLEX", "DISK", "DISKOFFS", "LENGTH", "[COL/]OFF", "DEVICE", "MODE"),
    ("SP", "NAME", "SNAPVOL", "DCO"),
)
SHORT = (("TY", "NAME", "ASSOC", "KSTATE", "LENGTH", "PLOFFS", "STATE", "TUTIL0", "PUTIL0"),)
WIDTHS = (2, 12, 12, 8, 8, 8, 9, 8)
MACHINE = {"-m": "vxprint -m", "-l": "vxprint -l", "-a": "vxprint -a", "-s": "vxprint -s", "-d": "vxprint -d"}
_FIELD = re.compile(r"%(?:\{([a-z_]+):(-?)([0-9]{1,3})\}|\{([a-z_]+)\}|([a-z_]+)|(%))|\\([nt])")


def show_records(vx: Vx, typed: Typed) -> None:
    """vxprint [-ht] [-v] [-p] [-q] [NAME...], vxprint -F FORMAT [-v] [-p] [NAME...]"""
    for flag, what in MACHINE.items():
        if flag in typed.flags:
            raise NotSupported(what, "fmrctl print --json")
    if "-e" in typed.values:
        raise NotSupported("vxprint -e, a search", "fmrctl print --json | jq")
    chosen = list(_records(vx, typed))
    if "-F" in typed.values:
        for kind, record, volume in chosen:
            if kind == "v" or typed.words or "-p" in typed.flags:
                vx.line(_formatted(typed.values["-F"], _fields(kind, record, volume)))
        return
    full = "-t" in typed.flags
    bare = "-q" in typed.flags or (bool(typed.flags & {"-v", "-p", "-t", "-n"}) and "-h" not in typed.flags)
    if not bare:
        vx.line(f"Disk group: {typed.group}")
        vx.line()
    rows: list[Row] = [_group(typed.group, full=full)] if not bare else []
    for kind, record, volume in chosen:
        if kind == "v" and not bare:
            rows.append(())
        rows += _long(vx, kind, record, volume) if full else [_short(kind, record, volume)]
    show(vx, [] if bare else LONG if full else SHORT, rows, WIDTHS)


def _records(vx: Vx, typed: Typed) -> Iterator[tuple[str, Json, Json]]:
    """(kind, record, its volume) of what was named, in VxVM's order, with what is below it where -h, -r or no option
    says so. Failed('volume_missing').
    """
    volumes, names = vx.volumes(), set(typed.words)
    known = {each["name"] for volume in volumes for each in (volume, *volume["plexes"])}
    missing = sorted(names - known)
    if missing:
        raise Failed("volume_missing", f"there is no volume or plex {', '.join(missing)}")
    below = not names or bool(typed.flags & {"-h", "-r"}) or not (typed.flags or "-F" in typed.values)
    only = {kind for kind, flag in (("v", "-v"), ("pl", "-p")) if flag in typed.flags} or {"v", "pl"}
    for volume in volumes:
        whole = not names or volume["name"] in names
        if whole and "v" in only:
            yield "v", volume, volume
        for plex in volume["plexes"]:
            if "pl" in only and ((whole and below) or plex["name"] in names):
                yield "pl", plex, volume


def _group(name: str, *, full: bool) -> Row:
    return ("dg", name, "default", "default", "0", "-") if full else ("dg", name, name, "-", "-", "-", "-", "-", "-")


def _long(vx: Vx, kind: str, record: Json, volume: Json) -> list[Row]:
    length = str(sectors(volume["length_bytes"]))
    if kind == "v":
        policy, _, prefers = record["rdpol"].partition(":")
        rows: list[Row] = [("v", record["name"], "-", record["kstate"], record["state"], length, policy.upper(),
                            prefers or "-", "fsgen")]  # fmt: skip
        return rows + [("sp", f"{s['name']}_snp", s["name"], f"{s['volume']}_dco") for s in record["snapshots"]]
    disk = disk_of(vx.conf.disks, record["path"])
    mode = "ENA" if record["mode"] != "-" else "DIS"
    return [
        (
            "pl",
            record["name"],
            volume["name"],
            record["kstate"],
            record["state"],
            length,
            "CONCAT",
            "-",
            record["mode"],
        ),
        ("sd", f"{record['name']}-s1", record["name"], disk, "0", length, "0", record["path"], mode),
    ]


def _short(kind: str, record: Json, volume: Json) -> Row:
    associated = "fsgen" if kind == "v" else volume["name"]
    length = str(sectors(volume["length_bytes"]))
    return kind, record["name"], associated, record["kstate"], length, "-", record["state"], "-", "-"


def _fields(kind: str, record: Json, volume: Json) -> dict[str, str]:
    policy, _, prefers = volume["rdpol"].partition(":")
    return {
        "type": "vol" if kind == "v" else "plex", "rtype": "vol" if kind == "v" else "plex", "name": record["name"],
        "kstate": record["kstate"], "state": record["state"], "len": str(sectors(volume["length_bytes"])),
        "fastresync": "on" if volume["fmr"] else "off", "read_pol": policy, "rdpol": policy, "pref_name": prefers,
        "prefname": prefers, "usetype": "fsgen" if kind == "v" else "", "assoc": "" if kind == "v" else volume["name"],
        "vol": volume["name"], "nplex": str(len(volume["plexes"])), "num_plex": str(len(volume["plexes"])),
        "iomode": record.get("mode", ""), "path": record["path"], "device_path": record["path"],
    }  # fmt: skip


def _formatted(wanted: str, fields: dict[str, str]) -> str:
    r"""Fill a format in: %name, %{name}, %{name:8}, %{name:-8}, %%, \n and \t. NotSupported for a field."""

    def one(found: re.Match[str]) -> str:
        sized, left, width, braced, plain, percent, escape = found.groups()
        if percent or escape:
            return "%" if percent else {"n": "\n", "t": "\t"}[escape]
        name = sized or braced or plain
        if name not in fields:
            raise NotSupported(f"vxprint -F %{name}", "fmrctl print --json")
        return fields[name].ljust(int(width)) if left else fields[name].rjust(int(width or 0))

    return _FIELD.sub(one, wanted)

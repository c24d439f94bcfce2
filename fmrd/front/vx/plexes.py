"""vxplex, vxmend, vxvol, vxrecover: plexes leave and return, volumes start and stop."""

from fmrd.errors import BadRequest, Failed, FmrdError, Unreachable
from fmrd.front.vx.asking import Vx
from fmrd.front.vx.typed import NotSupported, Typed


def detach(vx: Vx, typed: Typed) -> None:
    """vxplex det PLEX..."""
    for plex in typed.words:
        vx.ask("plex_det", volume=vx.volume_of(plex), plex=plex)


def attach(vx: Vx, typed: Typed) -> None:
    """vxplex [-b] att VOLUME PLEX..."""
    volume, *plexes = typed.words
    for plex in plexes:
        vx.conclude(vx.ask("plex_att", volume=volume, plex=plex), background=typed.background)


def dissociate(vx: Vx, typed: Typed) -> None:
    """vxplex dis PLEX..."""
    if "rm" in typed.options:
        hint = "fmrctl plex dis VOL PLEX leaves the file, which holds data: remove it and its .dco by hand"
        raise NotSupported("vxplex -o rm dis", hint)
    for plex in typed.words:
        left = vx.ask("plex_dis", volume=vx.volume_of(plex), plex=plex)["plex"]
        vx.tell(f"the file of plex {plex} stays: {left['path']}")


def convert(vx: Vx, typed: Typed) -> None:
    """vxplex convert state=SNAPDONE PLEX"""
    if typed.attribute("state") != "SNAPDONE":
        raise BadRequest("bad_request", "vxplex convert: state=SNAPDONE is the one that a plex can be made")
    for plex in typed.words:
        vx.ask("plex_convert", volume=vx.volume_of(plex), plex=plex)


def mend_off(vx: Vx, typed: Typed) -> None:
    """vxmend off PLEX..."""
    for plex in typed.words:
        vx.ask("plex_off", volume=vx.volume_of(plex), plex=plex)


def mend_on(vx: Vx, typed: Typed) -> None:
    """vxmend on PLEX..."""
    for plex in typed.words:
        vx.ask("plex_on", volume=vx.volume_of(plex), plex=plex)


def mend_fix(vx: Vx, typed: Typed) -> None:
    """vxmend fix clean PLEX: it is taken as it is, and its volume is started from it"""
    state, plex = typed.words
    volume = vx.volume_of(plex)
    if state != "clean":
        raise NotSupported(f"vxmend fix {state}", f"fmrctl start {volume} --accept {plex}")
    vx.ask("start", volume=volume, accept=plex)
    vx.tell(f"volume {volume} is started from plex {plex}; the others are copied from it")


def set_volume(vx: Vx, typed: Typed) -> None:
    """vxvol set fastresync=on|off VOLUME..."""
    value = typed.attribute("fastresync")
    if value not in ("on", "off"):
        raise BadRequest("bad_request", "vxvol set: fastresync=on or fastresync=off", "fmrctl set has all settings")
    for volume in typed.words:
        vx.ask("set", volume=volume, settings={"fmr": value})


def read_policy(vx: Vx, typed: Typed) -> None:
    """vxvol rdpol select|round VOLUME, vxvol rdpol prefer VOLUME PLEX"""
    policy, volume, *plex = typed.words
    if policy not in ("select", "round", "prefer") or (policy == "prefer") != bool(plex):
        raise BadRequest("bad_request", "vxvol rdpol: select VOLUME, round VOLUME, or prefer VOLUME PLEX")
    vx.ask("set", volume=volume, settings={"rdpol": ":".join([policy, *plex])})


def start(vx: Vx, typed: Typed) -> None:
    """vxvol start VOLUME..., vxvol startall"""
    _each(vx, typed, "start", "DISABLED")


def stop(vx: Vx, typed: Typed) -> None:
    """vxvol stop VOLUME..., vxvol stopall"""
    _each(vx, typed, "stop", "ENABLED")


def _each(vx: Vx, typed: Typed, verb: str, state: str) -> None:
    """Of several one that fails stops none of the others; what failed first is raised in the end."""
    every = typed.keyword.endswith("all")
    names = [v["name"] for v in vx.volumes() if v["kstate"] == state] if every else typed.words
    failed: list[FmrdError] = []
    for name in names:
        try:
            vx.ask(verb, volume=name)
        except FmrdError as error:
            failed.append(error)
            if isinstance(error, Unreachable) or len(names) == 1:
                raise
            vx.tell(f"{error.code}: {error.message}")
    if failed:
        raise failed[0]


def recover(vx: Vx, typed: Typed) -> None:
    """vxrecover [-s] [-b] [-n] [-t TAG] [VOLUME...]"""
    for option in sorted(typed.options.keys() | (typed.values.keys() & {"-P"})):
        vx.tell(f"vxrecover: {option} changes nothing here: fmrctl set VOL rate=BYTES limits copies")
    names = typed.words or [v["name"] for v in vx.volumes()]
    if "-s" in typed.flags:
        for name in names:
            if vx.volume(name)["kstate"] == "DISABLED":
                vx.ask("start", volume=name)
    if "-n" in typed.flags:
        return
    for name in names if typed.words else [None]:
        result = vx.ask("recover", volume=name)
        for failed in result["failed"]:
            vx.tell(f"{failed['code']}: {failed['message']}")
        vx.conclude(result, background=typed.background)
        if result["failed"] and not result["tasks"]:
            raise Failed("not_recovered", "none of the plexes that are out can be attached")

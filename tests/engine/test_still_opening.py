"""Who asks for a volume while a daemon starts is told "not yet" or "never", and woken when that changes."""

from fmrd.engine.opening.still_opening import Arriving


def woken(arriving: Arriving, name: str) -> bool:
    waits = arriving.arrived
    arriving.ended(name)
    return waits.is_set()


def test_not_yet_becomes_never() -> None:
    arriving = Arriving()
    assert arriving.may_come(name="data") and arriving.may_come(number=7) and arriving.may_come()
    arriving.found(["data", "more"])
    arriving.read("data", {"data": 7, "SNAP-data": 8})
    assert arriving.names() == ["SNAP-data", "data", "more"]
    assert arriving.may_come(name="other"), "of one home copy nobody knows the volumes yet"
    arriving.read("more", {})
    assert arriving.may_come(name="data") and arriving.may_come(number=8) and arriving.may_come()
    assert not arriving.may_come(name="other") and not arriving.may_come(number=9)
    assert not woken(arriving, "other") and woken(arriving, "data")
    assert not arriving.may_come(name="data") and not arriving.may_come(number=7) and arriving.may_come()
    assert woken(arriving, "SNAP-data") and not arriving.may_come()
    assert Arriving().names() == [] == arriving.names()

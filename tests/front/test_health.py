"""How a volume is, judged from what print tells of it: each state with its cause and action."""

from typing import Any

import pytest

from fmrd.core.json_object import Json
from fmrd.errors import Failed
from fmrd.front.ctl.glance.health import LEVELS, MEANS, Health, Judged, Level, judge, worst_first
from fmrd.front.ctl.glance.picking import picked


def plex(number: int = 1, state: str = "ACTIVE", **more: Any) -> Json:
    return {"name": f"data-{number:02d}", "path": f"/srv/{number}", "state": state, "dirty_regions": 0,
            "dirty_bytes": 0, "reason": None, **more}  # fmt: skip


def volume(*plexes: Json, **more: Any) -> Json:
    return {"name": "data", "kstate": "ENABLED", "state": "ACTIVE", "length_bytes": 1 << 30, "lost": [],
            "suspect": False, "snapshot_of": None, "instant": False, "error": None, "plexes": list(plexes or (plex(),)),
            **more}  # fmt: skip


def task(number: int, kind: str = "PLXATT", **more: Any) -> Json:
    return {"id": 7, "volume": "data", "plex": f"data-{number:02d}", "type": kind, "state": "running",
            "reason": {"code": "fast", "message": ""}, "done_bytes": 1 << 20, "total_bytes": 4 << 20,
            "eta_seconds": 3.0, **more}  # fmt: skip


def judged(shown: Json, *tasks: Json, opening: tuple[str, ...] = ()) -> Judged:
    return judge(shown, tasks, opening)


IOFAIL = {"code": "io_error", "message": "[Errno 5] Input/output error", "errno": 5, "since": 86400.0}
LOST = [{"offset_bytes": 0, "length_bytes": 4096}]
REFUSED = {"code": "no_current_plex", "message": "data-02 is missing", "hint": "bring it back"}


@pytest.mark.parametrize(
    ("shown", "tasks", "health", "cause", "action"),
    [
        (volume(plex(), plex(2, "IOFAIL", reason=IOFAIL)), (), Health.DEGRADED, "data-02 (/srv/2) is IOFAIL since 19",
         "plex att data data-02"),
        (volume(plex(), plex(2, "STALE", dirty_bytes=65536)), (), Health.DEGRADED, "misses 64K",
         "fmrctl plex att data data-02"),
        (volume(plex(), plex(2, "OFFLINE")), (), Health.DEGRADED, "OFFLINE", "fmrctl plex on data data-02"),
        (volume(plex(), plex(2, "IOFAIL", reason=IOFAIL | {"code": "session_open"}) | {"path": "nbd://far/?x-fence=single"}),
         (), Health.DEGRADED, "session_open", "attached by itself then, or by fmrctl plex att data data-02"),
        (volume(plex(), plex(2, "IOFAIL", reason=IOFAIL | {"code": "session_open"}) | {"path": "nbd://far/"}),
         (), Health.DEGRADED, "session_open", "--settled data data-02"),
        (volume(plex(), plex(2, "IOFAIL", reason=IOFAIL | {"code": "session_open"})), (), Health.DEGRADED,
         "session_open", "--settled data data-02"),
        (volume(plex(), plex(2, "STALE", reason=IOFAIL | {"code": "refused_split_brain"})), (), Health.DEGRADED,
         "refused_split_brain", "--dry-run --discard data data-02"),
        (volume(plex(), plex(2, "STALE", reason=IOFAIL | {"code": "refused_unknown_plex"})), (), Health.DEGRADED,
         "refused_unknown_plex", "--full data data-02"),
        (volume(plex(), plex(2, "TEMP", dirty_regions=9)), (task(2),), Health.RESYNCING, "25% of 4M copied, about 3 s",
         "nothing"),
        (volume(plex(), plex(2, "TEMP", dirty_regions=9)), (task(2, state="paused"),), Health.RESYNCING, "(paused)",
         "task resume 7"),
        (volume(plex(), plex(2, dirty_regions=9), state="SYNC"),
         (task(2, "RDWRBACK", reason={"code": "recovery", "message": ""}),), Health.RECOVERING, "25%", "nothing"),
        (volume(state="SYNC"), (), Health.RECOVERING, "recovers", "nothing"),
        (volume(plex(), plex(2, dirty_regions=9, dirty_bytes=589824)), (), Health.DEGRADED, "still misses 576K",
         "fmrctl plex att data data-02"),
        (volume(lost=LOST), (), Health.LOST, "4K cannot be read", "fmrctl print data"),
        (volume(lost=LOST, snapshot_of="big"), (), Health.INVALID, "4K of old data", "fmrctl snapshot big"),
        (volume(suspect=True), (), Health.SUSPECT, "flush failed", "write again"),
        (volume(kstate="DISABLED", error=REFUSED), (), Health.REFUSED, "no_current_plex: data-02", "bring it back"),
        (volume(plex(2, "IOFAIL"), kstate="DISABLED", state="CLEAN"), (), Health.DEGRADED, "IOFAIL",
         "fmrctl start data"),
    ],
)  # fmt: skip
def test_each_state_has_its_cause_and_action(
    shown: Json, tasks: tuple[Json, ...], health: Health, cause: str, action: str
) -> None:
    found = judged(shown, *tasks)
    assert found.health is health and found.level is LEVELS[health] is not Level.WELL
    assert cause in found.findings[0].cause and action in found.findings[0].action


def test_what_is_well_has_nothing_below_it() -> None:
    assert (judged(volume()).health, judged(volume()).findings) == (Health.OK, ())
    stopped = judged(volume(plex(state="CLEAN"), kstate="DISABLED", state="CLEAN"))
    assert (stopped.health, stopped.level, stopped.in_sync) == (Health.STOPPED, Level.WELL, 1)


def test_a_plex_that_may_lag_and_does_is_well() -> None:
    found = judged(volume(plex(), plex(2, dirty_regions=5, dirty_bytes=5 << 16, lag_bytes=5 << 16, lag_seconds=0.1)))
    assert (found.health, found.in_sync, found.findings) == (Health.OK, 2, ())
    out = plex(2, "IOFAIL", dirty_regions=5, dirty_bytes=5 << 16, lag_bytes=None)
    assert judged(volume(plex(), out)).health == Health.DEGRADED, "out is out"


def test_what_is_opening_is_no_refusal_yet() -> None:
    found = judged(volume(kstate="DISABLED", error=REFUSED), opening=("data",))
    assert found.health is Health.OPENING and len(found.findings) == 1


def test_a_comparison_is_no_copy() -> None:
    assert judged(volume(), task(1, "VERIFY")).health is Health.OK


def test_snapshots_that_are_as_they_should_be_are_well() -> None:
    instant = judged(volume(plex(dirty_regions=9, dirty_bytes=9 << 16), snapshot_of="big", instant=True))
    assert (instant.health, instant.in_sync) == (Health.OK, 1)
    assert judged(volume(plex(dirty_regions=9), instant=True), task(1, "SNAPSYNC")).health is Health.OK
    assert judged(volume(plex(), plex(2, "SNAPATT", dirty_regions=9)), task(2, "SNAPATT")).health is Health.OK
    gone = judged(volume(plex(1, "IOFAIL", dirty_regions=9), instant=True))
    assert gone.health is Health.DEGRADED


def test_the_worst_counts_and_comes_first() -> None:
    shown = volume(plex(), plex(2, "IOFAIL", reason=IOFAIL), plex(3, "TEMP"), lost=LOST)
    found = judged(shown, task(3))
    assert [f.health for f in found.findings] == [Health.LOST, Health.DEGRADED, Health.RESYNCING]
    assert found.in_sync == 1
    names = [each.name for each in worst_first([Judged("z", Health.LOST, 1, 1, 1), Judged("a", Health.OK, 1, 1, 1),
                                                Judged("b", Health.DEGRADED, 1, 1, 1)])]  # fmt: skip
    assert names == ["z", "b", "a"]


def test_every_state_has_its_level_and_is_explained() -> None:
    assert LEVELS.keys() == MEANS.keys() == set(Health)


def test_names_and_globs_are_picked_and_a_mistyped_one_is_guessed() -> None:
    known = ["data", "data2", "mail"]
    assert picked((), known) == known
    assert picked(("mail", "da*", "data"), known) == ["mail", "data", "data2"]
    with pytest.raises(Failed, match=r"no volume dat$") as raised:
        picked(("dat",), known)
    assert raised.value.hint == "did you mean data?"
    with pytest.raises(Failed, match=r"no volume x\*"):
        picked(("x*",), known)

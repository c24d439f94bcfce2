"""The tables of states: none is forgotten, and they agree with each other and with the diagram in INVARIANTS.md."""

from pathlib import Path

import pytest

from fmrd.core import states
from fmrd.core.states import IN_SYNC, KSTATE, OPEN_GATE, PROMOTED, READ_WRITE, KState, PlexState, mode

DIAGRAM = (Path(states.__file__).parent / "INVARIANTS.md").read_text()


@pytest.mark.parametrize("state", PlexState)
def test_every_state_has_a_kstate_and_a_mode(state: PlexState) -> None:
    assert isinstance(KSTATE[state], KState)
    assert mode(state) in ("RW", "WO", "-")


@pytest.mark.parametrize("state", PlexState)
def test_io_reaches_just_the_plexes_with_an_open_gate(state: PlexState) -> None:
    assert (KSTATE[state] is KState.ENABLED) is (state in OPEN_GATE)
    assert (mode(state) == "-") is (state not in OPEN_GATE)


@pytest.mark.parametrize("state", PlexState)
def test_an_open_plex_is_in_sync_or_on_its_way(state: PlexState) -> None:
    assert (state in OPEN_GATE) is (state in IN_SYNC or state in PROMOTED)
    assert not (state in IN_SYNC and state in PROMOTED)


def test_whoever_is_promoted_arrives_in_sync() -> None:
    assert set(PROMOTED.values()) == IN_SYNC
    assert READ_WRITE <= IN_SYNC


def test_vxvm_shows_them_so() -> None:
    shown = {state.value: (KSTATE[state].value, mode(state)) for state in PlexState}
    assert shown == {
        "ACTIVE": ("ENABLED", "RW"),
        "TEMP": ("ENABLED", "WO"),
        "SNAPATT": ("ENABLED", "WO"),
        "SNAPDONE": ("ENABLED", "WO"),
        "STALE": ("DETACHED", "-"),
        "IOFAIL": ("DETACHED", "-"),
        "OFFLINE": ("DISABLED", "-"),
    }


@pytest.mark.parametrize("state", PlexState)
def test_the_diagram_has_every_state(state: PlexState) -> None:
    assert state.value in DIAGRAM

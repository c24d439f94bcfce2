"""Which snapshots are kept: restic's rules, as properties and as a table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.json_object import Json
from fmrd.front.ctl import words
from fmrd.front.maps.retention import PERIODS, Taken, candidates, kept, stands_alone

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def taken(*hours_ago: float) -> list[Taken]:
    return [Taken(f"s{n}", f"u{n}", (NOON - timedelta(hours=each)).timestamp()) for n, each in enumerate(hours_ago)]


HISTORIES = st.lists(st.floats(0, 24 * 800), max_size=40).map(lambda hours: taken(*hours))
RULES = st.dictionaries(st.sampled_from(list(PERIODS)), st.integers(0, 12))


def stay(snapshots: list[Taken], rules: dict[str, int]) -> set[str]:
    return {name for name, why in kept(snapshots, rules, UTC).items() if why}


@given(HISTORIES, RULES)
def test_nothing_else_than_what_there_is_is_named(snapshots: list[Taken], rules: dict[str, int]) -> None:
    found = kept(snapshots, rules, UTC)
    assert found.keys() == {each.name for each in snapshots}
    assert all(set(why) <= {word for word, count in rules.items() if count} for why in found.values())


@given(HISTORIES, RULES)
def test_the_newest_stays_under_any_rule_that_keeps_anything(snapshots: list[Taken], rules: dict[str, int]) -> None:
    if snapshots and any(rules.values()):
        newest = max(snapshots, key=lambda each: (each.at, each.name))
        assert newest.name in stay(snapshots, rules)


@given(HISTORIES, RULES)
def test_pruning_again_removes_nothing_more(snapshots: list[Taken], rules: dict[str, int]) -> None:
    left = [each for each in snapshots if each.name in stay(snapshots, rules)]
    assert stay(left, rules) == {each.name for each in left}


@given(HISTORIES, RULES, st.sampled_from(list(PERIODS)), st.integers(1, 5))
def test_more_is_kept_by_more(snapshots: list[Taken], rules: dict[str, int], word: str, more: int) -> None:
    assert stay(snapshots, rules) <= stay(snapshots, rules | {word: rules.get(word, 0) + more})


@given(HISTORIES, st.sampled_from(list(PERIODS)), st.integers(0, 12))
def test_a_rule_keeps_the_newest_of_each_of_its_last_periods(snapshots: list[Taken], word: str, count: int) -> None:
    def period(each: Taken) -> object:
        return each.name if word == "last" else PERIODS[word](datetime.fromtimestamp(each.at, UTC))

    names = {each.name: each for each in snapshots}
    found = [names[name] for name in stay(snapshots, {word: count})]
    assert len(found) == len({period(each) for each in found}) == min(count, len({period(s) for s in snapshots}))
    for each in found:
        rivals = [other for other in snapshots if period(other) == period(each)]
        assert each.at == max(other.at for other in rivals)
        assert all(other.at >= each.at for other in found if other.at > max(r.at for r in rivals))


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        ({"last": 2}, {"s0", "s1"}),
        ({"hourly": 2}, {"s0", "s1"}),
        ({"daily": 2}, {"s0", "s2"}),
        ({"weekly": 2}, {"s0", "s2"}),
        ({"monthly": 3}, {"s0", "s4", "s5"}),
        ({"yearly": 9}, {"s0", "s5"}),
        ({"last": 1, "daily": 2, "yearly": 2}, {"s0", "s2", "s5"}),
        ({"last": 0}, set()),
    ],
)
def test_the_words_are_restics(rules: dict[str, int], names: set[str]) -> None:
    """Monday noon, an hour before, Sunday evening, the Sunday before, the last of October, the year before."""
    snapshots = taken(0, 1, 14, 7 * 24 + 14, 30 * 24, 360 * 24)
    assert stay(snapshots, rules) == names


def shown(name: str, **others: object) -> Json:
    found = {"name": name, "uuid": f"uuid of {name}", "snapshot_of": "data", "taken": 1.0, "receiving": False}
    return found | {"lost": [], "error": None, "kstate": "ENABLED"} | others


def test_only_snapshots_of_that_volume_may_go() -> None:
    volumes = [
        shown("data", snapshot_of=None), shown("a"), shown("b", snapshot_of="data2"), shown("c", taken=None),
        shown("RECV-data", receiving=True), shown("UNDO-data"), shown("other", snapshot_of=None),
        shown("stopped", kstate="DISABLED"), shown("refused", error={"code": "home_torn", "message": "m"}),
    ]  # fmt: skip
    found, left = candidates(volumes, "data")
    assert [each.name for each in found] == ["a"]
    assert [(each["name"], each["code"]) for each in left] == [
        ("c", "snap_unknown"), ("RECV-data", "receive_present"), ("UNDO-data", "undo_present"),
        ("stopped", "volume_stopped"), ("refused", "home_torn"),
    ]  # fmt: skip


def test_one_of_which_something_is_lost_counts_for_no_rule() -> None:
    newest, older, oldest = taken(0, 24, 48)
    lost = replace(newest, whole=False)
    assert stay([lost, older, oldest], {"last": 1}) == {older.name}
    assert stay([lost], {"last": 1}) == set()
    assert stands_alone(lost, [lost, older]), "nobody else has what is left of that day"
    assert not stands_alone(replace(older, whole=False), [newest, older])
    assert candidates([shown("a", lost=[{"offset_bytes": 0, "length_bytes": 1}])], "data")[0][0].whole is False


def test_a_name_may_have_the_time_in_it() -> None:
    at = datetime(2026, 2, 3, 4, 5, 6).timestamp()  # local time is what is meant
    assert words.dated("%v-%Y%m%d-%H%M%S", at) == "%v-20260203-040506"
    assert words.dated("plain", at) == "plain"

"""fmrctl stat: what is made of two answers of the daemon, and how it is printed."""

from typing import Any

import pytest

from fmrd.core.json_object import Json
from fmrd.core.measures.latency import Latency
from fmrd.errors import BadRequest
from fmrd.front.ctl.measured.intervals import by_name, interval_of, intervals
from fmrd.front.ctl.measured.stat import _asked, format_rate, format_seconds, print_figures
from fmrd.front.ctl.tables import Out

SECOND = 1_000_000_000


def figures(plex: str | None = None, *, at: int = 10, began: int = 0, writes: int = 0, us: int = 100) -> Json:
    """At that second: so many writes of 4 KiB, each of which took so many microseconds."""
    latency, none = Latency(), Latency()
    latency.add(us * 1000, writes)

    def counted(count: int, took: Latency) -> Json:
        return {"count": count, "bytes": 4096 * count, "total_ns": took.total_ns, "buckets": took.buckets}

    kinds = {"read": counted(0, none), "write": counted(writes, latency), "flush": counted(0, none)}
    return {"volume": "data", "plex": plex, "state": "ACTIVE", "errors": 0, "under_way": 2, "slow": None,
            "at_ns": at * SECOND, "began_ns": began, "kinds": kinds}  # fmt: skip


def test_an_interval_is_the_difference_of_two_answers() -> None:
    found = interval_of(figures(at=20, writes=3000), figures(at=10, writes=1000))
    assert (found["seconds"], found["writes"], found["write_bytes"]) == (10.0, 2000, 2000 * 4096)
    assert found["write_seconds"] == pytest.approx(100e-6)
    assert 50e-6 <= found["write_p99_seconds"] <= 200e-6
    assert found["queue"] == pytest.approx(2000 * 100e-6 / 10), "by Little's law"
    assert (found["read_seconds"], found["read_p99_seconds"], found["reads"]) == (None, None, 0)


def test_the_first_one_began_with_the_start_of_the_volume() -> None:
    found = interval_of(figures(at=10, began=2 * SECOND, writes=80), None)
    assert (found["seconds"], found["writes"]) == (8.0, 80)


def test_a_volume_that_was_started_anew_has_no_negative_figures() -> None:
    found = interval_of(figures(at=20, began=15 * SECOND, writes=5), figures(at=10, writes=1000))
    assert (found["seconds"], found["writes"]) == (5.0, 5)


def test_a_daemon_that_was_started_anew_after_a_boot_has_another_clock() -> None:
    assert interval_of(figures(at=3, writes=5), figures(at=1000, writes=1000))["writes"] == 5


def test_who_is_new_is_shown_since_its_start() -> None:
    before = by_name({"figures": [figures(at=10)]})
    now = by_name({"figures": [figures(at=20), figures("data-02", at=20, began=0, writes=7)]})
    assert [each["writes"] for each in intervals(now, before)] == [0, 7]


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("", (None, None, 1)), ("data", ("data", None, 1)), ("5", (None, 5.0, None)), ("data 0.5", ("data", 0.5, None)),
        ("5 3", (None, 5.0, 3)), ("data 5 3", ("data", 5.0, 3)), ("7 5 3", ("7", 5.0, 3)),
    ],
)  # fmt: skip
def test_words_that_may_be(typed: str, asked: tuple[Any, ...]) -> None:
    assert _asked(tuple(typed.split())) == asked


@pytest.mark.parametrize(
    "typed",
    ["data x", "5 x", "5 0", "data 5 -1", "data 5 1.5", "a b c", "data 5 1 1", "data nan", "data inf", "data -5"],
)
def test_words_that_may_not(typed: str) -> None:
    with pytest.raises(BadRequest):
        _asked(tuple(typed.split()))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.0, "0us"), (3.5e-6, "3.5us"), (123.4e-6, "123us"), (0.00123, "1.23ms"), (2.5, "2.5s")],
)
def test_times_for_people(seconds: float | None, shown: str) -> None:
    assert format_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("rate", "shown"), [(0, "0"), (0.2, "0.2"), (9.96, "10.0"), (640.4, "640"), (12500, "12.5k"), (2.5e6, "2.5M")]
)
def test_rates_for_people(rate: float, shown: str) -> None:
    assert format_rate(rate) == shown


def test_the_table_fits_eighty_columns_and_names_who_is_slow(capsys: pytest.CaptureFixture[str]) -> None:
    slow = figures("data-02", writes=123456789, us=99999) | {"slow": "a write takes 100 ms there"}
    print_figures(Out(), intervals(by_name({"figures": [figures(), slow]}), {}))
    head, volume, plex, said = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "NAME R/S W/S F/S READ/S WRITE/S RWAIT WWAIT FWAIT R99% W99% QUEUE"
    assert volume.split()[:2] == ["v", "data"] and plex.split()[:2] == ["pl", "data-02"]
    assert max(map(len, (head, volume, plex))) <= 80
    assert said == "plex data-02 is slow: a write takes 100 ms there"


def test_without_volumes_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_figures(Out(), [])
    assert capsys.readouterr().out == "no volume is started\n"

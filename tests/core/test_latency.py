"""How long things took, in buckets: sums are exact, quantiles true within a factor of two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.measures.latency import BUCKETS, Latency, Requests, Times

TIMES = st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=60)


def latency_of(times: list[int], weight: int = 1) -> Latency:
    latency = Latency()
    for each in times:
        latency.add(each, weight)
    return latency


@given(TIMES, st.integers(min_value=1, max_value=9))
def test_counts_and_sums_are_exact(times: list[int], weight: int) -> None:
    found = latency_of(times, weight).times()
    assert (found.count, found.total_ns) == (weight * len(times), weight * sum(times))
    assert found.mean_ns == sum(times) / len(times)


@given(TIMES, st.floats(min_value=0.01, max_value=1.0))
def test_a_quantile_is_true_within_a_factor_of_two(times: list[int], part: float) -> None:
    found = latency_of(times).times().quantile_ns(part)
    assert found is not None
    nearest = sorted(times)[max(0, -int(-part * len(times) // 1) - 1)]
    assert nearest / 2 <= found <= max(1, 2 * nearest)


@given(TIMES, TIMES)
def test_an_interval_is_what_came_between(before: list[int], after: list[int]) -> None:
    latency = latency_of(before)
    then = latency.times()
    for each in after:
        latency.add(each)
    assert latency.times().since(then) == latency_of(after).times()
    assert latency.times().since(None) == latency.times()


def test_of_nothing_there_is_no_mean() -> None:
    nothing = Times((0,) * BUCKETS, 0)
    assert (nothing.count, nothing.mean_ns, nothing.quantile_ns(0.99)) == (0, None, None)


@pytest.mark.parametrize("ns", [0, 1, 2, 3, 4, 1023, 1024, (1 << 63) - 1])
def test_a_bucket_is_named_by_how_many_bits_its_times_have(ns: int) -> None:
    buckets = latency_of([ns]).buckets
    assert [bits for bits, count in enumerate(buckets) if count] == [ns.bit_length()]


def test_a_request_that_failed_counts_with_its_time_and_without_its_bytes() -> None:
    requests = Requests()
    requests.ended(4096, 10)
    requests.ended(4096, 20, failed=True)
    assert (requests.count, requests.errors, requests.bytes) == (2, 1, 4096)
    assert requests.latency.total_ns == 30

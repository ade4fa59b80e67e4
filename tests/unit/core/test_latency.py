"""What is slow for a provider, and how many extra calls there may be."""

from hypothesis import given
from hypothesis import strategies as st

from firstline.core.latency import LEAST_SAMPLES, SAMPLES, UNKNOWN_HEDGE_S, UNKNOWN_HUNG_S, CallBudget, Latencies


def seen(durations: list[float]) -> Latencies:
    latencies = Latencies()
    for seconds in durations:
        latencies.add(seconds)
    return latencies


def test_too_few_answers_say_nothing() -> None:
    latencies = seen([0.1] * (LEAST_SAMPLES - 1))
    assert latencies.quantile(0.95) is None
    assert (latencies.hedge_after_s, latencies.hung_after_s) == (UNKNOWN_HEDGE_S, UNKNOWN_HUNG_S)


def test_slow_is_what_95_of_100_have_not_been() -> None:
    latencies = seen([0.1] * 95 + [2.0] * 5)
    assert latencies.quantile(0.5) == 0.1
    assert latencies.quantile(0.95) == 2.0
    assert seen([0.1] * 96 + [2.0] * 4).hedge_after_s < 0.2


def test_old_answers_are_forgotten() -> None:
    assert seen([5.0] * 50 + [0.1] * SAMPLES).hung_after_s < 1.0


def test_hung_is_far_beyond_slow() -> None:
    latencies = seen([0.3] * 50)
    assert latencies.hung_after_s >= 3 * latencies.hedge_after_s


@given(st.lists(st.floats(0.0, 100.0), min_size=LEAST_SAMPLES, max_size=300))
def test_quantiles_are_those_of_the_latest_answers(durations: list[float]) -> None:
    latest = sorted(durations[-SAMPLES:])
    latencies = seen(durations)
    assert latencies.quantile(0.0) == latest[0]
    assert latencies.quantile(1.0) == latest[-1]


def test_extra_calls_are_a_share_of_first_ones_beyond_the_reserve() -> None:
    budget = CallBudget(share=0.1, reserve=5.0)
    assert sum(budget.spend() for _ in range(100)) == 5
    granted = 0
    for _ in range(1_000):
        budget.earn()
        granted += budget.spend()
    assert 99 <= granted <= 100


def test_what_is_saved_has_a_bound() -> None:
    budget = CallBudget(share=0.5, reserve=3.0)
    for _ in range(1_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == 3

"""A breaker as a value: when it opens, whom it lets through, and what moves nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstline.core.breaker import (
    Breaker,
    BreakerPolicy,
    Permit,
    Phase,
    Result,
    admit,
    opens_at_once,
    record,
    result_of,
    trip,
    trip_elsewhere,
    unanswered,
)
from firstline.core.completion import FailureKind

POLICY = BreakerPolicy()


def after(results: list[Result], *, policy: BreakerPolicy = POLICY, now_s: float = 0.0) -> Breaker:
    """A breaker that has seen these results, each of a call that it let through."""
    breaker = Breaker()
    for result in results:
        breaker, permit = admit(breaker, now_s=now_s)
        if permit is not None:
            breaker = record(breaker, permit, result, policy, now_s=now_s)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    assert after([Result.FAILURE] * 4).phase is Phase.CLOSED
    assert after([Result.FAILURE] * 5).phase is Phase.OPEN


def test_a_success_between_failures_starts_the_count_again() -> None:
    four = [Result.FAILURE] * 4
    assert after([*[Result.SUCCESS] * 10, *four, Result.SUCCESS, *four]).phase is Phase.CLOSED


def test_a_rate_of_two_in_three_opens_it_though_never_five_fail_in_a_row() -> None:
    assert after([Result.FAILURE, Result.FAILURE, Result.SUCCESS] * 4).phase is Phase.OPEN


def test_one_failure_in_four_does_not_open_it() -> None:
    assert after([Result.FAILURE, *[Result.SUCCESS] * 3] * 50).phase is Phase.CLOSED


def test_failures_of_messages_open_it_only_when_nearly_all_calls_end_so() -> None:
    mostly = [Result.MESSAGE_FAILURE] * 4 + [Result.SUCCESS]
    assert after(mostly * 20).phase is Phase.CLOSED
    assert after([Result.MESSAGE_FAILURE] * 10).phase is Phase.OPEN


def test_cancelled_calls_count_as_nothing() -> None:
    assert after([Result.CANCELLED] * 100) == Breaker()


def test_open_breaker_lets_one_probe_through_when_its_time_is_over() -> None:
    breaker = trip(Breaker(), POLICY, now_s=10.0)
    assert admit(breaker, now_s=10.9)[1] is None
    breaker, probe = admit(breaker, now_s=11.0)
    assert probe == Permit(breaker.era, probe=True)
    assert admit(breaker, now_s=500.0)[1] is None


def test_probe_that_succeeds_closes_it_and_one_that_fails_doubles_the_wait() -> None:
    breaker, probe = admit(trip(Breaker(), POLICY, now_s=0.0), now_s=1.0)
    assert probe is not None
    assert record(breaker, probe, Result.SUCCESS, POLICY, now_s=1.5).phase is Phase.CLOSED
    failed = record(breaker, probe, Result.FAILURE, POLICY, now_s=1.5)
    assert (failed.phase, failed.until_s) == (Phase.OPEN, 1.5 + 2.0)


@pytest.mark.parametrize("result", [Result.CANCELLED, Result.MESSAGE_FAILURE])
def test_probe_that_says_nothing_about_the_provider_lets_another_follow(result: Result) -> None:
    breaker, probe = admit(trip(Breaker(), POLICY, now_s=0.0), now_s=1.0)
    assert probe is not None
    breaker = record(breaker, probe, result, POLICY, now_s=1.1)
    assert breaker.phase is Phase.HALF_OPEN
    assert admit(breaker, now_s=1.2)[1] is not None


def test_probes_that_all_end_in_failures_of_messages_open_it_again() -> None:
    breaker, probes = trip(Breaker(), POLICY, now_s=0.0), 0
    while probes < 10:
        breaker, probe = admit(breaker, now_s=1.0)
        if probe is None:
            break
        probes += 1
        breaker = record(breaker, probe, Result.MESSAGE_FAILURE, POLICY, now_s=1.0)
    assert probes == POLICY.message_probes
    assert (breaker.phase, breaker.until_s) == (Phase.OPEN, 1.0 + 2.0)


def test_probe_that_succeeds_closes_it_whatever_messages_did_before() -> None:
    breaker, first = admit(trip(Breaker(), POLICY, now_s=0.0), now_s=1.0)
    assert first is not None
    breaker, second = admit(record(breaker, first, Result.MESSAGE_FAILURE, POLICY, now_s=1.0), now_s=1.0)
    assert second is not None
    assert record(breaker, second, Result.SUCCESS, POLICY, now_s=1.0).phase is Phase.CLOSED


def test_calls_without_an_answer_are_counted_since_the_last_success() -> None:
    bad = [Result.MESSAGE_FAILURE, Result.CANCELLED, Result.FAILURE]
    assert unanswered(Breaker()) == 0
    assert unanswered(after([*[Result.SUCCESS] * 5, *bad])) == 2
    assert unanswered(after([*bad, Result.SUCCESS])) == 0


def test_wait_between_probes_has_a_bound() -> None:
    breaker, now_s = Breaker(), 0.0
    for _ in range(40):
        breaker = trip(breaker, POLICY, now_s=now_s)
        assert breaker.until_s - now_s <= POLICY.most_open_s
        now_s = breaker.until_s


def test_what_several_replicas_find_out_at_once_is_one_trip() -> None:
    ours = trip(Breaker(), POLICY, now_s=0.0)
    both = trip_elsewhere(ours, POLICY, now_s=0.5, for_s=1.0)
    assert (both.trips, both.era, both.until_s) == (1, ours.era, 1.5)
    assert trip_elsewhere(both, POLICY, now_s=0.6, for_s=0.1).until_s == 1.5
    assert trip_elsewhere(both, POLICY, now_s=0.0, for_s=1e9).until_s == 3_600.0


def test_breaker_that_another_replica_opens_lets_a_probe_through_like_any_other() -> None:
    breaker = trip_elsewhere(Breaker(), POLICY, now_s=10.0, for_s=2.0)
    assert admit(breaker, now_s=11.9)[1] is None
    assert admit(breaker, now_s=12.0)[1] is not None


def test_what_the_upstream_asks_for_is_kept_to_within_an_hour() -> None:
    assert trip(Breaker(), POLICY, now_s=0.0, for_s=20.0).until_s == 20.0
    assert trip(Breaker(), POLICY, now_s=0.0, for_s=1e9).until_s == 3_600.0
    assert trip(Breaker(), POLICY, now_s=0.0, for_s=0.0).until_s == POLICY.open_s


def test_shorter_time_of_another_replica_does_not_cut_short_what_the_upstream_asked_for() -> None:
    opened = trip(Breaker(), POLICY, now_s=0.0, for_s=600.0)
    assert trip(opened, POLICY, now_s=1.0, for_s=5.0).until_s == 600.0
    assert trip(opened, POLICY, now_s=1.0, for_s=900.0).until_s == 901.0


def test_result_from_before_it_opened_moves_nothing() -> None:
    breaker, early = admit(Breaker(), now_s=0.0)
    assert early is not None
    opened = trip(breaker, POLICY, now_s=0.0)
    assert record(opened, early, Result.SUCCESS, POLICY, now_s=0.5) == opened


def test_parameters_that_a_model_does_not_take_open_it_only_when_nearly_all_calls_end_so() -> None:
    assert result_of(FailureKind.REJECTED) is Result.MESSAGE_FAILURE


def test_every_kind_of_failure_counts_in_one_way() -> None:
    assert {result_of(kind) for kind in FailureKind} == {Result.FAILURE, Result.MESSAGE_FAILURE}
    assert {kind for kind in FailureKind if opens_at_once(kind)} == {FailureKind.UNAUTHORIZED, FailureKind.RATE_LIMITED}


@given(st.lists(st.tuples(st.sampled_from(Result), st.floats(0.0, 3.0)), max_size=200))
def test_never_more_than_one_probe_and_never_a_call_while_open(steps: list[tuple[Result, float]]) -> None:
    breaker, now_s = Breaker(), 0.0
    under_way: list[Permit] = []
    for result, passes_s in steps:
        now_s += passes_s
        before = breaker
        breaker, permit = admit(breaker, now_s=now_s)
        if before.phase is Phase.OPEN and now_s < before.until_s:
            assert permit is None
        if permit is not None:
            under_way.append(permit)
        assert sum(one.probe and one.era == breaker.era for one in under_way) <= 1
        if len(under_way) > 2:
            breaker = record(breaker, under_way.pop(0), result, POLICY, now_s=now_s)
        assert len(breaker.results) <= POLICY.window


def test_policy_may_be_stricter() -> None:
    assert after([Result.FAILURE], policy=replace(POLICY, consecutive=1)).phase is Phase.OPEN

"""When to try again, and when no more."""

import pytest

from firstline.core.backoff import MAX_RETRY_AFTER_S, RETRY_DELAYS_S, next_delay_s


def test_the_waits_add_up_to_about_28_hours() -> None:
    assert sum(RETRY_DELAYS_S) == pytest.approx(28 * 3_600, rel=0.02)


def test_after_the_last_wait_there_is_no_further_attempt() -> None:
    waits = [next_delay_s(failures, random=0.5) for failures in range(1, len(RETRY_DELAYS_S) + 2)]
    assert waits == [*RETRY_DELAYS_S, None]


def test_what_the_other_side_asks_for_lengthens_a_wait_and_never_shortens_it() -> None:
    assert next_delay_s(1, random=0.5, retry_after_s=60) == 60
    assert next_delay_s(2, random=0.5, retry_after_s=60) == 300
    assert next_delay_s(1, random=0.5, retry_after_s=10**9) == MAX_RETRY_AFTER_S
    assert next_delay_s(1, random=0.5, retry_after_s=-5) == 5


def test_nothing_has_failed_yet_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next_delay_s(0, random=0.5)

"""Processes that share work: order, deaths, limits."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from firstline.adapters.worker_pool import AHEAD, MAX_LOST, Alone, Processes
from firstline.ports.bulk import Workers, WorkersLost

FORK = pytest.param("fork", marks=pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone"))


def double(number: int) -> int:
    return 2 * number


def die_on(deadly: tuple[int, ...], marks: Path, number: int) -> int:
    """Die on certain numbers; leave a mark for every one that was begun."""
    with (marks / str(number)).open("a") as mark:
        mark.write("x")
    if number in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def die_once(marks: Path, number: int) -> int:
    mark = marks / str(number)
    if number % 3 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def fail(number: int) -> int:
    raise ValueError("secret words of a message")


def lost(number: int) -> int:
    return -1


def results(workers: Workers, work: Callable[[int], int], count: int) -> list[tuple[int, int]]:
    return list(workers.map(work, range(count), lost=lost))


@pytest.mark.parametrize("method", [FORK, "spawn"])
def test_results_come_in_the_order_of_the_things(method: str) -> None:
    expected = [(number, 2 * number) for number in range(40)]
    assert results(Processes(3, method=method), double, 40) == expected
    assert results(Alone(), double, 40) == expected
    assert results(Processes(3, method=method), double, 0) == []


def test_what_a_process_died_on_is_done_again(tmp_path: Path) -> None:
    assert results(Processes(3), partial(die_once, tmp_path), 12) == [(number, 2 * number) for number in range(12)]


def test_what_processes_died_on_twice_is_lost_alone(tmp_path: Path) -> None:
    found = results(Processes(2), partial(die_on, (3, 7), tmp_path), 12)
    assert found == [(number, -1 if number in {3, 7} else 2 * number) for number in range(12)]
    assert (tmp_path / "3").read_text() == "xx"


def test_a_run_on_which_every_process_dies_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(WorkersLost, match="SIGKILL"):
        results(Processes(2), partial(die_on, tuple(range(MAX_LOST + 9)), tmp_path), MAX_LOST + 9)


def test_an_error_in_a_process_is_raised_here_without_its_words() -> None:
    with pytest.raises(RuntimeError, match="ValueError") as caught:
        results(Processes(2), fail, 3)
    assert "secret" not in str(caught.value)


def test_things_are_fetched_only_a_few_ahead() -> None:
    fetched = 0

    def things() -> Iterator[int]:
        nonlocal fetched
        while fetched < 1_000:
            fetched += 1
            yield fetched - 1

    for number, (thing, _) in enumerate(Processes(2).map(double, things(), lost=lost)):
        assert thing == number
        assert fetched <= number + 2 * AHEAD
        if number == 50:
            break


def test_no_process_is_left_when_the_results_are_not_wanted_any_more() -> None:
    for _ in Processes(3).map(double, range(1_000), lost=lost):
        break
    assert multiprocessing.active_children() == []

"""The load: what it sends, when, and what a soak is judged by."""

import json
from random import Random

import pytest
from load.connections import Address
from load.messages import read_messages
from load.mix import Manner, Mix
from load.report import Run, checks, figures
from load.schedule import moments
from load.traffic import Minute
from load.usage import Usage

MINUTES = 12
MIX = {"host": "127.0.0.1:8000", "classifier_keys": ("atc_a",), "decision_keys": ("sk_live_b",)}


def run_of(
    *, memory: float = 1.0, latency: float = 1.0, descriptors: float = 20.0, wrong: int = 0, minutes: int = MINUTES
) -> Run:
    """A run whose last five minutes differ from the others."""
    found, usage = [], []
    for minute in range(minutes):
        last = minute >= minutes - 5
        seen = Minute(latencies={"classify": [0.01 * (latency if last else 1.0)] * 100})
        seen.statuses["classify", 200] = 100
        found.append(seen)
        for second in (0, 30):
            used = 200e6 * (memory if last else 1.0)
            usage.append(Usage(minute * 60 + second, used, descriptors if last else 20.0, minute))
    if wrong:
        found[-1].wrong["classify", "500"] = wrong
    return Run(found, usage, minutes * 60.0)


def names_that_fail(run: Run) -> list[str]:
    return [check.name for check in checks(run) if not check.holds]


def test_flat_run_holds() -> None:
    assert names_that_fail(run_of()) == []


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (run_of(memory=1.04), "memory, MB"),
        (run_of(latency=1.25), "p99 of verdicts, ms"),
        (run_of(descriptors=21), "descriptors"),
        (run_of(wrong=1), "answers that are wrong"),
    ],
    ids=["memory", "latency", "descriptors", "answers"],
)
def test_growth_is_told_by_its_name(run: Run, name: str) -> None:
    assert names_that_fail(run) == [name]


def test_growth_within_the_bounds_holds() -> None:
    assert names_that_fail(run_of(memory=1.02, latency=1.15)) == []


def test_soak_that_is_too_short_to_judge_says_so() -> None:
    with pytest.raises(ValueError, match="at least 12 minutes"):
        checks(run_of(minutes=5))


def test_soak_without_metrics_says_so() -> None:
    run = run_of()
    with pytest.raises(ValueError, match="metrics"):
        checks(Run(run.minutes, (), run.seconds))


def test_figures_are_json_with_a_row_for_each_minute() -> None:
    told = json.loads(json.dumps(figures(run_of())))
    assert len(told["minutes"]) == MINUTES
    assert told["minutes"][0] == {
        "requests": 100, "p50_ms": 10.0, "p99_ms": 10.0, "memory_mb": 200.0, "descriptors": 20.0,
    }  # fmt: skip


def test_messages_are_of_all_lengths_within_the_bounds_and_differ() -> None:
    messages, draw = read_messages(), Random(3)
    drawn = [messages.one(draw) for _ in range(3_000)]
    assert len(set(drawn)) == len(drawn)
    lengths = sorted(len(text) for text in drawn)
    assert lengths[0] >= 3
    assert lengths[0] < 40
    assert lengths[-1] > 2_000
    assert lengths[-1] <= 5_000


def test_mix_holds_every_kind_and_repeats_with_its_seed() -> None:
    messages = read_messages()
    first, second = (Mix(messages, seed=7, **MIX) for _ in range(2))
    drawn = [first.next() for _ in range(2_000)]
    assert [second.next() for _ in range(2_000)] == drawn
    assert {request.kind for request in drawn} == {"classify", "decision", "batch", "read", "mistake", "gone", "half"}
    assert {request.manner for request in drawn} == set(Manner)


def test_rate_of_the_moments_is_the_one_asked_for_with_its_bursts() -> None:
    sent = list(moments(rate=50, seconds=600, seed=2))
    assert sent == sorted(sent)
    in_bursts = [at for at in sent if at % 20 >= 19]
    calm = len(sent) - len(in_bursts)
    assert calm == pytest.approx(50 * 600 * 19 / 20, rel=0.05)
    assert len(in_bursts) == pytest.approx(4 * 50 * 600 / 20, rel=0.1)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://example.com", "http://", "http://example.com/path"])
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        Address.of(url)

"""What a caller may say of its trace, and what it decides."""

import pytest

from firstline.adapters.tracing.sampling import Sampler, caller_of, sampler_named
from firstline.ports.tracing import Ids

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = caller_of(f"00-{TRACE}-{SPAN}-01")
UNSAMPLED = caller_of(f"00-{TRACE}-{SPAN}-00")


@pytest.mark.parametrize(
    ("traceparent", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-of.a.later.version", True),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(traceparent: str, sampled: bool) -> None:
    caller = caller_of(traceparent)
    assert caller is not None
    assert (caller.ids, caller.sampled) == (Ids(TRACE, SPAN), sampled)


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01\n",
        f"0-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'٣' * 32}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 500,
    ],
)
def test_what_is_no_traceparent_is_none(traceparent: str | None) -> None:
    assert caller_of(traceparent) is None


def drawn(name: str, draw: float, *, trusts_caller: bool = False) -> Sampler:
    named = sampler_named(name, ratio=0.1, trusts_caller=trusts_caller)
    return Sampler(named.ratio, named.heeds_caller, named.trusts_caller, draw=lambda: draw)


@pytest.mark.parametrize(
    ("name", "draw", "alone", "with_sampled", "with_unsampled"),
    [
        ("always_on", 0.999, True, True, True),
        ("always_off", 0.0, False, False, False),
        ("traceidratio", 0.09, True, True, True),
        ("traceidratio", 0.1, False, False, False),
        ("parentbased_always_on", 0.999, True, True, False),
        ("parentbased_always_off", 0.0, False, False, False),
        ("parentbased_traceidratio", 0.09, True, True, False),
        ("parentbased_traceidratio", 0.1, False, False, False),
    ],
)
def test_each_sampler_decides_by_its_own_draw(
    name: str, draw: float, alone: bool, with_sampled: bool, with_unsampled: bool
) -> None:
    sampler = drawn(name, draw)
    assert [sampler.samples(caller) for caller in (None, SAMPLED, UNSAMPLED)] == [alone, with_sampled, with_unsampled]


@pytest.mark.parametrize("name", ["parentbased_always_off", "parentbased_traceidratio"])
def test_a_trusted_caller_has_its_requests_traced(name: str) -> None:
    assert drawn(name, 0.5, trusts_caller=True).samples(SAMPLED)
    assert not drawn(name, 0.0, trusts_caller=True).samples(UNSAMPLED)


@pytest.mark.parametrize("name", ["always_off", "traceidratio"])
def test_a_sampler_without_parent_follows_no_caller_however_trusted(name: str) -> None:
    assert not drawn(name, 0.5, trusts_caller=True).samples(SAMPLED)

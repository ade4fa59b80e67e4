"""Redaction by itself, in this process: usual texts, and texts written to be slow."""

from collections.abc import Callable
from functools import partial
from time import perf_counter_ns

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cores import Cores
from firstline.core.redaction import Redactor, find, prepare

_REST = (
    "We have tried it in two browsers and on another computer, always with the same result. Could you please look "
    "into it soon, because our accountant needs the figures before the end of the week and we cannot work like this? "
    "Thanks a lot for your help and best regards from all of us here in the office, and a very good day to you."
)
_USUAL = {
    "no digit": "Since the last update the monthly report stops after a few seconds. " + _REST,
    "an order, a date, an amount": "Order 12345678 of 12.05.2024 came without the 3 cables, we paid $1,299.00. "
    + _REST,
    "one e-mail address": "Please write to anna.schmidt@example.com instead. " + _REST,
    "one telephone number": "You can call me on 0171 2345678 all day. " + _REST,
    "four kinds": "Write to anna@example.com or call +49 170 1234567, card 4111 1111 1111 1111, IBAN DE89 3704 0044 "
    "0532 0130 00. " + _REST,
}
_HOSTILE = (
    "1 ", "4 ", "7", "a.", "a@", "AA11 ", "DE89 ", "+49 ", "+4917012345678 ", "030 1234567 ", "44051401359 ",
    "password ", "password: ", "ssn 123456789 ", "?token=", "://a:", "1.1.1.1 ", "a:b:", ":", "a (at) b (dot) ",
    "[EMAIL_1]", "\u200b1",
)  # fmt: skip


def run(console: Console, cores: Cores, quick: bool) -> None:
    """Print microseconds per usual text of 300 characters and milliseconds per hostile one."""
    prepare()
    rounds = 200 if quick else 2_000
    table = Table(title="Redaction, 300 characters, best of 7 (goal 60 µs)")
    for heading in ("text", "find µs", "mask µs"):
        table.add_column(heading, justify="left" if heading == "text" else "right")
    for name, text in _USUAL.items():
        short = text[:300]
        finding = _best(partial(find, short), rounds)
        table.add_row(name, f"{finding:.1f}", f"{_best(partial(_mask, short), rounds):.1f}")
    console.print(table)
    table = Table(title="Redaction, one text repeated (linear: ratio near 10)")
    for heading in ("repeated", "5,000 characters ms", "50,000 characters ms", "ratio"):
        table.add_column(heading, justify="left" if heading == "repeated" else "right")
    for piece in _HOSTILE:
        short, long = (_best(partial(find, _filled(piece, size)), 1) / 1_000 for size in (5_000, 50_000))
        table.add_row(Text(ascii(piece)), f"{short:.2f}", f"{long:.1f}", f"{long / short:.1f}")
    console.print(table)


def _mask(text: str) -> str:
    return Redactor().mask(text)


def _filled(piece: str, size: int) -> str:
    return (piece * (size // len(piece) + 1))[:size]


def _best(work: Callable[[], object], rounds: int) -> float:
    """Microseconds a call, the best of seven repetitions."""
    work()
    best = float("inf")
    for _ in range(7):
        began = perf_counter_ns()
        for _ in range(rounds):
            work()
        best = min(best, (perf_counter_ns() - began) / rounds / 1_000)
    return best

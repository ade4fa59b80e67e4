"""What is said while a large file is worked on: how far, how fast, how long still, which rows failed, and a summary."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from firstline.delivery.cli.terminal import counted, printable, say
from firstline.delivery.cli.triage import MAX_SAID
from firstline.ports.bulk import Chunk, Columns
from firstline.usecases.bulk import Tally

_LINE_S: Final = 10.0
"""Between two lines where standard error is no terminal."""

_REDRAW_S: Final = 0.2


class Said:
    """Told of every chunk; says what is worth saying on standard error."""

    def __init__(self, name: str, committed: Sequence[Mapping[str, Any]], *, shown: bool) -> None:
        """Args:
        name: of the input.
        committed: notes of the parts that earlier runs have completed.
        shown: whether progress is said at all.
        """
        self._name = name
        self._shown = shown
        self._on_screen = sys.stderr.isatty()
        self._before = sum(notes["rows"] for notes in committed)
        self._share_before: float | None = None
        self._began = self._last = time.monotonic()
        self._problems = 0
        if self._before:
            say(f"Going on behind {counted(self._before, 'row')} that are done.")

    def __enter__(self) -> "Said":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def __call__(self, chunk: Chunk, columns: Columns, tally: Tally) -> None:
        """See `usecases.bulk.decide_file`."""
        if columns["error"].count(None) < len(columns["error"]):
            self._say_problems(columns)
        now = time.monotonic()
        if self._share_before is None and chunk.share is not None:
            # The first chunk of a run that goes on says how much was read before it.
            done = self._before + len(chunk.items)
            self._share_before = chunk.share * self._before / done
        if self._shown and now - self._last >= (_REDRAW_S if self._on_screen else _LINE_S):
            self._last = now
            self._say(self._line(chunk, tally, seconds=now - self._began))

    def end(self) -> None:
        """Leave the screen clean."""
        if self._shown and self._on_screen:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def summary(self, tally: Tally, *, out: Path, processes: int) -> None:
        """Say what has been done."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        rate = (tally.rows - self._before) / seconds
        how = "1 process" if processes == 1 else f"{processes} processes"
        parts = [f"{counted(tally.rows, 'row')} in {seconds:.1f} s, {rate:,.0f} rows/s, {how}"]
        if tally.failed:
            parts.append(f"{tally.failed:,} failed")
        if tally.reviews:
            parts.append(f"{tally.reviews:,} for review")
        parts += [f"{printable(kind)} {count:,}" for kind, count in tally.kinds.most_common()]
        say(f"{printable(str(out))}: {' · '.join(parts)}")

    def _line(self, chunk: Chunk, tally: Tally, *, seconds: float) -> str:
        parts = [counted(tally.rows, "row"), f"{(tally.rows - self._before) / max(seconds, 1e-3):,.0f} rows/s"]
        if chunk.share is not None:
            parts.append(f"{chunk.share:.0%}")
            gained = chunk.share - (self._share_before or 0.0)
            if gained > 0:
                parts.append(f"{_duration(seconds * (1 - chunk.share) / gained)} left")
        return " · ".join(parts)

    def _say(self, line: str) -> None:
        if self._on_screen:
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
        else:
            say(line)

    def _say_problems(self, columns: Columns) -> None:
        for number, problem in zip(columns["row"], columns["error"], strict=True):
            if problem is None or self._problems > MAX_SAID:
                continue
            self._problems += 1
            self.end()
            if self._problems <= MAX_SAID:
                say(f"{self._name}: row {number}: {printable(problem)}")
            else:
                say("Further problems are in the output alone.")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

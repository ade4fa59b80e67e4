"""`firstline classify` and `firstline decide`: rows in, verdicts out, chunk by chunk; nothing is stored."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.system import SystemClock, SystemIdentities
from firstline.bootstrap import build_engine
from firstline.core.message import Message
from firstline.core.taxonomy import Channel, Contract, UserPlan
from firstline.delivery.cli.formats import Format, Output
from firstline.delivery.cli.results import Outcome, Tally, open_results
from firstline.delivery.cli.rows import Lines, Readable, Row, RowInvalid, guess_format, message_of, read_rows
from firstline.delivery.cli.terminal import FOUND_WRONG, Mistake, counted, messages, output, printable, say
from firstline.settings import Settings, load_settings
from firstline.usecases.records import Keeping
from firstline.usecases.tickets import Triage

CHUNK_ROWS: Final = 256
CHUNK_CHARACTERS: Final = 200_000
MAX_SAID: Final = 20
"""Problems said on standard error; the output has them all."""

TABLE_IS_NO_FILE: Final = "A table is for the terminal; with --out, use --output jsonl or csv."

SUFFIXES: Final = {
    ".txt": Format.TXT,
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}


@dataclass(frozen=True, slots=True)
class Task:
    """What the command line asks for.

    Attributes:
        file: a path, or `-` for standard input.
        delimiter: between the columns of CSV; None for the sign that is most often in the header.
        plan, channel: of rows that have none of their own.
    """

    file: str
    contract: Contract
    format: Format | None = None
    column: str | None = None
    delimiter: str | None = None
    output: Output | None = None
    out: Path | None = None
    rules_dir: Path | None = None
    plan: UserPlan = UserPlan.FREE
    channel: Channel = Channel.EMAIL


def triage_file(task: Task) -> int:
    """Decide on every row of a file; 1 when any row failed, else 0.

    Raises: Mistake, SettingsInvalid, CannotStart.
    """
    with ExitStack() as opened:
        source, size = _open_source(task, opened)
        lines = Lines(source)
        format = (  # noqa: A001  # as the flag
            task.format or format_of(task.file) or guess_format(lines, column=task.column, delimiter=task.delimiter)
        )
        if format is Format.PARQUET:
            raise Mistake(
                "Parquet needs a file to answer in: firstline classify tickets.parquet --out verdicts.parquet"
            )
        triage = build_triage(load_settings(rules_dir=task.rules_dir))
        kind, stream = _open_output(task, opened)
        on_screen = task.out is None and sys.stdout.isatty()
        results = open_results(kind, contract=task.contract, stream=stream, console=output())
        tally = Tally(task.contract)
        progress = opened.enter_context(_progress(shown=sys.stderr.isatty() and not on_screen))
        bar = progress.add_task("Rows", total=size)
        started = time.monotonic()
        for outcomes in decide_rows(triage, lines, task, format=format):
            results.write(outcomes)
            if kind is not Output.TABLE:
                _say_problems(outcomes, task, already=tally.failed, progress=progress)
            tally.add(outcomes)
            progress.update(bar, completed=lines.bytes_read, description=counted(tally.decided + tally.failed, "row"))
        results.write(())
    _say_summary(tally, seconds=time.monotonic() - started, table=kind is Output.TABLE)
    return FOUND_WRONG if tally.failed else 0


def build_triage(settings: Settings) -> Triage:
    """A triage that stores nothing.

    Raises: CannotStart.
    """
    engine = build_engine(settings)
    return Triage(
        journal=MemoryStore(),
        classifier=engine.classifier,
        rules=engine.book,
        policy=engine.policy,
        clock=SystemClock(),
        identities=SystemIdentities(),
        keeping=Keeping(history=False, text=False),
    )


def decide_rows(
    triage: Triage,
    lines: Lines,
    task: Task,
    *,
    format: Format,  # noqa: A002  # as the flag
) -> Iterator[list[Outcome]]:
    """The outcomes of all rows in order, as many at once as have been read, up to a chunk."""
    rows: list[Row] = []
    characters = 0
    for row in read_rows(lines, format=format, column=task.column, delimiter=task.delimiter):
        rows.append(row)
        characters += len(row.text or "")
        if lines.drained or len(rows) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield _decide(triage, rows, task)
            rows, characters = [], 0
    if rows:
        yield _decide(triage, rows, task)


def _decide(triage: Triage, rows: list[Row], task: Task) -> list[Outcome]:
    wanted: list[Message] = []
    found: list[Message | str] = []
    for row in rows:
        try:
            message = message_of(row, contract=task.contract, plan=task.plan, channel=task.channel)
        except RowInvalid as error:
            found.append(str(error))
        else:
            wanted.append(message)
            found.append(message)
    verdicts = iter(triage.decide_each(wanted))
    outcomes = []
    for row, message_or_problem in zip(rows, found, strict=True):
        if isinstance(message_or_problem, str):
            outcomes.append(Outcome(row.line, row.text, None, message_or_problem))
            continue
        verdict = next(verdicts)
        problem = None if verdict else "firstline failed on this message; please report it as a bug"
        outcomes.append(Outcome(row.line, message_or_problem.text, verdict, problem))
    return outcomes


def format_of(file: str) -> Format | None:
    """The format that a file's name says it has."""
    return SUFFIXES.get(Path(file).suffix.lower())


def _open_source(task: Task, opened: ExitStack) -> tuple[Readable, int | None]:
    """The input and its size in bytes, if it is known."""
    if task.file == "-":
        if sys.stdin is None:
            raise Mistake("Standard input is closed.")
        if sys.stdin.isatty():
            say("Reading messages from the terminal, one per line; Ctrl-D ends.")
        return cast(Readable, sys.stdin.buffer), None
    path = Path(task.file)
    try:
        stream = opened.enter_context(path.open("rb"))
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise Mistake(f"{printable(task.file)} cannot be read: {error.strerror}.") from None
    return stream, size


def _open_output(task: Task, opened: ExitStack) -> tuple[Output, BinaryIO]:
    if task.out is None:
        kind = task.output or (Output.TABLE if sys.stdout.isatty() else Output.JSONL)
        return kind, cast(BinaryIO, sys.stdout.buffer)
    if task.output is Output.TABLE:
        raise Mistake(TABLE_IS_NO_FILE)
    try:
        if task.file != "-" and task.out.exists() and task.out.samefile(task.file):
            raise Mistake("--out is the input file itself; name another.")
        stream = opened.enter_context(task.out.open("wb"))
    except OSError as error:
        raise Mistake(f"{printable(str(task.out))} cannot be written: {error.strerror}.") from None
    return task.output or (Output.CSV if task.out.suffix.lower() == ".csv" else Output.JSONL), stream


def _progress(*, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=messages(),
        transient=True,
        disable=not shown,
    )


def _say_problems(outcomes: list[Outcome], task: Task, *, already: int, progress: Progress) -> None:
    name = "standard input" if task.file == "-" else printable(task.file)
    for outcome in outcomes:
        if outcome.verdict is not None:
            continue
        already += 1
        if already <= MAX_SAID:
            progress.console.print(f"{name}:{outcome.line}: {outcome.problem}", markup=False, soft_wrap=True)
        elif already == MAX_SAID + 1:
            progress.console.print("Further problems are in the output alone.", markup=False)


def _say_summary(tally: Tally, *, seconds: float, table: bool) -> None:
    if not (sys.stderr.isatty() or tally.failed):
        return
    total = tally.decided + tally.failed
    parts = [f"{counted(total, 'row')} in {seconds:.1f} s"]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    if tally.reviews:
        parts.append(f"{tally.reviews:,} for review")
    parts += [f"{printable(kind)} {count:,}" for kind, count in tally.kinds.most_common()]
    if table and total:
        say()
    messages().print(" · ".join(parts), markup=False, soft_wrap=not sys.stderr.isatty())

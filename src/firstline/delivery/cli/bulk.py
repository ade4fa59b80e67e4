"""`firstline classify FILE --out FILE`: large files, on all cores, resumable; nothing is stored."""

import errno
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from firstline import __version__
from firstline.adapters.bulk_output import SUFFIX, OutputRefused, PartFolder, PartWriter
from firstline.adapters.bulk_text import CsvParts, JsonLinesParts
from firstline.adapters.parquet_files import MAGIC, ParquetParts, ParquetReader, ParquetUnusable
from firstline.adapters.parquet_set import ParquetSet, find_files
from firstline.adapters.ray_pool import RayTasks, RayUnusable
from firstline.adapters.worker_pool import Alone, Processes
from firstline.core.message import Message
from firstline.core.taxonomy import Contract
from firstline.delivery.cli.bulk_progress import Said
from firstline.delivery.cli.formats import Format, Output
from firstline.delivery.cli.options import Engine
from firstline.delivery.cli.rows import (
    TEXT_COLUMNS,
    Lines,
    Row,
    RowInvalid,
    guess_format,
    message_of,
    read_rows,
)
from firstline.delivery.cli.terminal import FOUND_WRONG, Mistake, printable, say
from firstline.delivery.cli.triage import TABLE_IS_NO_FILE, Task, build_triage, format_of
from firstline.ports.bulk import Chunk, Columns, Item, WorkersLost
from firstline.settings import Settings, load_settings
from firstline.usecases.bulk import (
    CHUNK_CHARACTERS,
    CHUNK_ROWS,
    PART_CHUNKS,
    ChunkDecider,
    columns_of,
    decide_file,
)
from firstline.usecases.tickets import Triage

WRITER_FIELDS: Final = ("user_plan", "channel", "history")
"""What rows may say about who wrote them; read under the decision contract."""

_OUTPUTS: Final = {
    ".csv": Output.CSV,
    ".jsonl": Output.JSONL,
    ".ndjson": Output.JSONL,
    ".json": Output.JSONL,
    ".parquet": Output.PARQUET,
    ".pq": Output.PARQUET,
}
_SENT: Final = ("model_file", "rules_dir", "low_confidence_threshold", "review_probability")
"""Settings that what decides is made of."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_HEAD_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """How a large file is worked on.

    Attributes:
        processes: that decide; None for one per core.
        keep: columns of the input that the output has too.
        resume: go on where an unfinished run is complete.
        force: replace the output.
        progress: say how far it is even where standard error is no terminal.
        engine: who decides.
    """

    processes: int | None = None
    keep: tuple[str, ...] = ()
    resume: bool = False
    force: bool = False
    progress: bool = False
    engine: Engine = Engine.LOCAL


def is_bulk(task: Task) -> bool:
    """Whether a task is one for the bulk path: a file that is answered in a file."""
    return task.file != "-" and task.out is not None and not Path(task.file).is_fifo()


def triage_bulk(task: Task, options: BulkOptions) -> int:
    """Decide on every row of a file, into a file; 1 when any row failed, else 0.

    Raises: Mistake, SettingsInvalid, CannotStart.
    """
    assert task.out is not None
    kind = _kind_of(task)
    _check_paths(task, options)
    decide = RowDecider(load_settings(rules_dir=task.rules_dir), task)
    with ExitStack() as opened:
        try:
            source, kept_schema = _open_source(task, options, opened, plain=kind is not Output.PARQUET)
            triage = decide.load()
            writer = _writer(kind, task.contract, options.keep, kept_schema)
            run = _run_of(task, options, triage, kind)
            workers = _workers(options, opened)
            output = PartFolder(task.out, writer=writer, run=run, resume=options.resume, force=options.force)
            opened.callback(output.close)
            said = opened.enter_context(
                Said(printable(task.file), output.committed, shown=options.progress or sys.stderr.isatty())
            )
            tally = decide_file(
                source,
                output=output,
                workers=workers,
                decide=decide,
                contract=task.contract,
                told=said,
            )
        except (OutputRefused, ParquetUnusable, RayUnusable) as error:
            raise Mistake(str(error)) from None
        except WorkersLost as error:
            words = str(error)
            hint = " Fewer --processes need less memory." if options.engine is Engine.LOCAL else ""
            raise Mistake(f"{words[0].upper()}{words[1:]}. {_go_on(task)}{hint}") from None
        except OSError as error:
            raise Mistake(_unwritable(task, error)) from None
        except KeyboardInterrupt:
            said.end()
            say(f"Stopped. {_go_on(task)}")
            raise
    said.summary(tally, out=task.out, processes=workers.count)
    return FOUND_WRONG if tally.failed else 0


class RowDecider:
    """Decides on the items of a chunk; loads model and rules where it is, when they are first needed.

    It can be sent to another process or machine: what has been loaded stays behind, and is loaded there. Only the
    settings of model and rules go with it, and no secret.
    """

    def __init__(self, settings: Settings, task: Task) -> None:
        self._settings = settings
        self._task = task
        self._decide: ChunkDecider | None = None
        self._loaded: tuple[str, ...] | None = None

    def __call__(self, items: Sequence[Item]) -> Columns:
        """See `usecases.bulk.ChunkDecider`."""
        if self._decide is None:
            self.load()
        assert self._decide is not None
        return self._decide(items)

    def __getstate__(self) -> dict[str, Any]:
        sent = {name: getattr(self._settings, name) for name in _SENT}
        paths = {name: path.absolute() for name, path in sent.items() if isinstance(path, Path)}
        settings = Settings.model_construct(**{**sent, **paths})
        return {"_settings": settings, "_task": self._task, "_decide": None, "_loaded": self._loaded}

    def load(self) -> Triage:
        """Load model and rules.

        Raises: CannotStart; WorkersLost when they are not those of the process that this was sent from.
        """
        triage = build_triage(self._settings)
        loaded = (__version__, triage.model, triage.rules.content_hash, triage.policy.content_hash)
        if self._loaded not in {None, loaded}:
            raise WorkersLost("another machine has another version, model or rules; it needs the same files")
        self._loaded = loaded
        self._decide = ChunkDecider(triage, contract=self._task.contract, message_of=self._message_of)
        return triage

    def _message_of(self, item: Item) -> Message | str:
        problem = item.problem
        if problem is None and item.text is not None and not isinstance(item.text, str):
            problem = f"the text must be a text, not {type(item.text).__name__}"
        text = item.text if isinstance(item.text, str) else None
        row = Row(0, text, item.fields or {}, problem)
        task = self._task
        try:
            return message_of(row, contract=task.contract, plan=task.plan, channel=task.channel)
        except RowInvalid as error:
            return str(error)


def _kind_of(task: Task) -> Output:
    assert task.out is not None
    if task.output is Output.TABLE:
        raise Mistake(TABLE_IS_NO_FILE)
    kind = task.output or _OUTPUTS.get(task.out.suffix.lower())
    if kind is None:
        raise Mistake(
            f"{printable(str(task.out))} does not say its format; name it .parquet, .csv or .jsonl, or use --output."
        )
    return kind


def _check_paths(task: Task, options: BulkOptions) -> None:
    assert task.out is not None
    taken = [name for name in options.keep if name in columns_of(task.contract)]
    if taken:
        raise Mistake(f"--keep {taken[0]}: the output has a column of that name already.")
    if task.out.is_dir():
        raise Mistake(f"{printable(str(task.out))} is a folder; name a file.")
    if task.out.exists() and Path(task.file).exists() and task.out.samefile(task.file):
        raise Mistake("--out is the input file itself; name another.")


def _open_source(task: Task, options: BulkOptions, opened: ExitStack, *, plain: bool) -> tuple[Iterator[Chunk], Any]:
    """The chunks of the input, and the types of its kept columns where they have any."""
    path = Path(task.file)
    found = find_files(task.file)
    if found is not None:
        return _open_set(found, task, options, plain=plain)
    try:
        stream = opened.enter_context(path.open("rb"))
        size = path.stat().st_size
        head = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    except OSError as error:
        raise Mistake(f"{printable(task.file)} cannot be read: {error.strerror}.") from None
    format = task.format or format_of(task.file)  # noqa: A001  # as the flag
    if format is None and head.startswith(MAGIC):
        format = Format.PARQUET  # noqa: A001  # as the flag
    fields = WRITER_FIELDS if task.contract is Contract.DECISION else ()
    if format is Format.PARQUET:
        reader = ParquetReader(path, column=task.column, columns=TEXT_COLUMNS, fields=fields, keep=options.keep)
        return reader.chunks(rows=CHUNK_ROWS, plain=plain), None if plain else reader.schema
    if format is None and b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Mistake(f"{printable(task.file)} has an unknown format; firstline reads parquet, csv, jsonl and txt.")
    lines = Lines(stream)
    format = format or guess_format(lines, column=task.column, delimiter=task.delimiter)  # noqa: A001  # as the flag
    if options.keep and format is Format.TXT:
        raise Mistake("--keep needs columns; a txt file has none.")
    rows = read_rows(lines, format=format, column=task.column, delimiter=task.delimiter, keep=options.keep)
    names = {name: name.casefold() if format is Format.CSV else name for name in options.keep}
    chunks = _chunks(rows, lines, task, size=size, fields=fields, keep=names)
    first = list(islice(chunks, 1))  # a missing column is said before anything else is done
    return chain(first, chunks), None


def _open_set(found: list[Path], task: Task, options: BulkOptions, *, plain: bool) -> tuple[Iterator[Chunk], Any]:
    """The chunks of a data set, and the types of its kept columns."""
    assert task.out is not None
    if task.format not in {None, Format.PARQUET}:
        raise Mistake("A folder or a pattern is read as Parquet; other formats are read a file at a time.")
    if not found:
        raise Mistake(f"{printable(task.file)} has no Parquet files.")
    folders = {path.parent.resolve() for path in found}
    if _OUTPUTS.get(task.out.suffix.lower()) is Output.PARQUET and task.out.parent.resolve() in folders:
        raise Mistake("--out lies among the files of the input; name another folder.")
    fields = WRITER_FIELDS if task.contract is Contract.DECISION else ()
    reader = ParquetSet(found, column=task.column, columns=TEXT_COLUMNS, fields=fields, keep=options.keep)
    return reader.chunks(rows=CHUNK_ROWS, plain=plain), None if plain else reader.schema


def _chunks(
    rows: Iterator[Row], lines: Lines, task: Task, *, size: int, fields: Sequence[str], keep: Mapping[str, str]
) -> Iterator[Chunk]:
    """Chunks of rows that are read line by line.

    Args:
        size: of the input, in bytes.
        keep: kept columns, and what each is called in `Row.fields`.
    """
    items: list[Item] = []
    kept: dict[str, list[Any]] = {name: [] for name in keep}
    number = first = characters = 0

    def chunk() -> Chunk:
        return Chunk(number, first + 1, items, kept, min(lines.bytes_read / max(size, 1), 1.0))

    try:
        for row in rows:
            own = {name: row.fields[name] for name in fields if name in row.fields}
            items.append(Item(row.text, own or None, row.problem))
            for name, called in keep.items():
                kept[name].append(row.fields.get(called))
            characters += len(row.text or "")
            if len(items) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
                yield chunk()
                number, first, characters = number + 1, first + len(items), 0
                items, kept = [], {name: [] for name in keep}
    except OSError as error:
        raise Mistake(f"{printable(task.file)} cannot be read: {error.strerror}.") from None
    if items:
        yield chunk()


def _writer(kind: Output, contract: Contract, keep: Sequence[str], kept_schema: Any) -> PartWriter:
    names = columns_of(contract)
    if kind is Output.PARQUET:
        return ParquetParts(names, keep=keep, kept_schema=kept_schema)
    return CsvParts(names, keep=keep) if kind is Output.CSV else JsonLinesParts(names, keep=keep)


def _run_of(task: Task, options: BulkOptions, triage: Triage, kind: Output) -> dict[str, Any]:
    """What a run is; one with any other member cannot go on with it. The names are said to people."""
    digests = [_digest(path) for path in find_files(task.file) or [Path(task.file)]]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {
        "input": digest,
        "model": triage.model,
        "rules": triage.rules.content_hash,
        "policy": triage.policy.content_hash,
        "command": task.contract,
        "--format": task.format,
        "--column": task.column,
        "--delimiter": task.delimiter,
        "--output": kind,
        "--keep": options.keep,
        "--plan": task.plan,
        "--channel": task.channel,
        "size of parts": [CHUNK_ROWS, CHUNK_CHARACTERS, PART_CHUNKS],
    }


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Mistake(f"{printable(str(path))} cannot be read: {error.strerror}.") from None


def _workers(options: BulkOptions, opened: ExitStack) -> Alone | Processes | RayTasks:
    if options.engine is Engine.RAY:
        return opened.enter_context(RayTasks(options.processes))
    processes = options.processes or _cores()
    return Processes(processes) if processes > 1 else Alone()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _go_on(task: Task) -> str:
    return f"What is done lies in {printable(str(task.out))}{SUFFIX}; the same command with --resume goes on with it."


def _unwritable(task: Task, error: OSError) -> str:
    name = printable(str(task.out))
    if error.errno in _FULL:
        return f"{name} cannot be written: {error.strerror}. Make room; {_go_on(task)[0].lower()}{_go_on(task)[1:]}"
    return f"{name} cannot be written: {error.strerror or error}."

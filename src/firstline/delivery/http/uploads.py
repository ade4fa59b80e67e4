"""Uploads of many rows: read while they come in, never held in memory, checked row by row.

The event loop hands blocks over to a thread of its own for each upload, which reads rows out of them.
"""

import asyncio
import codecs
import json
import queue
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from firstline.adapters.bulk_output import sync
from firstline.adapters.parquet_files import ParquetReader, ParquetUnusable
from firstline.core.errors import BODY_TIMEOUT, BODY_TOO_LARGE
from firstline.core.message import MAX_REFERENCE_LENGTH
from firstline.core.taxonomy import Channel, Contract, UserPlan
from firstline.delivery.cli.formats import Format
from firstline.delivery.cli.rows import TEXT_COLUMNS, Lines, Row, RowInvalid, message_of, read_rows, row_of
from firstline.delivery.cli.terminal import Mistake
from firstline.delivery.http import bodies
from firstline.delivery.http.bodies import JsonInvalid, parse_json
from firstline.delivery.http.replies import ErrorReply
from firstline.ports.jobs import JobRow
from firstline.usecases.job_chunks import CHUNK_ROWS, Intake

MAX_UPLOAD_BYTES: Final = 2 << 30
MAX_ELEMENT: Final = 1 << 20
"""Characters of one element of a JSON list."""

READ_AT_ONCE: Final = 16
"""Uploads; more of them wait. One that comes slowly holds its place, so these are more than a machine has cores."""

_FIELDS: Final = ("user_plan", "channel", "history", "customer_ref", "external_id")
_AHEAD_BLOCKS: Final = 16
_WAIT_S: Final = 0.005
_LIST: Final = re.compile(r'\s*(?:\{\s*"(?:tickets|messages|rows)"\s*:\s*)?\[')
_SPACE: Final = frozenset(" \t\r\n")
_END_OF_LIST: Final = re.compile(r"\s*\]\s*")
_END_OF_OBJECT: Final = re.compile(r"\s*\]\s*\}\s*")
_NO_LIST: Final = 'The body must be a JSON list, or an object whose only member is such a list, named "tickets".'
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class UploadInvalid(ValueError):
    """An upload that cannot be read at all; the message is a sentence.

    Attributes:
        is_malformed: whether it is not what it says it is, rather than unfit for what was asked.
    """

    def __init__(self, sentence: str, *, is_malformed: bool = False) -> None:
        super().__init__(sentence)
        self.is_malformed = is_malformed


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of an upload are read.

    Attributes:
        format: None for a JSON list, or an object with one.
        column: that holds the text; None for the first that usually does.
        keep: columns that go to the results as they are.
        plan, channel: of rows that have none of their own.
    """

    contract: Contract
    format: Format | None
    column: str | None = None
    delimiter: str | None = None
    keep: tuple[str, ...] = ()
    plan: UserPlan = UserPlan.FREE
    channel: Channel = Channel.EMAIL


class Uploads:
    """Takes uploads in."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="upload")

    async def take(self, request: Request, reading: Reading, intake: Intake, *, whole: Path) -> None:
        """Read a body to its end into an intake.

        Args:
            whole: where a body may be kept while it is read, if it can only be read as a whole.
        Raises: ErrorReply for a body that is too large (413) or too slow (408), UploadInvalid, TooManyRows, OSError,
            ClientDisconnect.
        """
        if bodies.declares_more(request, than=MAX_UPLOAD_BYTES):
            raise _too_large()
        blocks = _Blocks()
        reader = asyncio.get_running_loop().run_in_executor(self._threads, _read_into, blocks, reading, intake, whole)
        try:
            await _feed(request, blocks, until=reader)
        except BaseException:
            blocks.abort()
            with suppress(Exception):
                await asyncio.shield(reader)
            raise
        await reader


class _Blocks:
    """What has come in and is not read yet; a stream for the thread that reads."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD_BLOCKS)
        self._aborted = False
        self._ended = False

    def read1(self, _size: int, /) -> bytes:
        """The next block; empty at the end.

        Raises: UploadInvalid when the rest will not come.
        """
        while not self._ended:
            try:
                block = self._queue.get(timeout=1)
            except queue.Empty:
                if self._aborted:
                    break
                continue
            if block is None:
                self._ended = True
            elif block:
                return block
        if self._aborted:
            raise UploadInvalid("The body has not come to its end.")
        return b""

    def put(self, block: bytes | None) -> bool:
        """Hand a block over, None at the end; False when it has to be tried again."""
        try:
            self._queue.put_nowait(block)
        except queue.Full:
            return False
        return True

    def abort(self) -> None:
        """The rest will not come."""
        self._aborted = True
        self.put(b"")


async def _feed(request: Request, blocks: _Blocks, *, until: "asyncio.Future[None]") -> None:
    """Hand a body over block by block, until it ends or nobody reads it any more."""
    receive, loop = request.receive, asyncio.get_running_loop()
    size = counted = 0
    more = True
    while more and not until.done():
        try:
            async with asyncio.timeout(bodies.PROGRESS_S) as deadline:
                while more and size - counted < bodies.PROGRESS_BYTES:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    block: bytes = message.get("body", b"")
                    more = message.get("more_body", False)
                    size += len(block)
                    if size > MAX_UPLOAD_BYTES:
                        raise _too_large()
                    deadline.reschedule(None)  # from here on it is we who are slow
                    while not blocks.put(block) and not until.done():  # noqa: ASYNC110  # the other side is a thread, which no event waits with  # the other side is a thread
                        await asyncio.sleep(_WAIT_S)
                    if size - counted < bodies.PROGRESS_BYTES:
                        deadline.reschedule(loop.time() + bodies.PROGRESS_S)
        except TimeoutError:
            raise ErrorReply(
                BODY_TIMEOUT,
                f"The body made no progress of {bodies.PROGRESS_BYTES} bytes within {bodies.PROGRESS_S:g} seconds.",
            ) from None
        counted = size
    while not blocks.put(None) and not until.done():  # noqa: ASYNC110  # the other side is a thread, which no event waits with
        await asyncio.sleep(_WAIT_S)


def _too_large() -> ErrorReply:
    return ErrorReply(BODY_TOO_LARGE, f"An upload may have at most {MAX_UPLOAD_BYTES >> 30} GiB. Split it.")


def _read_into(blocks: _Blocks, reading: Reading, intake: Intake, whole: Path) -> None:
    """What the thread of an upload does."""
    try:
        for row in _rows(blocks, reading, whole):
            intake.add(_job_row(row, reading))
        intake.end()
    except Mistake as error:
        raise UploadInvalid(str(error)) from None
    except ParquetUnusable as error:
        raise UploadInvalid(str(error).replace(str(whole), "The upload"), is_malformed=True) from None
    finally:
        whole.unlink(missing_ok=True)


def _rows(blocks: _Blocks, reading: Reading, whole: Path) -> Iterator[Row]:
    if reading.format is None:
        return _list_rows(blocks, reading.column)
    if reading.format is Format.PARQUET:
        return _parquet_rows(blocks, reading, whole)
    lines = Lines(blocks)
    return read_rows(
        lines, format=reading.format, column=reading.column, delimiter=reading.delimiter, keep=reading.keep
    )


def _parquet_rows(blocks: _Blocks, reading: Reading, whole: Path) -> Iterator[Row]:
    with whole.open("wb") as file:
        while block := blocks.read1(0):
            file.write(block)
        sync(file)
    reader = ParquetReader(whole, column=reading.column, columns=TEXT_COLUMNS, fields=_FIELDS, keep=reading.keep)
    for chunk in reader.chunks(rows=CHUNK_ROWS, plain=True):
        for place, item in enumerate(chunk.items):
            text, problem = item.text, item.problem
            if problem is None and text is not None and not isinstance(text, str):
                problem, text = f"the text must be a text, not {type(text).__name__}", None
            fields = dict(item.fields or {})
            fields |= {name: chunk.kept[name][place] for name in reading.keep}
            yield Row(chunk.first_row + place, text if isinstance(text, str) else None, fields, problem)


def _list_rows(blocks: _Blocks, column: str | None) -> Iterator[Row]:
    """The elements of a JSON list, one by one."""
    for number, element in enumerate(_elements(blocks), start=1):
        try:
            data = parse_json(element.encode())
        except (JsonInvalid, UnicodeEncodeError) as error:
            said = str(error) if isinstance(error, JsonInvalid) else "it is not UTF-8"
            yield Row(number, problem=said.replace("the body", "the element"))
        else:
            yield row_of(data, number=number, column=column, whole="element")


def _elements(blocks: _Blocks) -> Iterator[str]:
    """The elements of the list that a stream holds, as they stand there.

    An element that is not complete yet is tried again only once twice as much of it is there, so that a long one is
    not read over and over.
    """
    text = _Text(blocks)
    while (begun := _LIST.match(text.rest)) is None:
        if len(text.rest) > MAX_ELEMENT or not text.more():
            raise UploadInvalid(_NO_LIST, is_malformed=True)
    place, number, wanted = begun.end(), 0, 0
    decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().raw_decode
    while True:
        start = _after_space(text.rest, place)
        left = len(text.rest) - start
        if not left or left < wanted:
            text.cut(start)
            place = 0
            if text.more():
                continue
            start = _after_space(text.rest, 0)
        if text.rest[start : start + 1] in ("]", ""):
            break
        try:
            _, end = decode(text.rest, start)
            after = _after_space(text.rest, end)
            sign = text.rest[after : after + 1]
        except (json.JSONDecodeError, RecursionError):
            sign, end, after = "", start, start
        if sign in (",", "]"):
            if end - start > MAX_ELEMENT:
                raise UploadInvalid(f"Element {number + 1} of the list has more than {MAX_ELEMENT:,} characters.")
            number, wanted, place = number + 1, 0, after + (sign == ",")
            yield text.rest[start:end]
        elif sign or text.ended or left > 4 * MAX_ELEMENT:
            raise UploadInvalid(f"Element {number + 1} of the list is no valid JSON.", is_malformed=True)
        else:
            place, wanted = start, 2 * left
    text.cut(start)
    while len(text.rest) < MAX_ELEMENT and text.more():
        pass
    if not (_END_OF_OBJECT if "{" in begun[0] else _END_OF_LIST).fullmatch(text.rest):
        raise UploadInvalid(f"The list does not end as it should after {number:,} elements.", is_malformed=True)


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1] in _SPACE:
        place += 1
    return place


class _Text:
    """A stream as text.

    Attributes:
        rest: what has been read and not cut off.
        ended: whether that is all.
    """

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.rest = ""
        self.ended = False

    def more(self) -> bool:
        """Read on; whether there was more."""
        if self.ended:
            return False
        block = self._blocks.read1(0)
        try:
            self.rest += self._decoder.decode(block, final=not block)
        except UnicodeDecodeError:
            raise UploadInvalid("The body is not UTF-8.", is_malformed=True) from None
        self.ended = not block
        return bool(block)

    def cut(self, characters: int) -> None:
        """Forget the beginning of what is there."""
        self.rest = self.rest[characters:]


def _job_row(row: Row, reading: Reading) -> JobRow:
    """A row as a job keeps it: checked, with nothing in it that is not needed."""
    fold = reading.format is Format.CSV
    kept = [row.fields.get(name.casefold() if fold else name) for name in reading.keep]
    try:
        message = message_of(row, contract=reading.contract, plan=reading.plan, channel=reading.channel)
        refs = [_reference(row.fields.get(name), name) for name in ("customer_ref", "external_id")]
    except RowInvalid as error:
        return JobRow(None, str(error), kept=kept)
    decision = reading.contract is Contract.DECISION
    return JobRow(
        message.text,
        None,
        message.plan.value if decision else "",
        message.channel.value if message.channel else "",
        message.history,
        refs[0],
        refs[1],
        kept,
    )


def _reference(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or len(text) > MAX_REFERENCE_LENGTH or _UNPRINTABLE.search(text):
        raise RowInvalid(f"{name} must be a text of at most {MAX_REFERENCE_LENGTH} printable characters")
    return text


def content_format(content_type: str) -> str | None:
    """The format in `FORMATS` that a Content-Type names."""
    return _TYPES.get(content_type.partition(";")[0].strip().lower())


def named_format(name: str) -> Format | None:
    """The format of a name in `FORMATS`, as `Reading` has it."""
    return FORMATS[name]


FORMATS: Final[dict[str, Format | None]] = {
    "json": None,
    "ndjson": Format.JSONL,
    "csv": Format.CSV,
    "parquet": Format.PARQUET,
    "txt": Format.TXT,
}
_TYPES: Final = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "text/plain": "txt",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
}

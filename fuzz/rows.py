"""Targets that read many rows: uploads of jobs, files of the command line, labelled files of `firstline eval`."""

import asyncio
import io
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request

from firstline.core.message import MAX_HISTORY, MAX_REFERENCE_LENGTH, MAX_TEXT_LENGTH
from firstline.core.taxonomy import DEFAULT_CATEGORIES, Channel, Contract, UserPlan
from firstline.delivery.cli.formats import Format
from firstline.delivery.cli.labelled import Columns, read_labelled
from firstline.delivery.cli.rows import Lines, Row, RowInvalid, guess_format, message_of, read_rows
from firstline.delivery.cli.terminal import Mistake
from firstline.delivery.http.uploads import FORMATS, Reading, UploadInvalid, Uploads, content_format
from firstline.ports.jobs import JobRow
from firstline.usecases.job_chunks import Intake
from fuzz.target import Draw, Target, messages, refusals, text_of

_STREAMS: Final = (Format.JSONL, Format.CSV, Format.TXT)
_KNOWN: Final = tuple(category.name for category in DEFAULT_CATEGORIES)


class _Blocks:
    """A stream that answers with small pieces."""

    def __init__(self, data: bytes, size: int) -> None:
        self._file = io.BytesIO(data)
        self._size = size

    def read1(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._size))


class _Kept:
    """What a job would work on; the part of `ports.jobs.JobFiles` that an intake needs."""

    def __init__(self) -> None:
        self.rows: list[JobRow] = []

    def write_rows(self, _job_id: str, _number: int, rows: Sequence[JobRow]) -> None:
        self.rows += rows


def read_stream(data: bytes) -> None:
    """Rows in order, each with a text or a problem; in whatever pieces the stream comes."""
    draw = Draw(data)
    kind, size = draw.number(4), 1 + draw.number(64)
    column = text_of(draw.line()) or None
    body = draw.rest()
    whole, broken = _rows(body, len(body) + 1, kind, column), _rows(body, size, kind, column)
    assert whole == broken, "rows depend on the pieces that a stream comes in"
    if isinstance(whole, str):
        return
    for before, after in pairwise(whole):
        assert before.line < after.line, "rows are not in the order of their lines"
    for row in whole:
        assert row.text is None or row.problem is None or kind > 1, "a text with a problem"
        _check_message(row)


def _rows(body: bytes, size: int, kind: int, column: str | None) -> list[Row] | str:
    """What is read, or why nothing is."""
    try:
        lines = Lines(_Blocks(body, size))
        found = guess_format(lines, column=column) if kind == 3 else _STREAMS[kind]
        return list(read_rows(lines, format=found, column=column))
    except Mistake as error:
        assert str(error).strip()
        return str(error)


def _check_message(row: Row) -> None:
    for contract in Contract:
        try:
            message = message_of(row, contract=contract, plan=UserPlan.FREE, channel=Channel.EMAIL)
        except RowInvalid as error:
            assert str(error)
            continue
        assert 1 <= len(message.text) <= MAX_TEXT_LENGTH
        assert "\x00" not in message.text
        assert len(message.history) <= MAX_HISTORY


def read_upload(data: bytes) -> None:
    """An upload becomes rows within bounds, the same in whatever pieces it comes, or a sentence says why not."""
    draw = Draw(data)
    names = [name for name in FORMATS if name != "parquet"]
    reading = Reading(
        tuple(Contract)[draw.number(2)],
        FORMATS[names[draw.number(len(names))]],
        column=(None, "text", "body")[draw.number(3)],
        keep=((), ("id",))[draw.number(2)],
    )
    size = 1 + draw.number(64)
    body = draw.rest()
    whole = _taken([body], reading)
    pieces = [body[place : place + size] for place in range(0, len(body), size)]
    broken = _taken(pieces or [b""], reading)
    if isinstance(whole, str):
        # Of two faults, either may be met first.
        assert isinstance(broken, str), "an upload is refused as a whole and taken in pieces"
        return
    assert whole == broken, "rows depend on the pieces that an upload comes in"
    for row in whole:
        assert (row.text is None) != (row.problem is None), "a row needs a text or a problem"
        if row.text is not None:
            row.text.encode()
            assert 1 <= len(row.text) <= MAX_TEXT_LENGTH
            assert len(row.history) <= MAX_HISTORY
            for reference in (row.customer_ref, row.external_id):
                assert reference is None or (len(reference) <= MAX_REFERENCE_LENGTH and "\n" not in reference)
        assert len(row.kept) == len(reading.keep)


def _taken(pieces: Sequence[bytes], reading: Reading) -> list[JobRow] | str:
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    kept = _Kept()
    intake = Intake(kept, "0" * 32, rows=64)  # type: ignore[arg-type]  # the part of it that an intake needs
    request = Request({"type": "http", "headers": []}, receive)
    try:
        _loop().run_until_complete(_uploads().take(request, reading, intake, whole=_folder() / "whole"))
    except UploadInvalid as error:
        assert str(error).strip()
        return str(error)
    return kept.rows


def read_labels(data: bytes) -> None:
    """Labelled rows are messages of known categories, or a sentence says what is wrong."""
    draw = Draw(data)
    kind = (None, *_STREAMS)[draw.number(4)]
    path = _folder() / "labelled"
    path.write_bytes(draw.rest())
    with refusals(Mistake):
        found, problems = read_labelled(str(path), Columns(mapping={"bug": "Other"}), _KNOWN, format=kind)
        assert found
        for one in found:
            assert one.label is None or one.label in _KNOWN
            assert one.label is not None or one.signals is not None
            assert 1 <= len(one.message.text) <= MAX_TEXT_LENGTH
        for problem in problems:
            assert "\n" not in problem, "a problem of several lines"


def name_format(data: bytes) -> None:
    """A Content-Type names one of the formats or none."""
    found = content_format(data.decode("latin-1"))
    assert found is None or found in FORMATS


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@cache
def _uploads() -> Uploads:
    return Uploads()


@cache
def _folder() -> Path:
    return Path(_kept_folder().name)


@cache
def _kept_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="firstline-fuzz-")


def _bodies() -> Iterator[bytes]:
    """Rows in every format."""
    yield b'{"text": "one", "id": 1}\n{"ticket": "two", "history": ["x"], "channel": "chat"}\n\n"three"\n'
    yield b'\xef\xbb\xbftext;id\n"a ""quoted"" one\nof two lines";1\n;2\nlast'
    yield b'id,body,user_plan,history\r\n1,hello,vip,"[""a""]"\r\n2,\xff,free,\r\n'
    yield b"one line\n\ntwo\r\nthree"
    yield b'[{"text": "one"}, "two", 3, {"text": null}]'
    yield b'{"tickets": ["one", {"message": "two", "customer_ref": "c", "external_id": 5}]}'
    yield ("text\tid\n" + "\t1\n".join(messages()[:6])).encode()


def _stream_seeds() -> Iterator[bytes]:
    for number, body in enumerate(_bodies()):
        yield bytes([number % 4, 5]) + b"\n" + body
        yield bytes([3, 0]) + b"\n" + body


def _upload_seeds() -> Iterator[bytes]:
    for body in _bodies():
        for kind in range(4):
            yield bytes([kind % 2, kind, 0, 0, 7]) + body


def _label_seeds() -> Iterator[bytes]:
    yield b"\x02text,category,signals\nhello,Payment Issue,legal;security\nagain,bug,\nagain,,\n"
    yield b'\x01{"text": "hello", "category": "Payment Issue", "signals": ["legal"], "lang": "DE"}\n{"text": ""}\n'
    yield b"\x00text\nhello\n"


_WORDS: Final = (
    '"text":', '"history":', '"channel":', '"user_plan":', '"signals":', '"category":', "text,category\n", "\r\n", '""',
    "\ufeff", "],", '"tickets": [', "signals", "null",
)  # fmt: skip

TARGETS: Final = (
    Target(
        "rows", "the same rows in whatever pieces a stream comes", ("delivery.cli.rows",), read_stream, _stream_seeds,
        _WORDS,
    ),
    Target(
        "upload", "rows within bounds, or a sentence", ("delivery.http.uploads", "usecases.job_chunks"), read_upload,
        _upload_seeds, _WORDS,
    ),
    Target(
        "labelled", "messages of known categories, or a sentence", ("delivery.cli.labelled",), read_labels,
        _label_seeds, _WORDS,
    ),
    Target(
        "content-type", "one of the formats, or none", ("delivery.http.uploads",), name_format,
        lambda: [b"text/csv; charset=utf-8", b"application/x-ndjson"], ("application/json", ";"), 256,
    ),
)  # fmt: skip
"""Of this module."""

"""Tickets as a file: CSV, JSON, NDJSON or Parquet, made part by part while they are sent."""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from firstline.core.identity import TICKET
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.feedback_v1 import feedback_data
from firstline.usecases.history import Shown

COLUMNS: Final = (
    "id", "received_at", "contract", "channel", "language", "customer_ref", "external_id", "text", "text_state",
    "revision", "decided_at", "category", "priority", "decision", "probability", "confidence", "churn_risk",
    "needs_review", "source", "recommended_action", "reasons", "feedback",
)  # fmt: skip
MEDIA_TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
GROUP_ROWS: Final = 20_000
GROUP_CHARACTERS: Final = 8_000_000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_MOMENTS: Final = frozenset({"received_at", "decided_at"})
_TYPES: Final = {
    "revision": "int32",
    "probability": "float64",
    "confidence": "float64",
    "churn_risk": "float64",
    "needs_review": "bool_",
}


class FormatUnavailable(Exception):
    """This server cannot write the format; the message says what is missing."""


class Writer(Protocol):
    """Writes a format; every call gives the bytes that are ready."""

    def begin(self) -> bytes:
        """What stands before the first ticket."""
        ...

    def add(self, tickets: Sequence[Shown]) -> bytes:
        """Some tickets."""
        ...

    def end(self) -> bytes:
        """What stands behind the last one."""
        ...


def writer_of(kind: str) -> Writer:
    """A writer of a format in `MEDIA_TYPES`.

    Raises: FormatUnavailable.
    """
    writers: dict[str, Callable[[], Writer]] = {
        "csv": CsvWriter,
        "json": JsonWriter,
        "ndjson": NdjsonWriter,
        "parquet": ParquetWriter,
    }
    return writers[kind]()


class NdjsonWriter:
    """A JSON object in each line."""

    def begin(self) -> bytes:
        """See the protocol, as for all methods below."""
        return b""

    def add(self, tickets: Sequence[Shown]) -> bytes:
        return b"".join(orjson.dumps(_row(one)) + b"\n" for one in tickets)

    def end(self) -> bytes:
        return b""


class JsonWriter:
    """One JSON array."""

    def __init__(self) -> None:
        self._separator = b"\n"

    def begin(self) -> bytes:
        """See the protocol, as for all methods below."""
        return b"["

    def add(self, tickets: Sequence[Shown]) -> bytes:
        parts = []
        for one in tickets:
            parts += [self._separator, orjson.dumps(_row(one))]
            self._separator = b",\n"
        return b"".join(parts)

    def end(self) -> bytes:
        return b"\n]\n"


class CsvWriter:
    """A line of names, then a line for each ticket; no cell is taken for a formula by a spreadsheet."""

    def begin(self) -> bytes:
        """See the protocol, as for all methods below."""
        return self._lines([COLUMNS])

    def add(self, tickets: Sequence[Shown]) -> bytes:
        return self._lines([[_cell(value) for value in _row(one).values()] for one in tickets])

    def end(self) -> bytes:
        return b""

    def _lines(self, rows: Sequence[Sequence[object]]) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()


class ParquetWriter:
    """A Parquet file in row groups of about `GROUP_ROWS`: each leaves a few kilobytes that must be kept to the end."""

    def __init__(self) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise FormatUnavailable("Parquet needs pyarrow: pip install pyarrow.") from None
        self._arrow = pyarrow
        self._rows: list[dict[str, Any]] = []
        self._characters = 0
        fields = []
        for name in COLUMNS:
            kind = (
                pyarrow.timestamp("us", tz="UTC")
                if name in _MOMENTS
                else getattr(pyarrow, _TYPES.get(name, "string"))()
            )
            fields.append(pyarrow.field(name, kind))
        self._schema = pyarrow.schema(fields)
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    def begin(self) -> bytes:
        """See the protocol, as for all methods below."""
        return self._sink.taken()

    def add(self, tickets: Sequence[Shown]) -> bytes:
        for one in tickets:
            row = _row(one, moments=True)
            for name in ("reasons", "feedback"):
                row[name] = orjson.dumps(row[name]).decode()
            self._rows.append(row)
            self._characters += len(one.text or "")
        if len(self._rows) >= GROUP_ROWS or self._characters >= GROUP_CHARACTERS:
            self._write()
        return self._sink.taken()

    def end(self) -> bytes:
        self._write()
        self._writer.close()
        return self._sink.taken()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._characters = [], 0


class _Sink(io.RawIOBase):
    """What is written, to be taken away bit by bit."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._waiting.append(bytes(data))
        self._written += len(self._waiting[-1])
        return len(self._waiting[-1])

    def tell(self) -> int:
        return self._written

    def taken(self) -> bytes:
        taken, self._waiting = b"".join(self._waiting), []
        return taken


def entry_data(shown: Shown) -> dict[str, Any]:
    """A ticket with the verdict that answers, without its text."""
    ticket, verdict = shown.ticket, shown.latest
    return {
        "id": f"{TICKET}{ticket.id}",
        "received_at": iso(ticket.received_at_us),
        "contract": ticket.contract,
        "channel": ticket.channel,
        "language": ticket.language,
        "customer_ref": ticket.customer_ref,
        "external_id": ticket.external_id,
        "text_state": shown.text_state.value,
        "revision": verdict.revision,
        "decided_at": iso(verdict.decided_at_us),
        "category": verdict.category,
        "priority": verdict.priority,
        "decision": verdict.decision,
        "probability": round(verdict.probability, 4),
        "confidence": verdict.confidence,
        "churn_risk": verdict.churn_risk,
        "needs_review": bool(verdict.needs_review),
        "source": verdict.source,
        "recommended_action": verdict.recommended_action,
    }


def _row(shown: Shown, *, moments: bool = False) -> dict[str, Any]:
    data = {
        **entry_data(shown),
        "text": shown.text,
        "reasons": orjson.loads(shown.latest.reasons),
        "feedback": [feedback_data(row) for row in shown.feedback],
    }
    if moments:
        data["received_at"] = _moment(shown.ticket.received_at_us)
        data["decided_at"] = _moment(shown.latest.decided_at_us)
    return {name: data[name] for name in COLUMNS}


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def _cell(value: Any) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return orjson.dumps(value).decode()
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(_FORMULA) else value

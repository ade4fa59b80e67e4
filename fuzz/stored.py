"""Targets that read files and rows that somebody may have changed: archives, spools, models, sealed texts."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import numpy as np

from firstline.adapters.backup.archive_reader import JOBS, SPOOL, Archive
from firstline.adapters.backup.archive_writer import SEAL, SEAL_BYTES
from firstline.adapters.backup.failures import ArchiveDamaged, BackupFailed
from firstline.adapters.backup.manifest import NAME, read_manifest
from firstline.adapters.backup.row_lines import Column, Kind, line_of, lines_in, row_of
from firstline.adapters.sealing import Sealer
from firstline.adapters.spool.frames import FrameUnreadable, Spooled, frames_in, packed, unpacked
from firstline.learning.artifact import (
    HEADS,
    ArtifactInvalid,
    dump,
    load_model,
    quantise_columns,
    quantise_rows,
    read_card,
)
from firstline.learning.custom import SKETCH_BITS, Advice, CustomModel, curves_from_card, dump_custom, load_custom
from firstline.learning.hybrid_model import RECIPE, HybridModel
from firstline.ports.journal import CounterDelta, KeyUse, Record, TicketRow
from firstline.ports.sealing import SealBroken
from fuzz.target import Draw, Target, refusals

_TABLES: Final = frozenset({"accounts", "tickets"})
_COLUMNS: Final = tuple(Column(name, kind) for name, kind in zip("abcd", Kind, strict=True))
_SEALER: Final = Sealer(["a secret of the fuzz targets, 32 bytes"])
_HEAD_BYTES: Final = 16
_MOST_INFLATED: Final = 64 << 20


def read_archive(data: bytes) -> None:
    """An archive whose seal fits is read wholly or refused with a sentence; nothing in it is larger than it says."""
    whole = data[:-SEAL_BYTES] if data[-SEAL_BYTES:].startswith(SEAL) else data
    sealed = whole + SEAL + hashlib.sha256(whole).hexdigest().encode()
    with refusals(BackupFailed):
        archive = Archive(io.BytesIO(sealed), _TABLES)
        assert archive.manifest.tables.keys() <= _TABLES
        archive.check()
        archive.secret_key()
        for prefix, part in ((JOBS, archive.manifest.jobs), (SPOOL, archive.manifest.spool)):
            for name, chunks in archive.files(prefix, part):
                assert ".." not in name
                assert not name.startswith("/")
                assert sum(map(len, chunks)) <= _MOST_INFLATED


def read_archive_manifest(data: bytes) -> None:
    """A manifest has counts that are not negative, or is refused with a sentence."""
    with refusals(BackupFailed):
        found = read_manifest(data)
        assert found.size >= 0
        for table in found.tables.values():
            assert 1 <= len(table.shape) <= 200


def read_lines(data: bytes) -> None:
    """Rows of an archive are of their columns' kinds and come back the same, in whatever pieces they come."""
    draw = Draw(data)
    size = 1 + draw.number(64)
    body = draw.rest()
    try:
        lines = [line for some in lines_in([body]) for line in some]
    except ArchiveDamaged:
        return
    pieces = [body[place : place + size] for place in range(0, len(body), size)]
    assert [line for some in lines_in(pieces) for line in some] == lines
    read, write = row_of(_COLUMNS), line_of(_COLUMNS)
    for line in lines:
        try:
            row = read(line)
        except ValueError as error:
            assert str(error)
            continue
        for value, kind in zip(row, (int, float, str, bytes), strict=True):
            assert value is None or type(value) is kind
        assert repr(read(write(row))) == repr(row)


def read_frames(data: bytes) -> None:
    """Whole frames end before the first that is torn; a frame's body is a record or unreadable."""
    draw = Draw(data)
    mode, body = draw.number(3), draw.rest()
    if mode == 0:
        place = 0
        for frame in frames_in(body, at=0):
            assert frame.until == place + _HEAD_BYTES + len(frame.body)
            assert frame.until <= len(body)
            place = frame.until
            _unpack(frame.body)
        return
    _unpack(body if mode == 1 else b"s" + _SEALER.seal(body, context="spool").encode())


def _unpack(body: bytes) -> None:
    try:
        found = unpacked(body, sealing=_SEALER)
    except FrameUnreadable:
        return
    try:
        again = packed(found, at_us=1, sealing=None)
    except TypeError:  # numbers beyond 64 bits, which orjson reads as floats and so on, are the store's to refuse
        return
    (frame,) = frames_in(again, at=0)
    assert unpacked(frame.body, sealing=None) == found


def open_sealed(data: bytes) -> None:
    """What was not sealed here opens nothing; what was opens to itself, under its own context alone."""
    draw = Draw(data)
    text = draw.line().decode("utf-8", "surrogateescape")
    try:
        _SEALER.open(text, context="a")
    except SealBroken:
        pass
    else:
        raise AssertionError("something opens that was not sealed")
    plain = draw.rest()
    sealed = _SEALER.seal(plain, context="a")
    assert _SEALER.open(sealed, context="a") == plain
    try:
        _SEALER.open(sealed, context="b")
    except SealBroken:
        return
    raise AssertionError("it opens under another context")


def read_model(data: bytes) -> None:
    """A model file is read and judges a text, or is refused as `ArtifactInvalid`."""
    with refusals(ArtifactInvalid):
        model = load_model(_own_header(data))
        prediction, _ = model.analyse("I want my money back")
        assert all(0 <= value <= 1 for value in prediction.probabilities.values())


def read_model_card(data: bytes) -> None:
    """A card is an object, and its curves are read or refused."""
    with refusals(ArtifactInvalid, ValueError):
        card = read_card(len(data).to_bytes(8, "little") + data)
        assert isinstance(card, dict)
        curves_from_card(card)


def read_custom_model(data: bytes) -> None:
    """Trained categories fit the model in use, or are refused with a reason."""
    base = _tiny()
    with refusals(ValueError):
        model, _ = load_custom(_own_header(data), base, _curves())
        found = model.predict(*base.analyse("I want my money back"))
        assert len(found.probabilities) <= len(model.names) + 1
        assert all(0 <= value <= 1 for value in found.probabilities.values())


@cache
def own_model() -> bytes:
    """Two categories on the tiny model."""
    base, numbers = _tiny(), np.random.default_rng(2)
    dimensions = base.weights.shape[0]
    model = CustomModel(
        version="0" * 16,
        names=("One", "Two"),
        weights=numbers.normal(size=(dimensions + (1 << SKETCH_BITS), 2)).astype(np.float32),
        bias=np.zeros(2, np.float32),
        anchors=numbers.normal(size=(3, dimensions)).astype(np.float32),
        temperature=1.5,
        examples=2.0,
        idf=base.idf,
        curves=_curves(),
    )
    return dump_custom(model, [Advice("few", "Give more examples.", ("One",))])


def _own_header(data: bytes) -> bytes:
    """A file whose header's length is true wherever there is a header at all, so that more of it is read."""
    end = data.find(b"}}", 8)
    if end < 0 or int.from_bytes(data[:8], "little") < len(data):
        return data
    return (end + 2 - 8).to_bytes(8, "little") + data[8:]


@cache
def tiny_model() -> bytes:
    """A model of 8 bits and two labels a head, which fits itself."""
    numbers = np.random.default_rng(1)
    pieces = ["i", "want", "my", "money", "back", "##s"]
    columns = 2 * len(HEADS)
    heads = {
        name: {"labels": labels, "temperature": 1.0, "doubtful_temperature": 2.0}
        for name, labels in zip(HEADS, _LABELS, strict=True)
    }
    return dump(
        ngrams=quantise_columns(numbers.normal(size=(256, columns)).astype(np.float32)),
        idf=np.ones(256, np.float16),
        embeddings=quantise_rows(numbers.normal(size=(len(pieces) + 1, 4)).astype(np.float32)),
        weights=numbers.normal(size=(4, columns)).astype(np.float32),
        bias=np.zeros((3, columns), np.float32),
        pieces=pieces,
        pairs=[("my", "money")],
        lexicons={},
        card={"recipe": RECIPE, "bits": 8, "heads": heads},
    )


_LABELS: Final = (
    ["a", "b"],
    ["en", "de"],
    ["a/x", "b/y"],
    ["low", "high"],
    ["ignore", "priority_response"],
    ["legal", "churn"],
)
"""Of the heads, in their order."""


@cache
def _tiny() -> HybridModel:
    return load_model(tiny_model())


@cache
def _curves() -> Any:
    return curves_from_card(_CARD)


_CARD: Final[dict[str, Any]] = {"recipe": RECIPE, "bits": 8, "heads": {}}


def archive_of(members: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, body in members.items():
            archive.writestr(zipfile.ZipInfo(name), body, compression)
        archive.comment = bytes(SEAL_BYTES)
    whole = out.getvalue()[:-SEAL_BYTES]
    return whole + SEAL + hashlib.sha256(whole).hexdigest().encode()


def manifest_of(lines: bytes, **other: Any) -> bytes:
    said = {
        "format": "firstline backup", "version": 1, "firstline": "1", "schema_revision": "0009", "database": "sqlite",
        "began_at": "2026-11-22", "jobs": None, "spool": None, "secret_key": False,
        "tables": {
            "accounts": {
                "columns": [{"name": column.name, "kind": column.kind} for column in _COLUMNS],
                "rows": lines.count(b"\n"), "bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest(),
            }
        },
    }  # fmt: skip
    return json.dumps(said | other).encode()


_LINES: Final = b'[1,1.5,"a","AAE="]\n[null,"nan",null,null]\n[-9223372036854775808,-0.0,"\xc3\xa9",""]\n'


def _archive_seeds() -> Iterator[bytes]:
    tables = {"tables/accounts.jsonl": _LINES}
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield archive_of({**tables, NAME: manifest_of(_LINES)}, compression=compression)
    position = b'{"segment": 1, "offset": 0, "until": 0, "mark": null}'
    spool = {"files": 1, "bytes": len(position), "records": 0, "sha256": "0" * 64}
    yield archive_of({**tables, "spool/position.json": position, NAME: manifest_of(_LINES, spool=spool)})
    yield archive_of({**tables, "secret.key": b"k", NAME: manifest_of(_LINES, secret_key=True)})
    yield archive_of({**tables, "jobs/../../x": b"k", NAME: manifest_of(_LINES)})


def _frame_seeds() -> Iterator[bytes]:
    ticket = TicketRow("0" * 32, "1" * 32, 1, "decision", None, "en", "hello", None, None)
    record = Record(
        tickets=(ticket,),
        counters=(CounterDelta("1" * 32, "decision", "day", 0, 1, 1),),
        key_use=KeyUse("2" * 32, 1, 1),
    )
    plain = packed(Spooled(record, "mark"), at_us=5, sealing=None)
    yield b"\x00" + plain + packed(Spooled(record), at_us=6, sealing=_SEALER) + plain[:30]
    yield b"\x01" + plain[_HEAD_BYTES:]
    yield b"\x02" + plain[_HEAD_BYTES:]
    yield b"\x01s s1.00000000.AAAA"
    empty = b'{"mark":null}'
    at = (5).to_bytes(8, "big")
    yield b"\x00" + len(empty).to_bytes(4, "big") + zlib.crc32(empty, zlib.crc32(at)).to_bytes(4, "big") + at + empty


def _card_seeds() -> Iterator[bytes]:
    yield json.dumps({"__metadata__": {"card": json.dumps(_CARD)}}).encode()
    model = tiny_model()
    yield model[8 : 8 + int.from_bytes(model[:8], "little")]


_WORDS: Final = (
    '"columns":',
    '"kind":',
    '"rows":',
    '"bytes":',
    '"sha256":',
    "PK\x03\x04",
    "PK\x01\x02",
    "PK\x05\x06",
    "null",
    '"mark":',
)

TARGETS: Final = (
    Target(
        "archive", "a backup is read wholly, or refused with a sentence",
        ("adapters.backup.archive_reader", "adapters.backup.manifest"), read_archive, _archive_seeds, _WORDS,
    ),
    Target(
        "archive-manifest", "a manifest, or a sentence", ("adapters.backup.manifest",), read_archive_manifest,
        lambda: [manifest_of(_LINES)], _WORDS,
    ),
    Target(
        "archive-rows", "rows of their kinds that come back", ("adapters.backup.row_lines",), read_lines,
        lambda: [b"\x05" + _LINES, b"\x00[1]\n\r\n"], ("null", '"nan"', '"inf"', "1e400", "[null,null,null,null]\n"),
    ),
    Target(
        "spool-frames", "records up to the first torn frame", ("adapters.spool.frames",), read_frames, _frame_seeds,
        ('"tickets":', '"key_use":', '"mark":', "null", "[[", "s1."),
    ),
    Target(
        "sealed", "opens where it was sealed, and nowhere else", ("adapters.sealing", "adapters.sealed_answers"),
        open_sealed, lambda: [b"s1.00000000.AAAA\nplain", b"\n"], ("s1.",), 1_024,
    ),
    Target(
        "model", "a model that judges, or `ArtifactInvalid`", ("learning.artifact", "learning.vocabulary"), read_model,
        lambda: [tiny_model()], ("F16", "I8", "U8", "F64", '"dtype":', '"shape":[', '"data_offsets":['), 16_384,
    ),
    Target(
        "model-card", "a card and its curves, or a refusal",
        ("learning.artifact", "learning.custom", "adapters.local_model"), read_model_card,
        _card_seeds, ('"card":', '"__metadata__":', "null", "[]"), 8_192,
    ),
    Target(
        "own-model", "trained categories that fit, or a refusal", ("learning.custom",), read_custom_model,
        lambda: [own_model(), tiny_model()], ('"names":', '"anchors":', '"advice":', '"card":', "F32"), 65_536,
    ),
)  # fmt: skip
"""Of this module."""

"""What fuzzing has found, each as a case of its own."""

import asyncio
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import api, stored
from starlette.requests import Request

from firstline.adapters.backup.archive_reader import Archive
from firstline.adapters.backup.failures import ArchiveDamaged
from firstline.adapters.spool.folder import SpoolFolder, SpoolUnusable
from firstline.adapters.spool.frames import FrameUnreadable, unpacked
from firstline.core.terms import TermInvalid, parse_term
from firstline.delivery.cli.formats import Format
from firstline.delivery.cli.rows import Lines, read_rows
from firstline.delivery.cli.terminal import Mistake
from firstline.delivery.http.bodies import read_body
from firstline.delivery.http.replies import ErrorReply
from firstline.learning.artifact import ArtifactInvalid, load_model
from firstline.learning.custom import DEFAULT_CURVES, load_custom
from firstline.settings import SettingsInvalid, load_settings


@pytest.mark.parametrize("digits", ["9" * 5_000, "0" * 5_000 + "9" * 20])
def test_a_content_length_of_thousands_of_digits_is_too_large(digits: str) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    request = Request({"type": "http", "headers": [(b"content-length", digits.encode())]}, receive)
    with pytest.raises(ErrorReply) as found:
        asyncio.run(read_body(request))
    assert found.value.error.status == 413


@pytest.mark.parametrize("term", ["! .. lawyer", "lawyer … -"])
def test_a_gap_beside_a_sign_that_is_no_word_is_at_the_end_of_a_term(term: str) -> None:
    with pytest.raises(TermInvalid, match="begin or end with a gap"):
        parse_term(term)


def test_a_setting_that_is_no_utf_8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLINE_LOG_LEVEL", "0\udcf2")
    with pytest.raises(SettingsInvalid, match="FIRSTLINE_LOG_LEVEL: it is not UTF-8"):
        load_settings(env_file=None)


def test_a_query_that_is_no_utf_8_is_never_answered_with_500() -> None:
    query = b"a=%ff\xc6\n"
    for route in ("POST /v1/decision", "OPTIONS /v1/decision", "GET /docs/errors/x"):
        number = api.ROUTES.index(route)
        with_idempotency_key = bytes([number, 1, 1, 0]) + b"key-1\n" + query + b'{"message": "hello"}'
        api.request(with_idempotency_key)


class InPieces:
    """A stream that answers with one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read1(self, _size: int, /) -> bytes:
        return self._file.read(1)


def test_a_byte_order_mark_that_comes_in_pieces_is_no_part_of_the_first_column() -> None:
    lines = Lines(InPieces(b"\xef\xbb\xbftext\nhello\n"))
    assert [row.text for row in read_rows(lines, format=Format.CSV, column=None)] == ["hello"]


def test_utf_16_that_comes_in_pieces_is_refused_as_utf_16() -> None:
    with pytest.raises(Mistake, match="UTF-16"):
        Lines(InPieces("text\n".encode("utf-16")))


@pytest.mark.parametrize("packed", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_is_packed_as_no_backup_is_damaged(packed: int) -> None:
    data = stored.archive_of({"manifest.json": stored.manifest_of(b"")}, compression=packed)
    with pytest.raises(ArchiveDamaged, match="packed as no backup is"):
        Archive(io.BytesIO(data), frozenset({"accounts"}))


@pytest.mark.parametrize("body", [b"[]", b"1", b'"a"', b"null"])
def test_a_frame_that_holds_no_object_cannot_be_read(body: bytes) -> None:
    with pytest.raises(FrameUnreadable):
        unpacked(body, sealing=None)


def test_a_spool_whose_position_lacks_a_member_is_said_to_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "position.json").write_bytes(b'{"segment": 1}')
    with pytest.raises(SpoolUnusable, match=r"position\.json is damaged"):
        SpoolFolder(tmp_path)


def test_a_model_with_signals_that_nobody_knows_is_refused_when_it_is_loaded() -> None:
    data = stored.tiny_model().replace(b"legal", b"legas")
    with pytest.raises(ArtifactInvalid, match="signals"):
        load_model(data)


def no_number(data: bytearray) -> None:
    data[-4:] = np.float32(np.nan).tobytes()


def no_temperature(data: bytearray) -> None:
    data[:] = data.replace(b'temperature\\": 1.5', b'temperature\\": 0.0')


@pytest.mark.parametrize("damage", [no_number, no_temperature])
def test_trained_categories_that_would_give_no_probability_are_refused(damage: Callable[[bytearray], None]) -> None:
    data = bytearray(stored.own_model())
    load_custom(bytes(data), load_model(stored.tiny_model()), DEFAULT_CURVES)
    damage(data)
    with pytest.raises(ValueError, match="do not fit the model in use"):
        load_custom(bytes(data), load_model(stored.tiny_model()), DEFAULT_CURVES)

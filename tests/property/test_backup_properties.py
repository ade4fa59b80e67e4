"""Backups: a row is what it was, and nothing of a damaged archive is believed."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_archives import archive_of, small_archive
from firstline.adapters.backup.failures import ArchiveDamaged
from firstline.adapters.backup.row_lines import Column, Kind, line_of, lines_in, row_of

COLUMNS = (Column("i", Kind.INT), Column("f", Kind.FLOAT), Column("t", Kind.TEXT), Column("b", Kind.BYTES))
ROWS = st.tuples(
    st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
    st.none() | st.floats(allow_nan=True),
    st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    st.none() | st.binary(),
)
ARCHIVE = small_archive()


@given(ROWS)
def test_a_row_is_read_from_its_line_as_it_was(row: tuple[Any, ...]) -> None:
    line = line_of(COLUMNS)(row)
    found = row_of(COLUMNS)(line)
    if row[1] is not None and math.isnan(row[1]):
        assert math.isnan(found[1])
        assert (found[0], *found[2:]) == (row[0], *row[2:])
    else:
        assert tuple(found) == row
        assert [type(value) for value in found] == [type(value) for value in row]
    assert line.count(b"\n") == 1


@given(st.binary(max_size=200))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    try:
        found = row_of(COLUMNS)(line)
    except ValueError:
        return
    assert len(found) == len(COLUMNS)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30))
def test_lines_are_the_same_however_a_text_is_cut(parts: list[bytes], size: int) -> None:
    text = b"".join(part.replace(b"\n", b" ") + b"\n" for part in parts)
    chunks = [text[place : place + size] for place in range(0, len(text), size)]
    assert [line for lines in lines_in(chunks) for line in lines] == [
        part.replace(b"\n", b" ") + b"\n" for part in parts
    ]


@given(st.integers(0, len(ARCHIVE) - 1), st.integers(1, 255))
def test_an_archive_with_any_byte_changed_is_refused(place: int, change: int) -> None:
    damaged = bytearray(ARCHIVE)
    damaged[place] ^= change
    with pytest.raises(ArchiveDamaged), archive_of(bytes(damaged)) as archive:
        archive.check()


@given(st.integers(0, len(ARCHIVE) - 1))
def test_an_archive_that_is_cut_off_anywhere_is_refused(length: int) -> None:
    with pytest.raises(ArchiveDamaged), archive_of(ARCHIVE[:length]) as archive:
        archive.check()


@given(st.integers(0, len(ARCHIVE)), st.binary(min_size=1, max_size=20))
def test_an_archive_with_anything_put_in_is_refused(place: int, strange: bytes) -> None:
    with pytest.raises(ArchiveDamaged), archive_of(ARCHIVE[:place] + strange + ARCHIVE[place:]) as archive:
        archive.check()


def test_the_archive_that_is_damaged_here_is_whole(tmp_path: Path) -> None:
    with archive_of(ARCHIVE) as archive:
        archive.check()
        assert archive.manifest.tables["accounts"].rows == 2

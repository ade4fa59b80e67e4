"""Chunks of jobs as values: ids of tickets, sizes of chunks, what an upload is cut into."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstline.core.plans import Plan, Window
from firstline.core.taxonomy import Contract
from firstline.ports.jobs import JobRow
from firstline.usecases import job_chunks
from firstline.usecases.job_chunks import Intake, TooManyRows, chunk_rows, row_of_ticket, ticket_id

JOB = "01a201e6bc3f7d42867e47b74b0e086f"
MADE_US = 1_795_000_000_123_456


class Written:
    """Job files that remember what was written."""

    def __init__(self) -> None:
        self.chunks: list[Sequence[JobRow]] = []

    def write_rows(self, job_id: str, number: int, rows: Sequence[JobRow]) -> None:
        assert number == len(self.chunks)
        self.chunks.append(rows)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def plan(**limits: int) -> Plan:
    found = {Window(name): limit for name, limit in limits.items()}
    return Plan(Contract.CLASSIFIER, "some", 0, found, 600, 10)


def rows(*lengths: int) -> Iterator[JobRow]:
    return (JobRow("x" * length) for length in lengths)


@given(st.integers(1, 2**24 - 1))
def test_a_ticket_says_which_row_it_is_of(row: int) -> None:
    found = ticket_id(JOB, row, created_at_us=MADE_US)
    assert row_of_ticket(found) == (row, MADE_US // 1_000)
    assert found == ticket_id(JOB, row, created_at_us=MADE_US)
    assert (len(found), found[12], found[16] in "89ab") == (32, "7", True)


def test_tickets_of_a_job_ascend_with_its_rows_and_differ_from_those_of_others() -> None:
    own = [ticket_id(JOB, row, created_at_us=MADE_US) for row in (1, 2, 4_095, 4_096, 4_097, 999_999, 1_000_000)]
    assert sorted(own) == own
    other = [ticket_id("f" * 32, row, created_at_us=MADE_US) for row in (1, 2)]
    assert not set(own) & set(other)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({"day": 1_000_000}, 1_000), ({"day": 100, "month": 1_000}, 10), ({"day": 3}, 1), ({"hour": 5}, 1_000)],
)
def test_a_chunk_is_a_tenth_of_the_day_at_most(limits: dict[str, int], expected: int) -> None:
    assert chunk_rows(plan(**limits)) == expected


def test_a_chunk_ends_after_its_rows_or_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_chunks, "CHUNK_CHARACTERS", 50)
    written = Written()
    intake = Intake(written, JOB, rows=3)
    for row in rows(1, 1, 1, 30, 30, 1, 1):
        intake.add(row)
    intake.end()
    assert (intake.sizes, intake.rows) == ([3, 2, 2], 7)
    assert [len(chunk) for chunk in written.chunks] == intake.sizes


def test_an_upload_may_not_have_more_rows_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_chunks, "MAX_ROWS", 2)
    intake = Intake(Written(), JOB, rows=10)
    for row in rows(1, 1):
        intake.add(row)
    with pytest.raises(TooManyRows):
        intake.add(JobRow("x"))

"""Bulk over memory: order, failures, parts that were done before, and counts that survive them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.system import SystemClock, SystemIdentities
from firstline.adapters.worker_pool import Alone
from firstline.core.message import Message
from firstline.core.policy import Policy
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import Contract
from firstline.core.verdict import Prediction
from firstline.ports.bulk import Chunk, Columns, Item
from firstline.usecases.bulk import PART_CHUNKS, ChunkDecider, Tally, columns_of, decide_file, lost_chunk
from firstline.usecases.records import Keeping
from firstline.usecases.tickets import Triage

CONTRACTS = list(Contract)


class Fussy:
    """A model that fails on one word."""

    name = "fussy"

    def predict(self, text: str, categories: Any = None) -> Prediction:
        if "poison" in text:
            raise RuntimeError("a bug")
        return Prediction(self.name, {"Other": 0.9, "Network Issue": 0.1}, "en")

    def predict_many(self, texts: Sequence[str], categories: Any = None) -> list[Prediction]:
        return [self.predict(text) for text in texts]


class MemoryOutput:
    """An output that remembers what it was told."""

    def __init__(self, committed: Sequence[Mapping[str, Any]] = ()) -> None:
        self.committed = list(committed)
        self.rows: list[int] = []
        self.errors: list[str | None] = []
        self.finished = False

    def add(self, chunk: Chunk, columns: Columns) -> None:
        self.rows += columns["row"]
        self.errors += columns["error"]

    def commit(self, notes: Mapping[str, Any]) -> None:
        self.committed.append(notes)

    def finish(self) -> None:
        self.finished = True


def decider(contract: Contract = Contract.CLASSIFIER) -> ChunkDecider:
    triage = Triage(
        journal=MemoryStore(),
        classifier=Fussy(),
        rules=RuleBook(()),
        policy=Policy(),
        clock=SystemClock(),
        identities=SystemIdentities(),
        keeping=Keeping(history=False, text=False),
    )
    return ChunkDecider(
        triage,
        contract=contract,
        message_of=lambda item: Message(item.text, contract) if isinstance(item.text, str) else "there is no text",
    )


def chunks(count: int) -> Iterator[Chunk]:
    """Chunks of three rows, the middle one without a text."""
    for number in range(count):
        items = [Item("a fine message"), Item(None), Item("another message")]
        yield Chunk(number, number * 3 + 1, items, {})


def run(output: MemoryOutput, count: int) -> tuple[Tally, list[int]]:
    told: list[int] = []
    tally = decide_file(
        chunks(count),
        output=output,
        workers=Alone(),
        decide=decider(),
        contract=Contract.CLASSIFIER,
        told=lambda chunk, columns, whole: told.append(whole.rows),
    )
    return tally, told


def test_every_row_is_answered_once_in_order_and_with_its_number() -> None:
    output = MemoryOutput()
    tally, told = run(output, 5)
    assert output.rows == list(range(1, 16))
    assert output.errors == [None, "there is no text", None] * 5
    assert (tally.rows, tally.failed, dict(tally.kinds)) == (15, 5, {"Other": 10})
    assert told == [3, 6, 9, 12, 15]
    assert output.finished


def test_a_run_that_goes_on_answers_what_is_missing_and_counts_everything() -> None:
    whole = MemoryOutput()
    everything, _ = run(whole, 2 * PART_CHUNKS + 3)
    again = MemoryOutput(whole.committed[:1])
    tally, told = run(again, 2 * PART_CHUNKS + 3)
    assert again.rows == whole.rows[3 * PART_CHUNKS :]
    assert told[0] == 3 * PART_CHUNKS + 3
    assert tally == everything
    assert again.committed == whole.committed


def test_a_run_that_was_stopped_before_the_last_step_only_takes_that_step() -> None:
    whole = MemoryOutput()
    run(whole, PART_CHUNKS + 1)
    again = MemoryOutput(whole.committed)
    tally, told = run(again, PART_CHUNKS + 1)
    assert (again.rows, told, again.finished) == ([], [], True)
    assert tally.rows == 3 * (PART_CHUNKS + 1)


def test_an_input_without_rows_is_finished_without_parts() -> None:
    output = MemoryOutput()
    tally, _ = run(output, 0)
    assert (tally.rows, output.committed, output.finished) == (0, [], True)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_bug_on_one_message_costs_that_row_alone(contract: Contract) -> None:
    columns = decider(contract)([Item("a fine message"), Item("poison"), Item("another message")])
    assert columns["category"] == ["Other", None, "Other"]
    assert [error is None for error in columns["error"]] == [True, False, True]
    assert "report it" in columns["error"][1]


@pytest.mark.parametrize("contract", CONTRACTS)
def test_answers_have_the_promised_columns(contract: Contract) -> None:
    items = [Item("a fine message"), Item(None)]
    for columns in (decider(contract)(items), lost_chunk(items, contract=contract)):
        assert tuple(columns) == columns_of(contract)
        assert {len(values) for values in columns.values()} == {2}
    assert ("recommended_action" in columns_of(contract)) == (contract is Contract.DECISION)

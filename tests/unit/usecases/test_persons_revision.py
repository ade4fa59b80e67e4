"""A person's revision: what it takes over from what stood, what it never does, and who comes too late."""

import asyncio
from typing import Any

import orjson
import pytest
from virtual_time import after, run

from firstline.adapters.memory_feedback import MemoryFeedback
from firstline.adapters.memory_history import MemoryDataKeys, MemoryHistory
from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.sealing import Sealer
from firstline.adapters.system import SystemClock, SystemIdentities
from firstline.core.cascade import settle
from firstline.core.completion import Asked, Completion, Outcome
from firstline.core.feedback import Judgement
from firstline.core.message import Message, facts_of
from firstline.core.policy import Policy
from firstline.core.taxonomy import Contract, Decision, Priority
from firstline.core.verdict import Prediction, Verdict, evidence_from_data
from firstline.ports.journal import Record, VerdictRow
from firstline.ports.storage import AuditEntry
from firstline.usecases.access import ANONYMOUS, Caller
from firstline.usecases.feedback import Feedback
from firstline.usecases.in_force import InForce
from firstline.usecases.records import Keeping, ticket_row, verdict_row
from firstline.usecases.second_opinion import Decided, Request
from firstline.usecases.texts import AccountSeal, Texts
from firstline.usecases.verdict_store import VerdictStore

CALLER = Caller(ANONYMOUS)
POLICY = Policy()
UNDER = InForce(POLICY, POLICY.content_hash)
MESSAGE = Message("My dog ate the invoice and I need another one", Contract.DECISION)
PREDICTION = Prediction("m+1", {"Other": 0.9, "Payment Issue": 0.06, "Network Issue": 0.04}, "en")
WORDS = "Feed the dog"
COMPLETION = Completion("Payment Issue", Priority.HIGH, Decision.PRIORITY_RESPONSE, 0.2, "en", WORDS, WORDS)
ANSWER = Asked(Outcome.ANSWERED, "gemini", "small", COMPLETION)
NUMBER = "1" * 32


def verdict(asked: Asked | None) -> Verdict:
    return settle(facts_of(MESSAGE), (), PREDICTION, POLICY, rules_hash="r", policy_hash="p", asked=asked)


def row(asked: Asked | None) -> VerdictRow:
    return verdict_row(NUMBER, verdict(asked), CALLER, revision=1, decided_at_us=2, received_at_us=1)


class InForceForAll:
    """The default categories, whoever asks."""

    def cached(self, _account_id: str) -> InForce:
        return UNDER


async def stored(*verdicts: VerdictRow) -> MemoryStore:
    store = MemoryStore()
    await store.add_account(ANONYMOUS, None, AuditEntry("1", 1, "cli", "test", ANONYMOUS.id, None, {}))
    if verdicts:
        ticket = ticket_row(NUMBER, MESSAGE, verdict(None), CALLER, received_at_us=1, keeps_text=True)
        await store.append(Record(tickets=(ticket,), verdicts=verdicts))
    return store


def feedback_over(store: MemoryStore) -> Feedback:
    history: Any = MemoryHistory(store)
    in_force: Any = InForceForAll()
    return Feedback(MemoryFeedback(store), history, in_force, clock=SystemClock(), identities=SystemIdentities())


async def judged(first: VerdictRow, judgement: Judgement) -> VerdictRow:
    """The revision that a judgement adds to a first one."""
    store = await stored(first)
    found = await feedback_over(store).give(CALLER, NUMBER, judgement)
    assert found.verdict is not None
    return found.verdict


async def seal() -> AccountSeal:
    texts = Texts(
        MemoryDataKeys(),
        sealing=Sealer(["secret"], purpose="texts"),
        open_keys=lambda keys: Sealer(keys, purpose="texts"),
        new_key=lambda: bytes(32),
        clock=SystemClock(),
    )
    found = await texts.seal_of(ANONYMOUS.id)
    assert found is not None
    return found


@pytest.mark.parametrize("sealed", [False, True])
def test_no_word_of_a_provider_gets_into_a_persons_revision(sealed: bool) -> None:
    async def work() -> None:
        first = row(ANSWER)
        assert WORDS in first.recommended_action
        added = await judged((await seal()).verdict(first) if sealed else first, Judgement(priority=Priority.CRITICAL))
        assert WORDS not in str(added)
        assert 1 <= len(added.recommended_action) <= 500
        assert (await seal()).verdict(added) == added

    asyncio.run(work())


def test_what_firstline_recommended_stays_where_the_decision_does() -> None:
    async def work() -> None:
        legal = row(None)._replace(decision="immediate_escalation", recommended_action="Hand this to the legal team.")
        same = await judged(legal, Judgement(category="Payment Issue"))
        assert same.recommended_action == "Hand this to the legal team."
        lower = await judged(legal, Judgement(decision=Decision.STANDARD_RESPONSE))
        assert "legal" not in lower.recommended_action
        higher = await judged(row(None), Judgement(decision=Decision.IMMEDIATE_ESCALATION))
        assert "Escalate at once" in higher.recommended_action
        moved = await judged(row(None), Judgement(category="Network Issue"))
        assert "network support" in moved.recommended_action

    asyncio.run(work())


def test_a_persons_evidence_cannot_be_settled_and_says_why() -> None:
    async def work() -> None:
        added = await judged(row(None), Judgement(category="Network Issue"))
        assert added.evidence is not None
        with pytest.raises(ValueError, match="what a person has said"):
            evidence_from_data(orjson.loads(added.evidence))

    asyncio.run(work())


@pytest.mark.parametrize("judgement", [Judgement(correct=True), Judgement(category="Network Issue")])
def test_an_answer_that_comes_after_a_person_is_overruled(judgement: Judgement) -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        store = await stored()
        outcomes: list[str] = []
        verdicts = VerdictStore(
            store,
            keeping=Keeping(),
            clock=SystemClock(),
            identities=SystemIdentities(),
            spending=None,
            on_fault=lambda error: (_ for _ in ()).throw(error),
            on_late=outcomes.append,
        )
        late: asyncio.Future[Asked] = asyncio.get_running_loop().create_future()
        timed_out = verdict(Asked(Outcome.TIMEOUT))
        assert not timed_out.needs_review
        request = Request(CALLER, UNDER, 1, 0.0)
        ((_, done),) = await verdicts.store([MESSAGE], [(0, Decided(timed_out, late))], request)
        await feedback_over(store).give(CALLER, done.ticket_id, judgement)
        late.set_result(ANSWER)
        await after(1.0)
        return outcomes, [one.source for _, one in sorted(store.verdicts.items())]

    assert run(scenario()) == (["overruled"], ["local", "person"])


def test_an_answer_that_comes_before_a_person_is_stored_and_then_corrected() -> None:
    async def scenario() -> list[tuple[str, str]]:
        store = await stored(row(Asked(Outcome.TIMEOUT)))
        late = row(ANSWER)._replace(revision=2)
        await store.append(Record(verdicts=(late,)))
        found = await feedback_over(store).give(CALLER, NUMBER, Judgement(category="Network Issue"))
        assert found.feedback.revision == 2
        assert found.feedback.judged_source == "provider"
        return [(one.source, one.category) for _, one in sorted(store.verdicts.items())][1:]

    assert asyncio.run(scenario())[-1] == ("person", "Network Issue")

"""What verdicts add to the counts, and what late answers move."""

import asyncio

from virtual_time import after, run

from firstline.adapters.system import SystemClock, SystemIdentities
from firstline.core.cascade import emergency_verdict, settle
from firstline.core.completion import Asked, Completion, Outcome
from firstline.core.message import Message, facts_of
from firstline.core.plans import Window, window_bounds
from firstline.core.policy import Policy
from firstline.core.rollups import UNTIMED
from firstline.core.taxonomy import Channel, Contract, Decision, Priority
from firstline.core.verdict import Prediction, Source
from firstline.ports.journal import Record, RollupDelta
from firstline.usecases.access import ANONYMOUS, Caller
from firstline.usecases.in_force import InForce
from firstline.usecases.records import Keeping, ticket_row, verdict_row
from firstline.usecases.rollups import counted, counted_now, moved
from firstline.usecases.second_opinion import Decided, Request
from firstline.usecases.verdict_store import VerdictStore

RECEIVED_US = 1_795_000_000_000_000
CALLER = Caller(ANONYMOUS)
MESSAGE = Message("Something is odd", Contract.DECISION, channel=Channel.CHAT)
POLICY = Policy()
PREDICTION = Prediction("m+1", {"Other": 0.5, "Payment Issue": 0.3, "Network Issue": 0.2}, "en")
LOCAL = settle(facts_of(MESSAGE), (), PREDICTION, POLICY, rules_hash="r", policy_hash="p")
ANSWER = Asked(
    Outcome.ANSWERED,
    "gemini",
    "small",
    Completion("Payment Issue", Priority.CRITICAL, Decision.IMMEDIATE_ESCALATION, 0.9, "en", "Call back.", "Charged."),
)


class ListingJournal:
    """Implements `ports.journal.Journal`; remembers what it was given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def append(self, record: Record) -> None:
        self.records.append(record)


def one(decided_at_us: int = RECEIVED_US + 5_000) -> RollupDelta:
    ticket = ticket_row("1" * 32, MESSAGE, LOCAL, CALLER, received_at_us=RECEIVED_US, keeps_text=True)
    row = verdict_row("1" * 32, LOCAL, CALLER, revision=1, decided_at_us=decided_at_us, received_at_us=RECEIVED_US)
    timed, untimed = counted(ticket, row), counted(ticket, row, timed=False)
    assert untimed == timed._replace(latency_class=UNTIMED, processing_us=0)
    return timed


def test_a_ticket_counts_once_in_the_hour_in_which_it_was_received() -> None:
    found = one()
    assert found.starts_at_us == window_bounds(Window.HOUR, RECEIVED_US)[0]
    assert (found.tickets, found.processing_us, found.channel, found.language) == (1, 5_000, "chat", "en")


def test_a_stored_ticket_counts_by_its_latest_verdict_with_the_time_of_the_first() -> None:
    now = one(RECEIVED_US + 80_000)
    ticket = ticket_row("1" * 32, MESSAGE, LOCAL, CALLER, received_at_us=RECEIVED_US, keeps_text=True)
    first, late = (
        verdict_row("1" * 32, LOCAL, CALLER, revision=number, decided_at_us=decided_us, received_at_us=RECEIVED_US)
        for number, decided_us in ((1, RECEIVED_US + 80_000), (2, RECEIVED_US * 2))
    )
    assert counted_now(ticket, first, late) == now
    with_job = ticket._replace(id=f"{RECEIVED_US // 1_000:012x}" + "7" * 20)
    assert counted_now(with_job, first, late) == now._replace(latency_class=UNTIMED, processing_us=0)
    at_once = first._replace(processing_us=900)
    assert counted_now(with_job, at_once, late).processing_us == 900


def test_moving_adds_nothing_up() -> None:
    now = one()
    row = verdict_row(
        "1" * 32, emergency_verdict(), CALLER, revision=2, decided_at_us=RECEIVED_US * 2, received_at_us=RECEIVED_US
    )
    taken, added = moved(now, row)
    for amount in ("tickets", "processing_us"):
        assert getattr(taken, amount) == -getattr(now, amount)
        assert getattr(added, amount) == getattr(now, amount)
    assert taken[:9] == now[:9]
    assert (added.source, added.reviews) == (Source.EMERGENCY, 1)
    assert added.latency_class == now.latency_class


def test_a_late_answer_moves_its_ticket_and_counts_none_again() -> None:
    async def scenario() -> list[Record]:
        journal = ListingJournal()
        store = VerdictStore(
            journal,
            keeping=Keeping(),
            clock=SystemClock(),
            identities=SystemIdentities(),
            spending=None,
            on_fault=lambda error: (_ for _ in ()).throw(error),
            on_late=lambda _: None,
        )
        late: asyncio.Future[Asked] = asyncio.get_running_loop().create_future()
        request = Request(CALLER, InForce(POLICY, POLICY.content_hash), RECEIVED_US, 0.0)
        await store.store([MESSAGE], [(0, Decided(LOCAL, late))], request)
        late.set_result(ANSWER)
        await after(1.0)
        return journal.records

    first, second = run(scenario())
    (now,) = first.rollups
    taken, added = second.rollups
    assert taken[:9] == now[:9]
    assert taken.tickets + added.tickets == 0
    assert added.source == "provider"
    assert added.decision == second.verdicts[0].decision == "immediate_escalation"

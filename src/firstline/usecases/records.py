"""What a request leaves behind: rows of tickets and verdicts, what it was charged, the use of its key."""

from dataclasses import dataclass, replace
from typing import Final

import orjson

from firstline.core.cascade import settle
from firstline.core.identity import TICKET
from firstline.core.message import Message
from firstline.core.plans import Granted, Plan, window_bounds
from firstline.core.policy import Policy
from firstline.core.taxonomy import Decision, Priority
from firstline.core.verdict import Reason, Source, Verdict, evidence_to_data
from firstline.ports.journal import CounterDelta, KeyUse, OutboxEvent, TicketRow, VerdictRow
from firstline.usecases.access import Caller

REVISED: Final = "ticket.revised"
"""Kind of the event that a later verdict on a ticket fires."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request was charged to: the windows of a plan, at a moment."""

    plan: Plan
    granted: Granted


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is stored of a ticket: nothing, the verdict, or the verdict and the text."""

    history: bool = True
    text: bool = True


def ticket_row(
    ticket_id: str, message: Message, verdict: Verdict, caller: Caller, *, received_at_us: int, keeps_text: bool
) -> TicketRow:
    """The ticket as it came in; without its text where that is not kept."""
    return TicketRow(
        id=ticket_id,
        account_id=caller.account.id,
        received_at_us=received_at_us,
        contract=message.contract.value,
        channel=message.channel.value if message.channel else None,
        language=verdict.language,
        text=message.text if keeps_text else None,
        customer_ref=message.customer_ref,
        external_id=message.external_id,
    )


def verdict_row(
    ticket_id: str, verdict: Verdict, caller: Caller, *, revision: int, decided_at_us: int, received_at_us: int
) -> VerdictRow:
    """One revision of a verdict."""
    evidence = orjson.dumps(evidence_to_data(verdict.evidence)).decode() if verdict.evidence else None
    return VerdictRow(
        ticket_id=ticket_id,
        revision=revision,
        account_id=caller.account.id,
        decided_at_us=decided_at_us,
        category=verdict.category,
        priority=verdict.priority.value,
        decision=verdict.decision.value,
        probability=verdict.probability,
        confidence=verdict.confidence,
        churn_risk=verdict.churn_risk,
        needs_review=int(verdict.needs_review),
        source=verdict.source.value,
        recommended_action=verdict.recommended_action,
        reasons=orjson.dumps([reason_to_data(reason) for reason in verdict.reasons]).decode(),
        evidence=evidence,
        processing_us=max(decided_at_us - received_at_us, 0),
    )


def without_words(verdict: Verdict, policy: Policy) -> Verdict:
    """The verdict as it may be kept where texts are not: a provider's words may repeat the message's."""
    evidence = verdict.evidence
    if evidence is None or evidence.asked is None or evidence.asked.completion is None:
        return verdict
    asked = replace(evidence.asked, completion=evidence.asked.completion.without_texts())
    wordless = settle(
        evidence.facts,
        evidence.matches,
        evidence.prediction,
        policy,
        rules_hash=evidence.rules,
        policy_hash=evidence.policy,
        asked=asked,
    )
    return replace(
        verdict,
        recommended_action=wordless.recommended_action,
        reasons=wordless.reasons + tuple(reason for reason in verdict.reasons if reason.code == "categories_pending"),
        evidence=wordless.evidence,
    )


def revised_event(
    event_id: str, ticket_id: str, before: Verdict, after: Verdict, caller: Caller, *, revision: int, at_us: int
) -> OutboxEvent:
    """That a ticket has another verdict; holds no word of its message."""
    payload = {
        "ticket": f"{TICKET}{ticket_id}",
        "revision": revision,
        "before": outline(before),
        "after": outline(after),
    }
    return OutboxEvent(event_id, caller.account.id, REVISED, orjson.dumps(payload).decode(), at_us)


def deltas(caller: Caller, charge: Charge) -> tuple[CounterDelta, ...]:
    """One request in each window of the plan."""
    return tuple(
        CounterDelta(
            caller.account.id,
            charge.plan.catalogue.value,
            window.value,
            *window_bounds(window, charge.granted.at_us),
            1,
        )
        for window, _ in charge.plan.windows
    )


def key_use(caller: Caller, at_us: int) -> KeyUse | None:
    """One use of the caller's key."""
    return KeyUse(caller.key.id, at_us, 1) if caller.key else None


def reason_to_data(reason: Reason) -> dict[str, object]:
    """A reason as plain data, as the store and the answers hold it."""
    if reason.rule is None:
        return {"code": reason.code, "text": reason.text}
    return {"code": reason.code, "text": reason.text, "rule": reason.rule, "spans": reason.spans}


def verdict_of(row: VerdictRow) -> Verdict:
    """A stored revision as events tell it: without its reasons and evidence."""
    return Verdict(
        category=row.category,
        priority=Priority(row.priority),
        decision=Decision(row.decision),
        probability=row.probability,
        confidence=row.confidence,
        churn_risk=row.churn_risk,
        recommended_action=row.recommended_action,
        needs_review=bool(row.needs_review),
        source=Source(row.source),
        language=None,
        reasons=(),
        evidence=None,
    )


def outline(verdict: Verdict) -> dict[str, object]:
    """A verdict as events tell it: without a word of its message."""
    return {
        "category": verdict.category,
        "priority": verdict.priority.value,
        "decision": verdict.decision.value,
        "source": verdict.source.value,
        "needs_review": verdict.needs_review,
    }

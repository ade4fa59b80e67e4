"""The chaos run notices what it looks for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from chaos.checks import Checks, Stored, check_history, check_job, check_quota, check_webhooks
from chaos.receiver import Endpoint
from chaos.traffic import Customer, Kind, Sent

DAY = 1_795_000_000_000_000


def row(ticket: str, text: str, *, review: bool = False) -> dict[str, object]:
    return {
        "id": ticket,
        "text": text,
        "decision": "standard_response",
        "needs_review": review,
        "external_id": f"row-{ticket}",
    }


def one_request(*, key: str = "", differing: int = 0) -> Customer:
    sent = Sent(Kind.CLASSIFY, b"", ("<0-0>",), key, ("tkt_1",), b"{}", differing=differing)
    return Customer("mixed", "acc_1", "", [sent])


WELL = Stored([row("tkt_1", "Help <0-0>")], {"classifier": {DAY: 1}})


def violations_of(customer: Customer, stored: Stored) -> str:
    checks = Checks()
    check_history(checks, customer, stored)
    return "; ".join(checks.violations)


def test_what_holds_is_no_violation() -> None:
    assert violations_of(one_request(), WELL) == ""


@pytest.mark.parametrize(
    ("stored", "wrong"),
    [
        (Stored([], WELL.ledger), "are not stored"),
        (Stored([*WELL.rows, *WELL.rows], WELL.ledger), "in the history twice"),
        (Stored([*WELL.rows, row("tkt_2", "Help <0-0>")], WELL.ledger), "became several tickets"),
        (Stored([*WELL.rows, row("tkt_2", "Help <9-9>")], WELL.ledger), "of nothing that was sent"),
        (Stored(WELL.rows, {"classifier": {DAY: 2}}), "requests charged"),
        (Stored(WELL.rows, {}), "requests charged"),
    ],
)
def test_what_is_lost_doubled_or_charged_wrongly_is_a_violation(stored: Stored, wrong: str) -> None:
    assert wrong in violations_of(one_request(), stored)


def test_a_repeat_that_is_answered_otherwise_is_a_violation() -> None:
    assert "answered otherwise" in violations_of(one_request(key="k", differing=1), WELL)


def test_a_batch_that_is_stored_in_part_is_a_violation() -> None:
    customer = Customer("mixed", "acc_1", "", [Sent(Kind.BATCH, b"", ("<0-0>", "<0-1>"))])
    assert "stored in part" in violations_of(customer, WELL)


@pytest.mark.parametrize(("charged", "held"), [(300, True), (304, True), (305, False)])
def test_a_quota_may_be_exceeded_by_what_was_on_its_way_and_no_more(charged: int, held: bool) -> None:
    checks = Checks()
    stored = Stored([], {"classifier": {DAY: charged}})
    check_quota(checks, one_request(), stored, limit=300, at_once=4)
    assert (not checks.violations) is held


def endpoint(*events: tuple[str, str, str]) -> Endpoint:
    found = Endpoint("/in", flaky=False)
    for event_id, kind, ticket in events:
        found.accepted[event_id] = {"type": kind, "data": {"ticket": ticket}}
        found.tried[ticket].append(event_id)
    return found


CLASSIFIED = ("evt_1", "ticket.classified", "tkt_1")
REVIEW = ("evt_2", "ticket.needs_review", "tkt_1")


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (endpoint(CLASSIFIED, REVIEW), ""),
        (endpoint(CLASSIFIED), "never delivered"),
        (endpoint(CLASSIFIED, REVIEW, ("evt_3", "ticket.classified", "tkt_1")), "doubled"),
        (endpoint(CLASSIFIED, REVIEW, ("evt_3", "ticket.classified", "tkt_9")), "about nothing stored"),
        (endpoint(REVIEW, CLASSIFIED), "out of order"),
    ],
)
def test_events_that_are_missing_doubled_or_out_of_order_are_a_violation(found: Endpoint, wrong: str) -> None:
    checks = Checks()
    check_webhooks(checks, Stored([row("tkt_1", "Help <0-0>", review=True)], {}), [found], pending=0)
    assert wrong in "; ".join(checks.violations)
    assert bool(checks.violations) is bool(wrong)


@pytest.mark.parametrize(
    ("results", "tickets", "charged", "wrong"),
    [
        ((1, 2), (1, 2), 2, ""),
        ((1,), (1,), 2, "exactly one result"),
        ((1, 2, 2), (1, 2), 2, "exactly one result"),
        ((1, 2), (1,), 2, "in the results or in the history alone"),
        ((1, 2), (1, 2, 2), 2, "in the history twice"),
        ((1, 2), (1, 2), 3, "rows charged"),
    ],
)
def test_rows_that_are_lost_doubled_or_charged_twice_are_a_violation(
    results: tuple[int, ...], tickets: tuple[int, ...], charged: int, wrong: str
) -> None:
    checks = Checks()
    told = Endpoint("/job", flaky=False, accepted={"evt_1": {"type": "job.finished", "data": {"job": "job_1"}}})
    stored = Stored([row(f"tkt_{one}", "") for one in tickets], {"classifier": {DAY: charged}})
    lines = [{"row": one, "ticket": f"tkt_{one}", "error": None} for one in results]
    check_job(checks, {"state": "finished", "done": 2, "failed": 0}, lines, stored, told, rows=2)
    assert wrong in "; ".join(checks.violations)
    assert bool(checks.violations) is bool(wrong)

"""What must hold afterwards, whatever died: each check counts, and says what it found wrong."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from chaos.receiver import Endpoint
from chaos.traffic import Customer, Kind, Sent

SHOWN: Final = 3
"""Of what is wrong, so many are shown."""

_CATALOGUES: Final = {Kind.CLASSIFY: "classifier", Kind.BATCH: "classifier", Kind.DECISION: "decision"}
_ESCALATION: Final = "immediate_escalation"


@dataclass(slots=True)
class Checks:
    """The result: lines of figures, and violations."""

    figures: list[tuple[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def figure(self, name: str, value: object) -> None:
        """Something counted."""
        self.figures.append((name, f"{value:,}" if isinstance(value, int) else str(value)))

    def none_of(self, found: Iterable[object], wrong: str) -> None:
        """Nothing may be found.

        Args:
            wrong: what it is called if there is something.
        """
        cases = list(found)
        if cases:
            self.violations.append(f"{len(cases):,} {wrong}: {', '.join(str(case) for case in cases[:SHOWN])}")

    def equal(self, have: int, want: int, wrong: str) -> None:
        """Two counts are the same."""
        if have != want:
            self.violations.append(f"{wrong}: {have:,} instead of {want:,}")


@dataclass(slots=True)
class Stored:
    """The history of an account as its export shows it, and its ledger."""

    rows: Sequence[Mapping[str, Any]]
    ledger: Mapping[str, Mapping[int, int]]

    @property
    def by_mark(self) -> dict[str, list[str]]:
        """Ids of tickets by the mark in their text."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            found.setdefault(row["text"].rpartition(" ")[2], []).append(row["id"])
        return found


def ledger_of(url: str, account_id: str) -> dict[str, dict[int, int]]:
    """Requests charged, by catalogue and UTC day."""
    with closing(psycopg.connect(url)) as connection:
        rows = connection.execute(
            "SELECT catalogue, starts_at_us, requests FROM usage WHERE account_id = %s AND \"window\" = 'day'",
            (account_id.removeprefix("acc_"),),
        ).fetchall()
    found: dict[str, dict[int, int]] = {}
    for catalogue, starts_at_us, requests in rows:
        found.setdefault(catalogue, {})[starts_at_us] = requests
    return found


def check_history(checks: Checks, customer: Customer, stored: Stored) -> None:
    """Acknowledged = stored, each once; a key takes effect once; the ledger counts what is stored."""
    answered = [one for one in customer.sent if one.answer is not None]
    acknowledged = [ticket for one in answered for ticket in one.ids]
    times, by_mark = Counter(row["id"] for row in stored.rows), stored.by_mark
    name = customer.name
    checks.figure(f"{name}: requests / answered 200", f"{len(customer.sent):,} / {len(answered):,}")
    checks.figure(f"{name}: tickets acknowledged / stored", f"{len(acknowledged):,} / {len(stored.rows):,}")
    checks.none_of((one for one in acknowledged if not times[one]), f"acknowledged tickets of {name} are not stored")
    checks.none_of((one for one, count in times.items() if count > 1), f"tickets of {name} are in the history twice")
    checks.none_of((one for one, count in Counter(acknowledged).items() if count > 1), "ids were given twice")
    checks.none_of(
        (mark for mark, ids in by_mark.items() if len(ids) > 1), f"messages of {name} became several tickets"
    )
    checks.none_of(
        (one.marks for one in answered if [by_mark.get(mark, [""])[0] for mark in one.marks] != list(one.ids)),
        f"answers of {name} name other tickets than those stored",
    )
    sent = {mark for one in customer.sent for mark in one.marks}
    checks.none_of((mark for mark in by_mark if mark not in sent), f"tickets of {name} are of nothing that was sent")
    checks.none_of(
        (one.marks for one in customer.sent if 0 < sum(mark in by_mark for mark in one.marks) < len(one.marks)),
        f"batches of {name} are stored in part",
    )
    if any(one.key for one in customer.sent):
        checks.figure(f"{name}: repeats of keyed requests", sum(one.repeats for one in answered))
        checks.none_of((one.key for one in answered if one.differing), "repeats were answered otherwise")
    _check_ledger(checks, customer, stored, by_mark)


def _check_ledger(checks: Checks, customer: Customer, stored: Stored, by_mark: Mapping[str, Sequence[str]]) -> None:
    effects: Counter[str] = Counter()
    for one in customer.sent:
        if _took_effect(one, by_mark):
            effects[_CATALOGUES[one.kind]] += 1
    for catalogue, want in sorted(effects.items()):
        have = sum(stored.ledger.get(catalogue, {}).values())
        checks.equal(have, want, f"requests charged to {customer.name}, {catalogue}")


def _took_effect(one: Sent, by_mark: Mapping[str, Sequence[str]]) -> bool:
    return any(mark in by_mark for mark in one.marks)


def check_quota(checks: Checks, customer: Customer, stored: Stored, *, limit: int, at_once: int) -> None:
    """The ledger of no day is over the limit by more than what was on its way at once."""
    most = max(stored.ledger.get("classifier", {}).values(), default=0)
    checks.figure(f"{customer.name}: most requests charged in a day / its quota", f"{most:,} / {limit:,}")
    if most > limit + at_once:
        checks.violations.append(f"{customer.name} was charged {most:,} requests of {limit:,}, {at_once} at once")


def check_job(
    checks: Checks,
    job: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    stored: Stored,
    endpoint: Endpoint,
    *,
    rows: int,
) -> None:
    """Every row is decided once, stored once and charged once, and its end is told."""
    checks.figure("job: rows / done / failed", f"{rows:,} / {job['done']:,} / {job['failed']:,}")
    if job["state"] != "finished":
        checks.violations.append(f"the job is {job['state']} with {job['done']:,} rows of {rows:,}")
        return
    numbers = Counter(result["row"] for result in results)
    checks.none_of((one for one in range(1, rows + 1) if numbers[one] != 1), "rows have not exactly one result")
    checks.equal(len(results), rows, "results of the job")
    checks.none_of((result["row"] for result in results if result.get("error")), "rows have an error")
    tickets = {result["ticket"] for result in results}
    ids = [row["id"] for row in stored.rows]
    checks.equal(len(ids), rows, "tickets of the job in the history")
    checks.none_of(tickets.symmetric_difference(ids), "tickets are in the results or in the history alone")
    times = Counter(row["external_id"] for row in stored.rows)
    checks.none_of((one for one, count in times.items() if count > 1), "rows are in the history twice")
    checks.equal(sum(stored.ledger.get("classifier", {}).values()), rows, "rows charged")
    told = [event for event in endpoint.accepted.values() if event["type"] == "job.finished"]
    checks.equal(len(told), 1, "events about the end of the job")


def check_webhooks(checks: Checks, stored: Stored, endpoints: Sequence[Endpoint], pending: int) -> None:
    """Every event of every stored ticket arrived at every endpoint, signed, in order."""
    wanted = Counter(one for row in stored.rows for one in _events_of(row))
    for endpoint in endpoints:
        got = Counter((event["data"]["ticket"], event["type"]) for event in endpoint.accepted.values())
        name = endpoint.path
        checks.figure(f"{name}: events / deliveries / accepted again", _of_endpoint(endpoint))
        checks.figure(
            f"{name}: answers", ", ".join(f"{mood} {count:,}" for mood, count in endpoint.moods.most_common())
        )
        checks.none_of((wanted - got).elements(), f"events were never delivered to {name}")
        checks.none_of((got - wanted).elements(), f"events that {name} got are about nothing stored, or doubled")
        checks.equal(endpoint.unordered, 0, f"tickets whose events came to {name} out of order")
    checks.equal(sum(endpoint.forged for endpoint in endpoints), 0, "deliveries with a wrong signature")
    checks.equal(pending, 0, "deliveries still pending")


def _of_endpoint(endpoint: Endpoint) -> str:
    return f"{len(endpoint.accepted):,} / {sum(endpoint.attempts.values()):,} / {endpoint.repeats:,}"


def _events_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    kinds = ["ticket.classified"]
    if row["decision"] == _ESCALATION:
        kinds.append("ticket.escalated")
    if row["needs_review"]:
        kinds.append("ticket.needs_review")
    return [(row["id"], kind) for kind in kinds]


def check_database(checks: Checks, url: str) -> None:
    """No verdict without its ticket, and none the other way round."""
    with closing(psycopg.connect(url)) as connection:
        for wrong, statement in (
            ("tickets without a verdict", "SELECT id FROM tickets EXCEPT SELECT ticket_id FROM verdicts"),
            (
                "verdicts without a ticket",
                "SELECT ticket_id FROM verdicts EXCEPT SELECT id FROM tickets",
            ),
            ("tickets with several verdicts", "SELECT ticket_id FROM verdicts GROUP BY 1 HAVING count(*) > 1"),
        ):
            checks.none_of((row[0] for row in connection.execute(statement.encode()).fetchall()), wrong)


def pending_deliveries(url: str) -> int:
    """Events and deliveries that have not ended."""
    with closing(psycopg.connect(url)) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM webhook_deliveries WHERE state = 'pending')"
        ).fetchone()
    return int(row[0]) if row else 0

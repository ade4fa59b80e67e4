"""What both contracts answer of a verdict, and how it is counted."""

from typing import Any

from firstline.adapters.telemetry import Metrics
from firstline.core.identity import TICKET
from firstline.core.taxonomy import Contract
from firstline.core.verdict import Verdict
from firstline.usecases.tickets import Triaged, reason_to_data


def shared_members(done: Triaged) -> dict[str, Any]:
    """The members that firstline adds to both contracts."""
    verdict = done.verdict
    return {
        "id": f"{TICKET}{done.ticket_id}",
        "subcategory": verdict.subcategory,
        "probability": round(verdict.probability, 4),
        "needs_review": verdict.needs_review,
        "source": verdict.source.value,
        "language": verdict.language,
        "reasons": [reason_to_data(reason) for reason in verdict.reasons],
    }


def count(metrics: Metrics, contract: Contract, verdict: Verdict, *, known: frozenset[str]) -> None:
    """Count a verdict; a category outside `known` counts as `custom`, so that labels stay bounded."""
    category = verdict.category if verdict.category in known else "custom"
    metrics.count_verdict(contract.value, category, verdict.source.value, verdict.decision.value)
    if verdict.needs_review:
        metrics.reviews.labels(contract.value).inc()
    if verdict.evidence is not None and verdict.evidence.matches:
        for signal in {match.signal for match in verdict.evidence.matches if match.signal}:
            metrics.signals.labels(signal.value).inc()

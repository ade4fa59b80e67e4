"""What both contracts answer of a verdict, and how it is counted."""

from typing import Any, Final

from firstline.adapters.telemetry import Metrics
from firstline.bootstrap import App
from firstline.core.completion import Outcome
from firstline.core.identity import TICKET
from firstline.core.taxonomy import Contract
from firstline.core.verdict import Verdict
from firstline.delivery.http.schemas import AskingFields
from firstline.usecases.records import reason_to_data
from firstline.usecases.second_opinion import AS_SET, Asks
from firstline.usecases.verdict_store import Triaged

MICROS: Final = 1_000_000


def shared_members(done: Triaged) -> dict[str, Any]:
    """The members that firstline adds to both contracts."""
    verdict = done.verdict
    return {
        "id": f"{TICKET}{done.ticket_id}",
        "subcategory": verdict.subcategory,
        "probability": round(verdict.probability, 4),
        "needs_review": verdict.needs_review,
        "source": verdict.source.value,
        "provider": provider_of(verdict),
        "language": verdict.language,
        "reasons": [reason_to_data(reason) for reason in verdict.reasons],
    }


def asks_of(found: AskingFields) -> Asks:
    """What a request says about providers."""
    if found.ai_mode is None and found.ai_timeout_seconds is None:
        return AS_SET
    return Asks(found.ai_mode, found.ai_timeout_seconds)


def provider_of(verdict: Verdict) -> str:
    """Who has answered: `local`, a provider's name, or why one that was needed has not: `timeout`, `failed`."""
    asked = verdict.evidence.asked if verdict.evidence else None
    if asked is None or asked.outcome is Outcome.BUDGET:
        return "local"
    if asked.provider is not None:
        return asked.provider
    return "timeout" if asked.outcome is Outcome.TIMEOUT else "failed"


async def spent_member(app: App, account_id: str) -> dict[str, Any]:
    """What providers have cost an account, for the answers on usage; nothing where there are none.

    Raises: StorageUnavailable.
    """
    if not app.asking.configured:
        return {}
    spent = await app.spending.spent(account_id)
    return {
        "providers": {
            "spent_today_usd": spent.today_micros / MICROS,
            "spent_this_month_usd": spent.month_micros / MICROS,
        }
    }


def count(metrics: Metrics, contract: Contract, verdict: Verdict, *, known: frozenset[str]) -> None:
    """Count a verdict; a category outside `known` counts as `custom`, so that labels stay bounded."""
    category = verdict.category if verdict.category in known else "custom"
    metrics.count_verdict(
        contract.value, category, verdict.source.value, verdict.decision.value, probability=verdict.probability
    )
    if verdict.needs_review:
        metrics.reviews.labels(contract.value).inc()
    if verdict.evidence is not None and verdict.evidence.matches:
        for signal in {match.signal for match in verdict.evidence.matches if match.signal}:
            metrics.signals.labels(signal.value).inc()

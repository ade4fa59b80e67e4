"""Events that accounts can be told of: their kinds, and the message that a receiver gets."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class EventKind(StrEnum):
    """What an endpoint may ask for."""

    CLASSIFIED = "ticket.classified"
    ESCALATED = "ticket.escalated"
    REVISED = "ticket.revised"
    NEEDS_REVIEW = "ticket.needs_review"
    JOB_FINISHED = "job.finished"
    QUOTA_WARNING = "quota.warning"
    PROVIDER_STATE = "provider.state_changed"


TEST_KIND: Final = "webhook.test"
"""Kind of the event that an account sends itself; reaches the endpoint whatever it asks for."""

WARNING_PERCENTS: Final = (80, 100)
"""Parts of a window's limit at which `quota.warning` fires."""


def event_message(kind: str, *, timestamp: str, data: Mapping[str, object]) -> dict[str, object]:
    """The body of a delivery, as the Standard Webhooks specification recommends.

    Args:
        timestamp: when it happened, ISO 8601 with Z.
    """
    return {"type": kind, "timestamp": timestamp, "data": data}


def reached_percent(*, used: int, limit: int) -> int | None:
    """The part of a limit that exactly this request has reached, or None.

    Args:
        used: requests of the window, this one included.
    """
    return next((percent for percent in reversed(WARNING_PERCENTS) if used == -(-limit * percent // 100)), None)


def subject_of(data: Mapping[str, object]) -> str | None:
    """What an event is about; events about the same thing keep their order."""
    found = data.get("ticket") or data.get("job")
    return found if isinstance(found, str) else None

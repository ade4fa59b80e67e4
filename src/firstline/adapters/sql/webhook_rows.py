"""Rows of endpoints and deliveries, from values and back."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from firstline.ports.webhooks import (
    Attempt,
    Delivery,
    DeliveryState,
    DisabledReason,
    Endpoint,
    EndpointState,
    SealedSecret,
)

MAX_LOGGED: Final = 20
"""Attempts kept of a delivery."""


def endpoint_row(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as its row."""
    secrets = [{"sealed": secret.sealed, "until_us": secret.until_us} for secret in endpoint.secrets]
    return {
        "id": endpoint.id,
        "account_id": endpoint.account_id,
        "url": endpoint.url,
        "description": endpoint.description,
        "kinds": orjson.dumps(endpoint.kinds).decode(),
        "secrets": orjson.dumps(secrets).decode(),
        "created_at_us": endpoint.created_at_us,
        "changed_at_us": endpoint.changed_at_us,
        "state": endpoint.state.value,
        "disabled_reason": endpoint.disabled_reason.value if endpoint.disabled_reason else None,
        "failing_since_us": endpoint.failing_since_us,
    }


def endpoint_of(row: Mapping[Any, Any]) -> Endpoint:
    """The inverse of `endpoint_row`."""
    reason = row["disabled_reason"]
    return Endpoint(
        id=row["id"],
        account_id=row["account_id"],
        url=row["url"],
        description=row["description"],
        kinds=tuple(orjson.loads(row["kinds"])),
        secrets=tuple(SealedSecret(**secret) for secret in orjson.loads(row["secrets"])),
        created_at_us=row["created_at_us"],
        changed_at_us=row["changed_at_us"],
        state=EndpointState(row["state"]),
        disabled_reason=DisabledReason(reason) if reason else None,
        failing_since_us=row["failing_since_us"],
    )


def delivery_of(row: Mapping[Any, Any]) -> Delivery:
    """A delivery from its row and the kind of its event."""
    return Delivery(
        endpoint_id=row["endpoint_id"],
        event_id=row["event_id"],
        kind=row["kind"],
        subject=row["subject"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        created_at_us=row["created_at_us"],
        next_at_us=row["next_at_us"],
        log=tuple(Attempt(*entry) for entry in orjson.loads(row["log"])),
    )


def attempt_data(attempt: Attempt) -> list[Any]:
    """An attempt as it is kept in a delivery's log."""
    return [attempt.at_us, attempt.duration_us, attempt.status, attempt.error]

"""Parameters behind the path: each at most once, none that a route does not know."""

import base64
import binascii
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from firstline.core.plans import MICROSECONDS
from firstline.delivery.http.own_settings_v1 import invalid

_Query = TypeVar("_Query", bound=BaseModel)
_SHOWN = 50


def asked(model: type[_Query], request: Request) -> _Query:
    """The parameters as a model of them, which forbids others.

    Raises: ErrorReply naming the one at fault.
    """
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise invalid(name[:_SHOWN], f"{name[:_SHOWN]}: given twice.")
        given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = str(fault["loc"][0])[:_SHOWN]
        if fault["type"] == "extra_forbidden":
            known = ", ".join(field.alias or own for own, field in model.model_fields.items())
            raise invalid(name, f"{name}: no parameter of this route; there are {known}.") from None
        raise invalid(name, f"{name}: {fault['msg'][:1].lower()}{fault['msg'][1:]}.") from None


def moment(field: str, text: str) -> int:
    """A moment in microseconds since 1970 UTC; one without an offset is UTC.

    Raises: ErrorReply naming the field.
    """
    try:
        # A plus that was not encoded arrives as a space; no moment has one before its offset.
        found = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        return int(aware.timestamp() * MICROSECONDS)
    except (ValueError, OverflowError):
        raise invalid(field, f"{field}: no moment such as 2026-11-22 or 2026-11-22T14:30:00Z.") from None


def cursor_of(raw: bytes) -> str:
    """Where a page goes on, as `next` says it."""
    return base64.urlsafe_b64encode(raw).decode()


def place_in(cursor: str, *, size: int) -> bytes:
    """What `cursor_of` was made of: `size` bytes, which begin with a moment in microseconds since 1970 UTC.

    Raises: ErrorReply when it is of no page.
    """
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != size or raw[0] > 0x7F:
        raise invalid("cursor", "cursor: not the `next` of a page.")
    return raw

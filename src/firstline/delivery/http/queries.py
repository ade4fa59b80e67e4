"""Parameters behind the path: each at most once, none that a route does not know."""

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
            known = ", ".join(model.model_fields)
            raise invalid(name, f"{name}: no parameter of this route; there are {known}.") from None
        raise invalid(name, f"{name}: {fault['msg'][:1].lower()}{fault['msg'][1:]}.") from None


def moment(field: str, text: str) -> int:
    """A moment in microseconds since 1970 UTC; one without an offset is UTC.

    Raises: ErrorReply naming the field.
    """
    try:
        found = datetime.fromisoformat(text)
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        return int(aware.timestamp() * MICROSECONDS)
    except (ValueError, OverflowError):
        raise invalid(field, f"{field}: no moment such as 2026-11-22 or 2026-11-22T14:30:00Z.") from None

"""An account's own categories and thresholds: `/v1/categories` and `/v1/thresholds`."""

import asyncio
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from firstline.bootstrap import App
from firstline.core.categories import CategoriesInvalid, CategorySet, OwnCategory
from firstline.core.errors import (
    MALFORMED_JSON,
    STORE_UNAVAILABLE,
    TRAINING_FAILED,
    VALIDATION_FAILED,
    VERSION_CHANGED,
)
from firstline.core.message import trimmed
from firstline.core.policy import Threshold
from firstline.delivery.http.bodies import MAX_BODY_BYTES, JsonInvalid, parse_json, read_body
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import uncharged
from firstline.delivery.http.classifier_v1 import iso
from firstline.delivery.http.own_settings_schemas import CategoriesRequest, ThresholdsRequest
from firstline.delivery.http.replies import ErrorReply, json_reply
from firstline.learning.custom import Advice
from firstline.ports.storage import StorageUnavailable, VersionChanged
from firstline.ports.trainer import TrainingFailed
from firstline.usecases.in_force import InForce
from firstline.usecases.thresholds import ThresholdsInvalid

MAX_CATEGORIES_BYTES: Final = 8 << 20
RETRY_S: Final = 60

_Model = TypeVar("_Model", bound=BaseModel)


class OwnSettingsV1:
    """Handlers of the routes by which an account shapes its own triage."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app = app
        self._callers = callers

    async def categories(self, request: Request) -> Response:
        """The categories in force, with their examples."""
        return _categories_reply(await self._in_force(request), examples=True)

    async def put_categories(self, request: Request) -> Response:
        """Train categories and put them in force in place of all that were."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        body = await read_body(request, limit=MAX_CATEGORIES_BYTES)
        wanted = await asyncio.to_thread(_category_set, body)
        try:
            found = await self._app.categories.put(caller, wanted, expected=expected_versions(request))
        except CategoriesInvalid as error:
            raise invalid(error.field, f"{error}.") from None
        except VersionChanged:
            raise ErrorReply(VERSION_CHANGED) from None
        except TrainingFailed as error:
            self._app.log.error("training_failed", problem=str(error))
            raise ErrorReply(TRAINING_FAILED, headers={"Retry-After": str(RETRY_S)}) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        return _categories_reply(found, examples=False)

    async def thresholds(self, request: Request) -> Response:
        """The thresholds in force."""
        return _thresholds_reply(await self._in_force(request))

    async def put_thresholds(self, request: Request) -> Response:
        """Put thresholds in force in place of all that were."""
        caller = await uncharged(request, app=self._app, callers=self._callers)
        given = validated(ThresholdsRequest, await read_body(request, limit=MAX_BODY_BYTES))
        wanted = [Threshold(entry.category, entry.language, entry.probability) for entry in given.thresholds]
        try:
            found = await self._app.categories.put_thresholds(caller, wanted, expected=expected_versions(request))
        except ThresholdsInvalid as error:
            raise invalid(error.field, f"{error}.") from None
        except VersionChanged:
            raise ErrorReply(VERSION_CHANGED) from None
        except StorageUnavailable:
            raise store_failed(self._app) from None
        return _thresholds_reply(found)

    async def _in_force(self, request: Request) -> InForce:
        caller = await uncharged(request, app=self._app, callers=self._callers)
        try:
            return await self._app.categories.get(caller)
        except StorageUnavailable:
            raise store_failed(self._app) from None


def _categories_reply(found: InForce, *, examples: bool) -> Response:
    if found.categories is None:
        shown = [OwnCategory(category.name, "", category.priority) for category in found.taxonomy]
    else:
        shown = list(found.categories.categories)
    categories = []
    for category in shown:
        entry: dict[str, Any] = {
            "name": category.name,
            "description": category.description,
            "priority": category.priority.value,
            "examples_count": len(category.examples),
        }
        if examples:
            entry["examples"] = category.examples
        categories.append(entry)
    body = {
        "version": found.categories_version,
        "categories": categories,
        "trained_at": iso(found.categories_at_us) if found.categories_at_us is not None else None,
        "advice": [_advice_data(advice) for advice in (*found.advice, *_unused(found))],
        "model": found.model_name,
        "pending": found.pending,
    }
    return json_reply(body, headers={"ETag": f'"{found.categories_version}"'})


def _thresholds_reply(found: InForce) -> Response:
    body = {
        "version": found.thresholds_version,
        "thresholds": [
            {"category": threshold.category, "language": threshold.language, "probability": threshold.probability}
            for threshold in found.policy.thresholds
        ],
        "changed_at": iso(found.thresholds_at_us) if found.thresholds_at_us is not None else None,
    }
    return json_reply(body, headers={"ETag": f'"{found.thresholds_version}"'})


def _unused(found: InForce) -> list[Advice]:
    """Advice on thresholds that name a category that is gone."""
    names = {category.name for category in found.taxonomy}
    gone = sorted({one.category for one in found.policy.thresholds if one.category and one.category not in names})
    return [
        Advice("unused_threshold", f"A threshold names {name}, which is no category any more.", (name,))
        for name in gone
    ]


def _advice_data(advice: Advice) -> dict[str, Any]:
    return {
        "code": advice.code,
        "text": advice.text,
        "categories": advice.categories,
        "example": advice.example,
    }


def _category_set(body: bytes) -> CategorySet:
    given = validated(CategoriesRequest, body)
    return CategorySet(
        tuple(
            OwnCategory(
                entry.name.strip(),
                entry.description.strip(),
                entry.priority,
                tuple(trimmed(example) for example in entry.examples),
            )
            for entry in given.categories
        )
    )


def expected_versions(request: Request) -> frozenset[str] | None:
    """The versions that If-Match names; None without it, and for `*`."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    return frozenset(part.strip().removeprefix('"').removesuffix('"') for part in header.split(","))


def validated(model: type[_Model], body: bytes) -> _Model:
    """A body as a model of it.

    Raises: ErrorReply naming the field at fault.
    """
    try:
        data = parse_json(body)
    except JsonInvalid as error:
        raise ErrorReply(MALFORMED_JSON, f"The request could not be read: {error}.") from None
    if not isinstance(data, dict):
        raise invalid("body", "The body must be a JSON object.")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
        text = fault["msg"].removeprefix("Value error, ")
        raise invalid(field, f"{field}: {text[:1].lower()}{text[1:]}.") from None


def store_failed(app: App) -> ErrorReply:
    """503, counted."""
    app.metrics.store_failures.inc()
    return ErrorReply(STORE_UNAVAILABLE, "The store cannot be used, and nothing was changed. Try again soon.")


def invalid(field: str, message: str) -> ErrorReply:
    """422 for a field."""
    return ErrorReply(VALIDATION_FAILED, message, extra={"field": field})

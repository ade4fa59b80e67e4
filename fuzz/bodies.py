"""Targets that read what callers send as JSON: bodies of both contracts, of jobs, of settings, of categories."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import BaseModel

from firstline.core.asking import MAX_TIMEOUT_S, MIN_TIMEOUT_S
from firstline.core.categories import (
    MAX_CATEGORIES,
    MAX_EXAMPLES_IN_ALL,
    CategoriesInvalid,
    CategorySet,
    OwnCategory,
    check,
    from_data,
    to_data,
)
from firstline.core.message import MAX_HISTORY, MAX_REFERENCE_LENGTH, MAX_TEXT_LENGTH
from firstline.delivery.http import classifier_bodies, own_settings_v1
from firstline.delivery.http.bodies import MAX_DEPTH, JsonInvalid, parse_json
from firstline.delivery.http.feedback_schemas import FeedbackRequest
from firstline.delivery.http.history_schemas import RetentionRequest
from firstline.delivery.http.own_settings_schemas import CategoriesRequest, ProvidersRequest, ThresholdsRequest
from firstline.delivery.http.replies import ErrorReply
from firstline.delivery.http.schemas import BatchRequest, ClassifyRequest, DecisionRequest, NewKeyRequest
from firstline.delivery.http.webhook_schemas import ReplayRequest, RotateRequest, WebhookChangeRequest, WebhookRequest
from fuzz.target import Draw, Target, messages, refusals

_MARK: Final = "zq7fuzzq7z"
"""Put into texts and looked for in errors, which must not repeat what was sent."""

_OTHERS: Final[tuple[type[BaseModel], ...]] = (
    CategoriesRequest, ThresholdsRequest, ProvidersRequest, FeedbackRequest, RetentionRequest, WebhookRequest,
    WebhookChangeRequest, RotateRequest, ReplayRequest, NewKeyRequest,
)  # fmt: skip


def read_json(data: bytes) -> None:
    """What is read is within the bounds and is what others read; what is refused is `JsonInvalid`."""
    with refusals(JsonInvalid):
        found = parse_json(data)
        assert _depth(found) <= MAX_DEPTH
        for value in _leaves(found):
            if isinstance(value, int) and not isinstance(value, bool):
                assert -(2**63) <= value < 2**64, "a number beyond 64 bits"
            elif isinstance(value, float):
                assert value - value == 0, "no number"
            elif isinstance(value, str):
                value.encode()  # fails for halves of surrogate pairs
        assert found == json.loads(data.decode("utf-8-sig")), "another reader reads something else"
        assert parse_json(json.dumps(found).encode()) == found, "what was read does not come back"


def read_classifier_body(data: bytes) -> None:
    """A ticket or a batch within its bounds, or an answer of 400 that repeats nothing."""
    try:
        found = parse_json(data)
    except JsonInvalid:
        return
    for model in (ClassifyRequest, BatchRequest):
        try:
            body = classifier_bodies.validated(model, found)
        except ErrorReply as reply:
            _check_reply(reply, 400)
            continue
        if isinstance(body, ClassifyRequest):
            _check_text(body.ticket)
            _check_references(body.customer_ref, body.external_id)
        if isinstance(body, BatchRequest):
            assert body.tickets
        seconds = body.ai_timeout_seconds
        assert seconds is None or MIN_TIMEOUT_S <= seconds <= MAX_TIMEOUT_S


def read_decision_body(data: bytes) -> None:
    """A message within its bounds, or an answer of 4xx that repeats nothing."""
    try:
        body = own_settings_v1.validated(DecisionRequest, data)
    except ErrorReply as reply:
        _check_reply(reply, 400, 422)
        return
    _check_text(body.message)
    assert len(body.history) <= MAX_HISTORY
    for entry in body.history:
        assert len(entry) <= MAX_TEXT_LENGTH
    _check_references(body.customer_ref, body.external_id)


def read_other_body(data: bytes) -> None:
    """The bodies of settings, feedback, webhooks and keys: read or refused with 4xx; what is read can be told."""
    draw = Draw(data)
    model = _OTHERS[draw.number(len(_OTHERS))]
    try:
        found = own_settings_v1.validated(model, draw.rest())
    except ErrorReply as reply:
        _check_reply(reply, 400, 422)
        return
    found.model_dump_json()


def read_categories(data: bytes) -> None:
    """Own categories within their bounds, under a name that only their content makes; or a field that is named."""
    try:
        given = own_settings_v1.validated(CategoriesRequest, data)
    except ErrorReply as reply:
        _check_reply(reply, 400, 422)
        return
    found = CategorySet(
        tuple(
            OwnCategory(one.name.strip(), one.description.strip(), one.priority, tuple(one.examples))
            for one in given.categories
        )
    )
    try:
        check(found)
    except CategoriesInvalid as error:
        assert error.field.startswith("categories")
        assert _MARK not in str(error)
        return
    assert 2 <= len(found.categories) <= MAX_CATEGORIES
    assert sum(len(one.examples) for one in found.categories) <= MAX_EXAMPLES_IN_ALL
    assert len({one.name.casefold() for one in found.taxonomy}) == len(found.taxonomy), "two categories of one name"
    again = from_data(json.loads(json.dumps(to_data(found))))
    assert again == found
    assert again.version == found.version


def _check_reply(reply: ErrorReply, *statuses: int) -> None:
    assert reply.error.status in statuses, f"{reply.error.status} for a body"
    said = json.dumps([reply.message, reply.extra, reply.body], default=str)
    assert _MARK not in said, "an error repeats what was sent"
    assert len(said) < 20_000, f"an error of {len(said)} characters"


def _check_text(text: str) -> None:
    assert 1 <= len(text) <= MAX_TEXT_LENGTH
    assert text == text.strip()
    assert "\x00" not in text


def _check_references(*found: str | None) -> None:
    for one in found:
        assert one is None or (1 <= len(one) <= MAX_REFERENCE_LENGTH and "\n" not in one and "\x00" not in one)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def _json_seeds() -> Iterable[bytes]:
    return [
        b'{"a": [1, -2.5e3, true, null, "\\u00e9\\ud83d\\ude00"]}',
        b'\xef\xbb\xbf{"ticket": "hello"}',
        b"18446744073709551615",
        b"-9223372036854775809",
        b'{"a": 1, "a": 2}',
        b'"\\ud800"',
        b"[" * 65 + b"]" * 65,
        b"NaN",
        b"1e999",
    ]


def _ticket_seeds() -> Iterator[bytes]:
    for text in messages()[::10]:
        yield json.dumps({"ticket": text, "customer_ref": "c1", "ai_mode": "never", "ai_timeout_seconds": 2}).encode()
    yield json.dumps({"tickets": ["one", {"ticket": "two"}, 3], "external_id": _MARK}).encode()
    yield json.dumps({"ticket": f"\u200b{_MARK}\x00"}).encode()


def _decision_seeds() -> Iterator[bytes]:
    for text in messages()[::10]:
        body = {"message": text, "user_plan": "vip", "channel": "chat", "history": ["before"], "customer_ref": _MARK}
        yield json.dumps(body).encode()
    yield json.dumps({"message": _MARK, "history": [_MARK] * 51, "user_plan": _MARK}).encode()


def _other_seeds() -> Iterator[bytes]:
    bodies: tuple[Any, ...] = (
        _CATEGORIES,
        {"thresholds": [{"category": "Billing", "language": "en", "probability": 0.7}]},
        {"mode": "uncertain", "threshold": 0.8, "providers": [{"provider": "openai"}], "redaction_allow": [_MARK]},
        {"correct": False, "category": "Billing", "priority": "high", "author": "anna"},
        {"days": 30},
        {"url": "https://hooks.example.com/a", "events": ["ticket.classified"], "description": _MARK},
        {"enabled": False},
        {"overlap_seconds": 60},
        {"since": "2026-11-22T00:00:00Z"},
        {"name": "second"},
    )
    for number, body in enumerate(bodies):
        yield bytes([number]) + json.dumps(body).encode()


_CATEGORIES: Final = {
    "categories": [
        {"name": "Invoices", "description": _MARK, "priority": "high", "examples": ["Where is my invoice?"]},
        {"name": "Straße", "examples": [" x "]},
        {"name": "Other things"},
    ]
}
_WORDS: Final = (
    '"ticket":', '"tickets":', '"message":', '"history":', '"user_plan":', '"channel":', '"ai_mode":', "null",
    "\\u0000", "\\ud800", "1e400", "-0", '"categories":', '"examples":', '"probability":', _MARK,
)  # fmt: skip

_HTTP: Final = "delivery.http."
TARGETS: Final = (
    Target("json", "bounded, and what every other reader reads", (f"{_HTTP}bodies",), read_json, _json_seeds, _WORDS),
    Target(
        "classifier-body", "a ticket within bounds, or 400 that repeats nothing",
        (f"{_HTTP}classifier_bodies", f"{_HTTP}schemas"), read_classifier_body, _ticket_seeds, _WORDS,
    ),
    Target(
        "decision-body", "a message within bounds, or 4xx that repeats nothing", (f"{_HTTP}schemas",),
        read_decision_body, _decision_seeds, _WORDS,
    ),
    Target(
        "other-bodies", "read, or 4xx that repeats nothing",
        (
            f"{_HTTP}own_settings_schemas", f"{_HTTP}feedback_schemas", f"{_HTTP}history_schemas",
            f"{_HTTP}webhook_schemas",
        ),
        read_other_body, _other_seeds, _WORDS,
    ),
    Target(
        "categories", "own categories within bounds, named by their content",
        ("core.categories", f"{_HTTP}own_settings_schemas", "delivery.cli.evaluate"), read_categories,
        lambda: [json.dumps(_CATEGORIES).encode(), b'{"categories": []}'], _WORDS,
    ),
)  # fmt: skip
"""Of this module."""

"""What is sent, and which answers are right for it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Final

from load.messages import LONGEST, Messages

LARGEST_BATCH: Final = 10
"""What the free plan allows, so that every key will do."""

_OK: Final = frozenset({200})
_BAD: Final = frozenset({400, 422})


class Manner(StrEnum):
    """How a client behaves."""

    WAITS = "waits for its answer"
    LEAVES = "leaves before its answer"
    STOPS_HALFWAY = "leaves in the middle of its request"


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        kind: what it is called in the report.
        data: its bytes, head and body.
        expects: the statuses that are right for it. 429 is counted apart and never wrong.
    """

    kind: str
    data: bytes
    expects: frozenset[int] = _OK
    manner: Manner = Manner.WAITS


class Mix:
    """Draws requests.

    Args:
        classifier_keys: for the classifier contract; shared evenly.
        decision_keys: for the decision contract.
    """

    def __init__(
        self, messages: Messages, *, host: str, classifier_keys: Sequence[str], decision_keys: Sequence[str], seed: int
    ) -> None:
        self._messages = messages
        self._host = host
        self._classifier_keys = classifier_keys
        self._decision_keys = decision_keys
        self._draw = Random(seed)
        weighed: tuple[tuple[int, Callable[[], Request]], ...] = (
            (440, self._classify),
            (330, self._decide),
            (40, self._batch),
            (90, self._read),
            (80, self._mistake),
            (20, self._leave),
        )
        self._weights = [weight for weight, _ in weighed]
        self._makers = [maker for _, maker in weighed]

    def next(self) -> Request:
        """Another one."""
        return self._draw.choices(self._makers, self._weights)[0]()

    def _classify(self) -> Request:
        body: dict[str, Any] = {"ticket": self._messages.one(self._draw)}
        if self._draw.random() < 0.1:
            body["external_id"] = f"crm-{self._draw.randrange(10**9)}"
        return Request("classify", self._post("/api/v1/classify", body))

    def _decide(self) -> Request:
        draw = self._draw
        body: dict[str, Any] = {
            "message": self._messages.one(draw),
            "user_plan": draw.choices(("free", "pro", "enterprise"), (6, 3, 1))[0],
            "channel": draw.choices(("email", "chat", "review", "social"), (5, 3, 1, 1))[0],
        }
        if draw.random() < 0.25:
            body["history"] = [self._messages.one(draw) for _ in range(draw.randrange(1, 7))]
        return Request("decision", self._post("/v1/decision", body))

    def _batch(self) -> Request:
        tickets = [self._messages.one(self._draw) for _ in range(self._draw.randrange(2, LARGEST_BATCH + 1))]
        if self._draw.random() < 0.2:
            tickets[0] = ""
        return Request("batch", self._post("/api/v1/batch", {"tickets": tickets}))

    def _read(self) -> Request:
        paths = ("/api/v1/auth/usage", "/v1/usage", "/v1/tickets?limit=20", "/health", "/api/v1/health", "/v1/pricing")
        path = self._draw.choices(paths, (3, 3, 3, 1, 1, 1))[0]
        return Request("read", self._head("GET", path))

    def _leave(self) -> Request:
        request = self._classify()
        if self._draw.random() < 0.5:
            return Request("gone", request.data, manner=Manner.LEAVES)
        return Request("half", request.data[: -self._draw.randrange(1, 5)], manner=Manner.STOPS_HALFWAY)

    def _mistake(self) -> Request:
        classify, decision = "/api/v1/classify", "/v1/decision"
        mistakes: tuple[Callable[[], tuple[bytes, frozenset[int]]], ...] = (
            lambda: (self._post(classify, {"ticket": ""}), _BAD),
            lambda: (self._post(classify, {"ticket": "\u200b \u2060"}), _BAD),
            lambda: (self._post(classify, {"ticket": "x" * (LONGEST + 1)}), _BAD),
            lambda: (self._post(classify, {"ticket": ["a list"]}), _BAD),
            lambda: (self._post(classify, {"message": "the other contract's field"}), _BAD),
            lambda: (self._post(classify, b'{"ticket": "half a stri'), _BAD),
            lambda: (self._post(classify, b'{"ticket": "one", "ticket": "two"}'), _BAD),
            lambda: (self._post(classify, '{"ticket": "grüße"}'.encode("latin-1")), _BAD),
            lambda: (self._post(classify, b"[" * 500 + b"]" * 500), _BAD),
            lambda: (self._post(classify, b""), _BAD),
            lambda: (self._post(decision, {"message": "Is it open?", "channel": "pigeon"}), _BAD),
            lambda: (self._post(decision, {"message": "Is it open?", "history": ["again"] * 51}), _BAD),
            lambda: (self._post(classify, {"ticket": "who am I"}, key=""), frozenset({401})),
            lambda: (self._post(classify, {"ticket": "who am I"}, key="atc_" + "0" * 40), frozenset({401})),
            lambda: (self._head("GET", f"/api/v1/nothing-{self._draw.randrange(10**6)}"), frozenset({404})),
            lambda: (self._head("GET", classify), frozenset({405})),
        )
        data, expects = self._draw.choice(mistakes)()
        return Request("mistake", data, expects)

    def _post(self, path: str, body: dict[str, Any] | bytes, *, key: str | None = None) -> bytes:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._head("POST", path, length=len(data), key=key) + data

    def _head(self, method: str, path: str, *, length: int | None = None, key: str | None = None) -> bytes:
        if key is None:
            key = self._draw.choice(self._decision_keys if path.startswith("/v1/") else self._classifier_keys)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", "Content-Type: application/json"]
        if key:
            lines.append(f"X-API-Key: {key}")
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

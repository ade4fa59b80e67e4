"""Load, and an exact book of what was sent and what was answered."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any, Final

import httpx2
import orjson
from bench.texts import tickets

BATCH: Final = 5
TIMEOUT_S: Final = 15.0
PATIENCE_S: Final = 90.0
"""How long a request with an Idempotency-Key is sent again."""

REPEATS: Final = 0.2
"""Of requests with a key, how many are repeated at once."""

_ALARMING: Final = (
    "I will sue you if invoice {} is not refunded today.",
    "Somebody has logged in to my account {} from another country and changed the password.",
    "Cancel subscription {} at once, this is the third time and I am done with you.",
)
_ALARMS: Final = 0.3


class Kind(StrEnum):
    """What a request is."""

    CLASSIFY = "classify"
    DECISION = "decision"
    BATCH = "batch"


PATHS: Final = {Kind.CLASSIFY: "/api/v1/classify", Kind.DECISION: "/v1/decision", Kind.BATCH: "/api/v1/batch"}


@dataclass(slots=True)
class Customer:
    """An account and what it has sent."""

    name: str
    account_id: str
    key: str
    sent: list["Sent"] = field(default_factory=list)


@dataclass(slots=True)
class Sent:
    """One request, however often it was sent.

    Attributes:
        marks: one in each text, by which its ticket is found.
        key: its Idempotency-Key, or empty.
        ids: of the tickets that a 200 has named.
        answer: the body of the first 200.
        differing: repeats that were answered otherwise.
    """

    kind: Kind
    body: bytes
    marks: tuple[str, ...]
    key: str = ""
    ids: tuple[str, ...] = ()
    answer: bytes | None = None
    repeats: int = 0
    differing: int = 0


@dataclass(slots=True)
class Book:
    """What the load saw, by status or kind of failure."""

    outcomes: Counter[str] = field(default_factory=Counter)
    worst_s: float = 0.0


class Traffic:
    """Lanes that send one request after the other to replicas at random.

    `pace` multiplies how many they send, while there is no need to wait for answers.
    """

    def __init__(self, ports: Sequence[int], *, seed: int) -> None:
        self.book = Book()
        self.pace = 1.0
        self._ports = ports
        self._seed = seed
        self._lanes: list[asyncio.Task[None]] = []
        self._ending = False

    def lane(self, customer: Customer, kinds: Sequence[Kind], *, rate: float, keyed: bool = False) -> None:
        """One more.

        Args:
            kinds: drawn from at random.
            rate: requests a second, at most.
            keyed: whether each has an Idempotency-Key and is sent again until it is answered.
        """
        number = len(self._lanes)
        self._lanes.append(asyncio.create_task(self._drive(number, customer, kinds, rate, keyed)))

    async def end(self) -> None:
        """Let every lane finish its request."""
        self._ending = True
        await asyncio.gather(*self._lanes)

    async def repeat_all(self, customer: Customer, *, most: int) -> None:
        """Send requests that were answered under a key once more.

        Args:
            most: of them, spread over the run.
        """
        answered = [one for one in customer.sent if one.key and one.answer is not None]
        async with _client() as client:
            for number, one in enumerate(answered[:: max(len(answered) // most, 1)]):
                await self._again(client, self._ports[number % len(self._ports)], customer, one)

    async def _drive(self, number: int, customer: Customer, kinds: Sequence[Kind], rate: float, keyed: bool) -> None:
        draw = Random(f"{self._seed}:{number}")  # noqa: S311
        texts, count = tickets(500, length=120, seed=self._seed * 100 + number), 0
        async with _client() as client:
            while not self._ending:
                kind = draw.choice(kinds)
                marks = tuple(f"<{number}-{count + place}>" for place in range(BATCH if kind is Kind.BATCH else 1))
                written = [f"{_text(texts, draw)} {mark}" for mark in marks]
                count += len(marks)
                key = f"chaos-{self._seed}-{number}-{count}" if keyed else ""
                sent = Sent(kind, _body(kind, written), marks, key)
                customer.sent.append(sent)
                await self._send(client, customer, sent, draw)
                await asyncio.sleep(draw.expovariate(rate * self.pace))

    async def _send(self, client: httpx2.AsyncClient, customer: Customer, sent: Sent, draw: Random) -> None:
        loop = asyncio.get_running_loop()
        patience = loop.time() + (PATIENCE_S if sent.key else 0)
        while True:
            began = loop.time()
            reply = await self._post(client, draw.choice(self._ports), customer, sent)
            self.book.worst_s = max(self.book.worst_s, loop.time() - began)
            if reply is not None and reply.status_code == 200:
                sent.answer, sent.ids = reply.content, _ids(orjson.loads(reply.content))
                break
            if loop.time() > patience:
                return
            await asyncio.sleep(0.2)
        if sent.key and draw.random() < REPEATS:
            await self._again(client, draw.choice(self._ports), customer, sent)

    async def _again(self, client: httpx2.AsyncClient, port: int, customer: Customer, sent: Sent) -> None:
        reply = await self._post(client, port, customer, sent)
        if reply is not None and reply.status_code == 200:
            sent.repeats += 1
            replayed = reply.headers.get("idempotency-replayed") == "true"
            sent.differing += reply.content != sent.answer or not replayed

    async def _post(
        self, client: httpx2.AsyncClient, port: int, customer: Customer, sent: Sent
    ) -> httpx2.Response | None:
        headers = {"X-API-Key": customer.key, "Content-Type": "application/json"}
        if sent.key:
            headers["Idempotency-Key"] = sent.key
        try:
            reply = await client.post(f"http://127.0.0.1:{port}{PATHS[sent.kind]}", content=sent.body, headers=headers)
        except httpx2.HTTPError as error:
            self.book.outcomes[type(error).__name__] += 1
            return None
        self.book.outcomes[str(reply.status_code)] += 1
        return reply


def _client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT_S)


def _text(texts: Sequence[str], draw: Random) -> str:
    if draw.random() < _ALARMS:
        return draw.choice(_ALARMING).format(draw.randrange(100_000))
    return draw.choice(texts)


def _body(kind: Kind, texts: Sequence[str]) -> bytes:
    if kind is Kind.BATCH:
        return orjson.dumps({"tickets": list(texts)})
    return orjson.dumps({"ticket" if kind is Kind.CLASSIFY else "message": texts[0]})


def _ids(answer: Any) -> tuple[str, ...]:
    found = answer.get("results", [answer])
    return tuple(one["id"] for one in found)

"""What goes wrong, and when: every kind of fault at least once, in an order drawn from the seed."""

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final

import httpx2

from chaos.fleet import SPOOL_BYTES, Fleet
from chaos.services import Postgres, Redis, Service
from chaos.traffic import Traffic

FLOOD: Final = 20.0
"""How much more is sent while spools are to be filled."""

FILL_S: Final = 40.0
POLL_S: Final = 0.2

WARM_S: Final = 3.0
FULL_S: Final = 2.0

_BYTES: Final = re.compile(r"^firstline_spool_bytes (\S+)", re.MULTILINE)
_FULL: Final = 0.95

Holds = Callable[[httpx2.AsyncClient, int], Awaitable[bool]]
Say = Callable[[str], None]
Act = Callable[[], Awaitable[None]]


class Faults:
    """Does things to services and processes; each leaves everything running or about to be started again."""

    def __init__(
        self, fleet: Fleet, postgres: Postgres, redis: Redis, traffic: Traffic, *, seed: int, scale: float
    ) -> None:
        """Args:
        scale: how long services stay away, beside the full run.
        """
        self._fleet = fleet
        self._postgres = postgres
        self._redis = redis
        self._traffic = traffic
        self._draw = Random(f"{seed}:faults")  # noqa: S311
        self._scale = scale
        self.done: list[str] = []
        self.spools_filled = 0

    async def run(self, seconds: float, say: Say) -> None:
        """Faults for some time, and all of them whatever the time."""
        early: list[tuple[str, Act]] = [
            ("kill -9 of a worker", self._kill_worker),
            ("kill -9 of both workers", self._kill_workers),
            ("PostgreSQL crashed", self._crash_postgres),
        ]
        kinds: list[tuple[str, Act]] = [
            *early,
            ("kill -9 of a replica", self._kill_replica),
            ("kill -9 of both replicas", self._kill_replicas),
            ("PostgreSQL restarted", self._restart_postgres),
            ("PostgreSQL frozen", self._freeze_postgres),
            ("PostgreSQL away, and a replica killed", self._kill_without_postgres),
            ("Redis killed, back empty", self._kill_redis),
            ("Redis frozen", self._freeze_redis),
            ("Redis frozen, and a replica killed", self._kill_without_redis),
            ("PostgreSQL and Redis away", self._all_dark),
            ("PostgreSQL away until the spools are full", self._fill_spool),
        ]
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        gap = seconds / len(kinds) / 3
        bag = self._draw.sample(kinds[len(early) :], len(kinds) - len(early))
        bag += self._draw.sample(early, len(early))  # taken from the end: while the job is worked on
        while loop.time() < until or len(self.done) < len(kinds):
            if not bag:
                bag = self._draw.sample(kinds, len(kinds))
            name, act = bag.pop()
            say(name)
            await act()
            self.done.append(name)
            await asyncio.sleep(self._draw.uniform(0.5, 1.5) * gap)

    async def _kill_replica(self) -> None:
        self._draw.choice(self._fleet.replicas).kill()

    async def _kill_worker(self) -> None:
        self._draw.choice(self._fleet.workers).kill()

    async def _kill_workers(self) -> None:
        for member in self._fleet.workers:
            member.kill()

    async def _kill_replicas(self) -> None:
        for member in self._fleet.replicas:
            member.kill()

    async def _restart_postgres(self) -> None:
        await self._away(self._postgres, signal.SIGINT, 2.0)

    async def _crash_postgres(self) -> None:
        await self._away(self._postgres, signal.SIGQUIT, 0.2)

    async def _freeze_postgres(self) -> None:
        await self._frozen(self._postgres, 3.0)

    async def _kill_without_postgres(self) -> None:
        await self._away(self._postgres, signal.SIGINT, 4.0, meanwhile=self._kill_replica)

    async def _kill_redis(self) -> None:
        await self._away(self._redis, signal.SIGKILL, 3.0)

    async def _freeze_redis(self) -> None:
        await self._frozen(self._redis, 4.0)

    async def _kill_without_redis(self) -> None:
        await self._frozen(self._redis, 6.0, meanwhile=self._kill_replica)

    async def _all_dark(self) -> None:
        await self._redis.stop(signal.SIGTERM)
        await self._away(self._postgres, signal.SIGINT, 4.0)
        await self._redis.start()

    async def _fill_spool(self) -> None:
        """More load than ever, until every spool is as good as full; then one of its servers is killed."""
        async with httpx2.AsyncClient(trust_env=False, timeout=5.0) as client:
            await self._until(client, _is_healthy)
            await asyncio.sleep(WARM_S)  # keys and usage are known to a server once they were used there
            await self._postgres.stop(signal.SIGINT)
            self._traffic.pace = FLOOD
            full = await self._until(client, _is_full)
            await asyncio.sleep(FULL_S)
        self._traffic.pace = 1.0
        self.spools_filled += full
        await self._kill_replica()  # what lies in its spool is nowhere else
        await self._postgres.start()

    async def _until(self, client: httpx2.AsyncClient, holds: Holds) -> int:
        """Wait until something holds for every replica; for how many it did before patience ended."""
        patience = asyncio.get_running_loop().time() + FILL_S
        found: set[int] = set()
        while len(found) < len(self._fleet.ports) and asyncio.get_running_loop().time() < patience:
            for port in self._fleet.ports:
                with suppress(httpx2.HTTPError):
                    if await holds(client, port):
                        found.add(port)
            await asyncio.sleep(POLL_S)
        return len(found)

    async def _away(
        self,
        service: Service,
        how: signal.Signals,
        seconds: float,
        meanwhile: Act | None = None,
    ) -> None:
        await service.stop(how)
        await self._wait(seconds, meanwhile)
        await service.start()

    async def _frozen(self, service: Service, seconds: float, meanwhile: Act | None = None) -> None:
        service.freeze()
        await self._wait(seconds, meanwhile)
        service.thaw()

    async def _wait(self, seconds: float, meanwhile: Act | None) -> None:
        await asyncio.sleep(seconds * self._scale / 2)
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(seconds * self._scale / 2)


async def _is_healthy(client: httpx2.AsyncClient, port: int) -> bool:
    return (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200


async def _is_full(client: httpx2.AsyncClient, port: int) -> bool:
    found = _BYTES.search((await client.get(f"http://127.0.0.1:{port}/metrics")).text)
    return found is not None and float(found[1]) >= _FULL * SPOOL_BYTES

"""Everything that replicas share through Redis, started and ended together."""

import asyncio
import secrets
from collections.abc import Callable

from redis.exceptions import RedisError

from firstline.adapters.redis.limiter import CHECK_AFTER_S, LimitWatcher, ReadLedger, RedisLimiter
from firstline.adapters.redis.link import TIMEOUT_S, Link, open_pool
from firstline.adapters.redis.news import News, Trip
from firstline.adapters.redis.replicas import Replicas
from firstline.adapters.redis.script import HEARTBEAT, LIMITS


class Shared:
    """Limits, the count of replicas, and news of breakers."""

    def __init__(
        self,
        url: str,
        read_ledger: ReadLedger,
        *,
        least_replicas: int,
        watcher: LimitWatcher,
        on_trip: Trip = lambda provider, model, seconds: None,
        on_change: Callable[[bool], None] = lambda works: None,
        on_news: Callable[[str], None] = lambda outcome: None,
        check_after_s: float = CHECK_AFTER_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Args:
        url: redis:// or rediss://.
        least_replicas: how many there are at least.
        on_trip: told when another replica has opened a breaker.
        on_change: told when Redis begins to answer, and when it no longer does.
        on_news: told of every message between replicas.
        check_after_s: when counts are held against the ledger, seconds after Redis has begun to answer.
        timeout_s: of a call.

        Raises: ValueError when the address cannot be used; the message does not show it.
        """
        try:
            pool = open_pool(url)
        except (ValueError, RedisError):
            raise ValueError("not an address such as redis://127.0.0.1:6379/0") from None
        self._on_change = on_change
        self._link = Link(pool, (LIMITS, HEARTBEAT), timeout_s=timeout_s, on_change=self._changed)
        replica = secrets.token_hex(8)
        self.replicas = Replicas(self._link, replica, least=least_replicas)
        self.limiter = RedisLimiter(
            self._link,
            read_ledger,
            replica=replica,
            replicas=lambda: self.replicas.count,
            watcher=watcher,
            check_after_s=check_after_s,
        )
        database = pool.connection_kwargs.get("db", 0)
        self.news = News(
            self._link,
            pool,
            channel=f"firstline:{database}:trips",
            replica=replica,
            on_trip=on_trip,
            count=on_news,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, grants: bool = True) -> None:
        """Connect, or begin to try; never fails.

        Args:
            grants: whether requests are granted here, so that quota is divided by one more while Redis is away.
        """
        await self._link.start()
        if not self._link.works:
            self._on_change(False)
        self._tasks = [asyncio.create_task(self.news.listen())]
        if grants:
            self._tasks.append(asyncio.create_task(self.replicas.run()))

    async def close(self) -> None:
        """Tell the others what they do not know yet, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.news.close()
        await self.limiter.close()
        await self.replicas.leave()
        await self._link.close()

    def _changed(self, works: bool) -> None:
        self._on_change(works)
        if works:
            self.limiter.settle_soon()

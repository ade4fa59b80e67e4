"""The run from beginning to end: set up, load and faults, quiet, count."""

import asyncio
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson
from pydantic import SecretStr

from chaos import checks as held
from chaos.checks import Checks, Stored
from chaos.faults import Faults
from chaos.fleet import Fleet
from chaos.receiver import Endpoint, Receiver
from chaos.services import CannotRun, Postgres, Redis
from chaos.traffic import Customer, Kind, Traffic
from chaos.work import Api
from firstline.adapters.sql.postgres_engine import open_postgres
from firstline.adapters.sql.postgres_schema import upgrade
from firstline.bootstrap_stores import open_accounts
from firstline.core.api_key import KeyKind
from firstline.core.taxonomy import Contract
from firstline.settings import Settings, load_settings

START_S: Final = 60.0
QUOTA_LANES: Final = 4
RETRIES: Final = "0.5,1,1,1,2,2,2,3,3,3,5,5,5,5,5,5,5,5,5,5"
KINDS: Final = ("ticket.classified", "ticket.escalated", "ticket.needs_review")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is.

    Attributes:
        load_s: how long load and faults last.
        settle_s: how long deliveries and the job may take afterwards.
        scale: of the time that services stay away.
        quota: requests a day of the account whose quota is used up.
    """

    load_s: float
    settle_s: float
    rows: int
    scale: float
    quota: int


FULL: Final = Size(180.0, 90.0, 50_000, 1.0, 300)
QUICK: Final = Size(30.0, 45.0, 10_000, 0.4, 60)


class Run:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, size: Size, *, seed: int, say: Say) -> None:
        self._folder = folder
        self._size = size
        self._seed = seed
        self._say = say
        self._postgres, self._redis = Postgres(folder), Redis(folder)
        self._receiver = Receiver(seed)
        self._checks = Checks()
        self._environment = {
            "FIRSTLINE_DATABASE_URL": self._postgres.url,
            "FIRSTLINE_REDIS_URL": self._redis.url,
            "FIRSTLINE_DATA_DIR": str(folder / "data"),
            "FIRSTLINE_REPLICAS": "2",
            "FIRSTLINE_ACCESS_LOG": "false",
            "FIRSTLINE_WEBHOOK_RETRY_SECONDS": RETRIES,
            "RATE_LIMIT_HOURLY": str(10**9),
            "RATE_LIMIT_DAILY": str(size.quota),
            "SECRET_KEY": secrets.token_hex(32),
        }
        self._fleet = Fleet(folder, self._environment)
        self._customers: dict[str, Customer] = {}

    async def go(self) -> Checks:
        """All of it.

        Raises: CannotRun.
        """
        try:
            await self._set_up()
            endpoints = await self._make_endpoints()
            await asyncio.sleep(1.5)  # the other replica hears of them
            traffic = self._start_traffic()
            rows = self._api("job")
            job = await rows.upload(self._size.rows, seed=self._seed)
            self._say(f"load, and a job of {self._size.rows:,} rows")
            faults = Faults(self._fleet, self._postgres, self._redis, traffic, seed=self._seed, scale=self._size.scale)
            await faults.run(self._size.load_s, self._say)
            self._say("quiet")
            await self._wait_until_ready()
            await asyncio.wait_for(traffic.end(), self._size.settle_s)
            self._receiver.calm = True
            await traffic.repeat_all(self._customers["keyed"], most=300)
            found = await rows.finished(job, patience_s=self._size.settle_s)
            pending = await self._delivered(endpoints)
            self._say("counting")
            await self._count(traffic, faults, endpoints, job, found, pending)
        finally:
            await self._end()
        self._count_processes()
        return self._checks

    async def _set_up(self) -> None:
        await self._postgres.make()
        await asyncio.gather(self._postgres.start(), self._redis.start(), self._receiver.start())
        await asyncio.to_thread(self._migrate)
        settings = load_settings(
            env_file=None,
            data_dir=self._folder / "data",
            database_url=SecretStr(self._postgres.url),
        )
        for name, plan in (("mixed", "enterprise"), ("keyed", "enterprise"), ("job", "enterprise"), ("quota", "free")):
            self._customers[name] = await _customer(settings, name, plan)
        self._fleet.start()
        await self._wait_until_ready()
        self._say("two replicas and two workers on PostgreSQL and Redis")

    def _migrate(self) -> None:
        engine = open_postgres(self._postgres.url)
        upgrade(engine)
        engine.dispose()

    async def _wait_until_ready(self) -> None:
        patience = asyncio.get_running_loop().time() + START_S
        async with httpx2.AsyncClient(trust_env=False, timeout=5.0) as client:
            for port in self._fleet.ports:
                while True:
                    with suppress(httpx2.HTTPError):
                        health = (await client.get(f"http://127.0.0.1:{port}/health")).json()
                        if health.get("status") == "healthy" and health.get("storage", "ok") == "ok":
                            break
                    if asyncio.get_running_loop().time() > patience:
                        raise CannotRun(f"a replica was not ready in {START_S:g} s; its log is in {self._folder}.")
                    await asyncio.sleep(0.1)

    def _api(self, name: str) -> Api:
        return Api(self._fleet.ports, self._customers[name])

    async def _make_endpoints(self) -> list[Endpoint]:
        """Two for the tickets of an account, one that fails at random and one that is well, and one for the job."""
        made = []
        for path, flaky, customer, kinds in (
            ("/flaky", True, "keyed", KINDS),
            ("/steady", False, "keyed", KINDS),
            ("/job", True, "job", ("job.finished",)),
        ):
            endpoint = self._receiver.add(path, flaky=flaky)
            wish = {"url": self._receiver.url(endpoint), "events": list(kinds)}
            reply = await self._api(customer).call("POST", "/v1/webhooks", content=orjson.dumps(wish))
            if reply.status_code != 201:
                raise CannotRun(f"a webhook was refused with {reply.status_code}: {reply.text[:200]}")
            endpoint.secret = reply.json()["secret"]
            made.append(endpoint)
        return made

    def _start_traffic(self) -> Traffic:
        traffic = Traffic(self._fleet.ports, seed=self._seed)
        both = (Kind.CLASSIFY, Kind.CLASSIFY, Kind.CLASSIFY, Kind.DECISION, Kind.BATCH)
        for _ in range(6):
            traffic.lane(self._customers["mixed"], both, rate=8.0)
        for _ in range(4):
            traffic.lane(self._customers["keyed"], both, rate=2.0, keyed=True)
        traffic.lane(self._customers["keyed"], both, rate=2.0)  # whose events go through the spool as well
        for _ in range(QUOTA_LANES):
            traffic.lane(self._customers["quota"], (Kind.CLASSIFY,), rate=1.0)
        return traffic

    async def _delivered(self, endpoints: list[Endpoint]) -> int:
        """Wait for deliveries; how many are still pending when patience ends."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._size.settle_s
        while True:
            pending = await asyncio.to_thread(held.pending_deliveries, self._postgres.url)
            if not pending or loop.time() > until:
                return pending
            await asyncio.sleep(0.5)

    async def _count(
        self,
        traffic: Traffic,
        faults: Faults,
        endpoints: list[Endpoint],
        job: str,
        found: Mapping[str, Any],
        pending: int,
    ) -> None:
        checks = self._checks
        outcomes = traffic.book.outcomes.most_common()
        checks.figure("answers", ", ".join(f"{name} {count:,}" for name, count in outcomes))
        checks.figure("spools filled", faults.spools_filled)
        if not faults.spools_filled:
            checks.violations.append("no spool was full: nothing is known of what happens then")
        checks.figure("longest wait for an answer", f"{traffic.book.worst_s:.1f} s")
        stored = {name: await self._stored(name) for name in self._customers}
        for name in ("mixed", "keyed", "quota"):
            held.check_history(checks, self._customers[name], stored[name])
        checks.none_of(
            (one.key for one in self._customers["keyed"].sent if one.key and one.answer is None),
            "keyed requests never answered",
        )
        quota = self._customers["quota"]
        held.check_quota(checks, quota, stored["quota"], limit=self._size.quota, at_once=QUOTA_LANES)
        results = await self._api("job").lines(f"/v1/jobs/{job}/results?format=ndjson")
        held.check_job(checks, found, results, stored["job"], endpoints[2], rows=self._size.rows)
        held.check_webhooks(checks, stored["keyed"], endpoints[:2], pending)
        await asyncio.to_thread(held.check_database, checks, self._postgres.url)
        checks.figure("faults", ", ".join(f"{name} ({count})" for name, count in Counter(faults.done).items()))

    async def _stored(self, name: str) -> Stored:
        rows = await self._api(name).lines("/v1/tickets/export?format=ndjson")
        ledger = await asyncio.to_thread(held.ledger_of, self._postgres.url, self._customers[name].account_id)
        return Stored(rows, ledger)

    def _count_processes(self) -> None:
        members = self._fleet.members
        kills = ", ".join(f"{member.name} {member.kills}" for member in members)
        self._checks.figure("kill -9", kills)
        self._checks.none_of(
            (f"{member.name} {pid}" for member in members for pid in member.left_over()), "processes were left over"
        )
        self._checks.none_of(
            (f"{member.name} with {member.status}" for member in members if member.status), "ended otherwise than well"
        )
        faults = Counter(_faults_of(member.log) for member in members)
        for found in set().union(*faults) if faults else set():
            self._checks.figure(f"fault logged: {found[0]}", found[1])

    async def _end(self) -> None:
        await self._fleet.end()
        await self._receiver.close()
        await self._redis.stop(signal.SIGKILL)
        await self._postgres.stop(signal.SIGINT)


async def _customer(settings: Settings, name: str, plan: str) -> Customer:
    accounts, _ = await asyncio.to_thread(open_accounts, settings)
    made = [
        await accounts.create_key(
            f"{name}@example.com", catalogue=contract, plan=plan, name="chaos", kind=kind, actor="chaos"
        )
        for contract, kind in ((Contract.CLASSIFIER, KeyKind.CLASSIFIER), (Contract.DECISION, KeyKind.LIVE))
    ]
    return Customer(name, made[0].account.id, made[0].secret)


def _faults_of(log: Path) -> frozenset[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for line in log.read_bytes().splitlines():
        with suppress(orjson.JSONDecodeError):
            entry = orjson.loads(line)
            if entry.get("event") == "fault":
                counts[f"{log.stem} {entry.get('route')} {entry.get('type', entry.get('error', ''))}"] += 1
    return frozenset(counts.items())

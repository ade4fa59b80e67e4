"""What runs beside the load: one large job."""

import asyncio
from typing import Any, Final

import httpx2
import orjson
from bench.texts import tickets

from chaos.traffic import Customer

RETRY_S: Final = 0.5
TIMEOUT_S: Final = 30.0
UPLOAD_KEY: Final = "chaos-job"


class Api:
    """A customer's calls that are made again until a replica answers."""

    def __init__(self, ports: list[int], customer: Customer) -> None:
        self._ports = ports
        self._customer = customer
        self._turn = 0

    async def call(self, method: str, path: str, *, patience_s: float = 60.0, **options: Any) -> httpx2.Response:
        """The first answer that is neither a 503 nor a 409.

        Raises: TimeoutError.
        """
        headers = {"X-API-Key": self._customer.key, **options.pop("headers", {})}
        async with asyncio.timeout(patience_s), httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
            while True:
                self._turn += 1
                url = f"http://127.0.0.1:{self._ports[self._turn % len(self._ports)]}{path}"
                try:
                    reply = await client.request(method, url, headers=headers, **options)
                except httpx2.HTTPError:
                    pass
                else:
                    if reply.status_code not in {409, 503}:
                        return reply
                await asyncio.sleep(RETRY_S)

    async def upload(self, rows: int, *, seed: int) -> str:
        """Begin a job; the id of it."""
        texts = tickets(2_000, length=100, seed=seed)
        lines = (
            orjson.dumps({"text": f"{texts[number % len(texts)]} [{number}]", "external_id": f"row-{number}"})
            for number in range(1, rows + 1)
        )
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"{UPLOAD_KEY}-{seed}"}
        reply = await self.call("POST", "/v1/jobs", content=b"\n".join(lines), headers=headers)
        if reply.status_code != 202:
            raise RuntimeError(f"the job was refused with {reply.status_code}: {reply.text[:200]}")
        return str(reply.json()["id"])

    async def finished(self, job: str, *, patience_s: float) -> dict[str, Any]:
        """The job once it has ended, or as it is when patience has."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while True:
            found: dict[str, Any] = (await self.call("GET", f"/v1/jobs/{job}")).json()
            if found["finished_at"] is not None or loop.time() > until:
                return found
            await asyncio.sleep(RETRY_S)

    async def lines(self, path: str) -> list[dict[str, Any]]:
        """The lines of a file."""
        reply = await self.call("GET", path)
        if reply.status_code != 200:
            raise RuntimeError(f"{path} answered {reply.status_code}")
        return [orjson.loads(line) for line in reply.content.splitlines()]

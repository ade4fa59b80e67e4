"""The two bare servers that firstline is compared with: `python -m bench.bare starlette|fastapi PORT`."""

import sys
from typing import Annotated, Any

import orjson
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Ticket(BaseModel):
    """A body of about 150 bytes."""

    ticket: Annotated[str, Field(min_length=1, max_length=5_000)]
    channel: str = "email"
    plan: str = "free"


class Answer(BaseModel):
    """An answer of about 200 bytes."""

    id: str
    category: str
    confidence: float
    priority: str
    provider: str
    processing_time: float
    needs_review: bool
    reasons: list[str]


ANSWER = {
    "id": "tkt_018f3c3e5a7b7c2f9d1e0a2b3c4d5e6f",
    "category": "Network Issue",
    "confidence": 0.9731,
    "priority": "high",
    "provider": "local",
    "processing_time": 0.000412,
    "needs_review": False,
    "reasons": ["The local model says so."],
}


async def _starlette(request: Request) -> Response:
    found = orjson.loads(await request.body())
    return Response(orjson.dumps({**ANSWER, "needs_review": not found["ticket"]}), media_type="application/json")


async def _fastapi(ticket: Ticket) -> Answer:
    return Answer(**{**ANSWER, "needs_review": not ticket.ticket})


def bare_app(kind: str) -> Any:
    """One POST route on `/`, nothing else."""
    if kind == "starlette":
        return Starlette(routes=[Route("/", _starlette, methods=["POST"])])
    app = FastAPI()
    app.post("/", response_model=Answer)(_fastapi)
    return app


if __name__ == "__main__":
    uvicorn.run(bare_app(sys.argv[1]), port=int(sys.argv[2]), log_level="error", access_log=False)

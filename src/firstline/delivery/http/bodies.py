"""Request bodies: read within bounds of size and time, and parsed strictly.

Whatever its Content-Type says, a body is JSON. Refused: anything but UTF-8, duplicate keys, NaN and infinities,
numbers beyond 64 bits, nesting deeper than 64, and halves of surrogate pairs.
"""

import asyncio
import json
import re
from typing import Any, Final, NoReturn

from starlette.requests import ClientDisconnect, Request

from firstline.core.errors import BODY_TIMEOUT, BODY_TOO_LARGE
from firstline.delivery.http.replies import ErrorReply

MAX_BODY_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64
PROGRESS_S: Final = 10.0
PROGRESS_BYTES: Final = 1_024

_MOST: Final = 2**64 - 1
_LEAST: Final = -(2**63)
_LONGEST_LENGTH: Final = 18
"""Digits of a Content-Length that are read; Python refuses to read thousands of them."""

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


class JsonInvalid(ValueError):
    """A body that is no acceptable JSON; the message says why, without quoting it.

    Attributes:
        position: byte or character offset of the fault, 0 when it is no single place.
    """

    def __init__(self, reason: str, *, position: int = 0) -> None:
        super().__init__(reason)
        self.position = position


async def read_body(request: Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, at most `limit` bytes.

    Raises: ErrorReply for a body that is too large (413) or makes no progress for `PROGRESS_S` seconds (408);
        ClientDisconnect when the client goes away before its end.
    """
    if declares_more(request, than=limit):
        raise _too_large(limit)
    receive = request.receive
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PROGRESS_S) as deadline:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                body: bytes = message.get("body", b"")
                if len(body) > limit:
                    raise _too_large(limit)
                return body
            chunks: list[bytes] = []
            size = counted = 0
            while True:
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk: bytes = message.get("body", b"")
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                if not message.get("more_body", False):
                    return b"".join(chunks)
                if size - counted >= PROGRESS_BYTES:
                    counted = size
                    deadline.reschedule(loop.time() + PROGRESS_S)
                message = await receive()
    except TimeoutError:
        raise ErrorReply(
            BODY_TIMEOUT,
            f"The body made no progress of {PROGRESS_BYTES} bytes within {PROGRESS_S:g} seconds.",
        ) from None


def declares_more(request: Request, *, than: int) -> bool:
    """Whether a request's Content-Length is beyond a number of bytes; one that is no number declares nothing."""
    declared = request.headers.get("content-length", "")
    if not (declared.isascii() and declared.isdigit()):
        return False
    digits = declared.lstrip("0")
    return len(digits) > _LONGEST_LENGTH or int(digits or "0") > than


def _too_large(limit: int) -> ErrorReply:
    return ErrorReply(BODY_TOO_LARGE, f"The body may have at most {limit} bytes here. {BODY_TOO_LARGE.advice}")


def parse_json(body: bytes) -> Any:
    """A body as plain data.

    Raises: JsonInvalid.
    """
    if not body.strip():
        raise JsonInvalid("the body is empty")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _too_deep(body):
        raise JsonInvalid(f"nesting is deeper than {MAX_DEPTH}")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonInvalid("the body is not UTF-8", position=error.start) from None
    try:
        data = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise JsonInvalid("the body is not valid JSON", position=error.pos) from None
    except RecursionError:
        raise JsonInvalid(f"nesting is deeper than {MAX_DEPTH}") from None
    if "\\u" in text and _SURROGATE.search(json.dumps(data, ensure_ascii=False)):
        raise JsonInvalid("a string holds half of a surrogate pair")
    return data


def _too_deep(body: bytes) -> bool:
    depth = 0
    for byte in _STRING.sub(b"", body):
        if byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif byte in b"]}":
            depth -= 1
    return False


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonInvalid("an object has the same key twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > 20 or not _LEAST <= (value := int(digits)) <= _MOST:
        raise JsonInvalid("a number is beyond 64 bits")
    return value


def _real(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise JsonInvalid("a number is beyond 64 bits")
    return value


def _constant(_name: str) -> NoReturn:
    raise JsonInvalid("NaN and infinities are not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_real, parse_constant=_constant
)

"""The guarded way out against servers on loopback that mean well, and against those that do not."""

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from firstline.adapters import outbound
from firstline.adapters.outbound import GuardedOutbound
from firstline.core.destination import DestinationRefused
from firstline.ports.outbound import NotSent, Reply, SendFailure

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "outbound_urls.json").read_text(encoding="utf-8")
)
OK = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
WALL_S = 1_795_000_000.0


class Names:
    """A resolver with answers of its own; counts its questions."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Receiver:
    """A server on loopback that answers every request with the same bytes."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.names: list[str | None] = []
        self.port = 0
        self.sent = 0

    @asynccontextmanager
    async def __call__(self, context: ssl.SSLContext | None = None) -> AsyncIterator["Receiver"]:
        if context is not None:
            context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
            )
            self.requests.append(head + await reader.readexactly(length))
            if self.answer is None:  # hangs until the other side leaves
                await reader.read()
                return
            for start in range(0, len(self.answer), 1 << 16):
                writer.write(self.answer[start : start + (1 << 16)])
                await writer.drain()
                self.sent += min(1 << 16, len(self.answer) - start)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def guarded(names: Callable[[str, int], Awaitable[Sequence[str]]] | None = None, **options: Any) -> GuardedOutbound:
    given: dict[str, Any] = {"loopback": True, "user_agent": "firstline/test", "wall": lambda: WALL_S, **options}
    return GuardedOutbound(resolve=names or Names(["127.0.0.1"]), **given)


def post(
    answer: bytes | None,
    path: str = "/in",
    *,
    scheme: str = "http",
    host: str = "127.0.0.1",
    way: GuardedOutbound | None = None,
    context: ssl.SSLContext | None = None,
) -> tuple[Reply | SendFailure, Receiver]:
    """What comes of one request to a server that answers so."""

    async def work() -> tuple[Reply | SendFailure, Receiver]:
        async with Receiver(answer)(context) as receiver:
            try:
                url = f"{scheme}://{host}:{receiver.port}{path}"
                headers = {"webhook-id": "evt_1", "Content-Type": "application/json"}
                return await (way or guarded()).post(url, headers=headers, body=b'{"a":1}'), receiver
            except NotSent as error:
                return error.failure, receiver

    return asyncio.run(work())


def certificate(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server with a fresh certificate for a name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_alternative(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(public, private)
    return server, ssl.create_default_context(cafile=str(public))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def test_a_body_arrives_with_its_headers_and_the_status_comes_back() -> None:
    reply, receiver = post(OK, "/in?a=1")
    assert reply == Reply(204)
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /in?a=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{receiver.port}" in lines
    assert "webhook-id: evt_1" in lines
    assert body == b'{"a":1}'


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: ascii(vector["url"])[:60])
def test_hostile_urls_are_refused_at_creation_and_at_delivery(vector: dict[str, Any]) -> None:
    way = guarded(Names(vector.get("resolves_to", ["93.184.216.34"])), loopback=False)

    async def work() -> SendFailure:
        with pytest.raises(DestinationRefused):
            await way.check(vector["url"])
        with pytest.raises(NotSent) as error:
            await way.post(vector["url"], headers={}, body=b"{}")
        return error.value.failure

    assert asyncio.run(work()) in {SendFailure.REFUSED, SendFailure.UNRESOLVED}


@pytest.mark.parametrize("vector", VECTORS["allowed"], ids=lambda vector: vector["url"])
def test_plain_urls_with_public_addresses_pass(vector: dict[str, Any]) -> None:
    asyncio.run(guarded(Names(["93.184.216.34", "2606:4700:4700::1111"]), loopback=False).check(vector["url"]))


def test_a_name_that_led_to_a_public_address_and_now_leads_inside_gets_nothing() -> None:
    names = Names(["93.184.216.34"], ["169.254.169.254"])
    way = guarded(names, loopback=False)

    async def work() -> SendFailure:
        await way.check("https://rebound.example.com/in")
        with pytest.raises(NotSent) as error:
            await way.post("https://rebound.example.com/in", headers={}, body=b"{}")
        return error.value.failure

    assert asyncio.run(work()) is SendFailure.REFUSED


def test_a_name_is_looked_up_once_and_the_checked_address_is_connected_to(tmp_path: Path) -> None:
    server, client = certificate("localhost", tmp_path)
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    reply, receiver = post(OK, scheme="https", host="localhost", way=guarded(names, context=client), context=server)
    assert reply == Reply(204)
    assert names.asked == ["localhost"]
    assert receiver.names == ["localhost"]
    assert f"Host: localhost:{receiver.port}".encode() in receiver.requests[0]


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    server, client = certificate("other.example.com", tmp_path)
    reply, receiver = post(OK, scheme="https", host="localhost", way=guarded(context=client), context=server)
    assert reply is SendFailure.TLS
    assert receiver.requests == []


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    server, _ = certificate("localhost", tmp_path)
    reply, receiver = post(OK, scheme="https", host="localhost", context=server)
    assert reply is SendFailure.TLS
    assert receiver.requests == []


@pytest.mark.parametrize("target", ["http://169.254.169.254/", "/elsewhere"])
def test_redirects_are_not_followed(target: str) -> None:
    answer = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
    reply, receiver = post(answer)
    assert reply == Reply(307)
    assert len(receiver.requests) == 1


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert post(OK)[0] == Reply(204)


def test_a_long_answer_is_left_unread() -> None:
    size = 64 << 20
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + bytes(size)
    reply, receiver = post(answer)
    assert reply == Reply(200)
    assert receiver.sent < size


def test_an_answer_that_never_comes_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "TOTAL_S", 0.2)
    assert post(None)[0] is SendFailure.TIMEOUT


def test_a_resolver_that_hangs_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "LOOK_UP_S", 0.1)

    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    assert post(OK, host="localhost", way=guarded(never))[0] is SendFailure.UNRESOLVED


def test_the_next_address_is_tried_where_one_cannot_be_connected_to() -> None:
    assert post(OK, host="localhost", way=guarded(Names(["::1", "127.0.0.1"])))[0] == Reply(204)


def test_nobody_listening_and_a_line_cut_are_told_apart() -> None:
    async def nobody() -> SendFailure:
        async with Receiver(OK)() as receiver:
            port = receiver.port
        with pytest.raises(NotSent) as error:
            await guarded().post(f"http://127.0.0.1:{port}/", headers={}, body=b"")
        return error.value.failure

    assert asyncio.run(nobody()) is SendFailure.UNREACHABLE
    assert post(b"")[0] is SendFailure.BROKEN
    assert post(b"no HTTP at all\r\n\r\n")[0] is SendFailure.BROKEN


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("Wed, 18 Nov 2026 08:27:40 GMT", None),
        ("soon", None),
        ("-5", None),
        ("9" * 50, None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    answer = f"HTTP/1.1 503 Busy\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n".encode()
    reply, _ = post(answer)
    assert isinstance(reply, Reply)
    if "GMT" in value:
        when = datetime.datetime(2026, 11, 18, 8, 27, 40, tzinfo=datetime.UTC).timestamp()
        assert reply.retry_after_s == max(when - WALL_S, 0.0)
        return
    assert reply.retry_after_s == seconds


def test_a_body_that_is_too_large_is_not_sent() -> None:
    async def work() -> None:
        async with Receiver(OK)() as receiver:
            with pytest.raises(NotSent):
                await guarded().post(
                    f"http://127.0.0.1:{receiver.port}/", headers={}, body=bytes(outbound.MAX_BODY_BYTES + 1)
                )
            assert receiver.requests == []

    asyncio.run(work())

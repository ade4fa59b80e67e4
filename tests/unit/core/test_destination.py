"""Where others may make the server send to: the shared vectors, and the addresses behind names."""

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from firstline.core.destination import DestinationRefused, destination_of, is_allowed

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[3] / "vectors" / "outbound_urls.json").read_text(encoding="utf-8")
)
BY_THEMSELVES = [vector for vector in VECTORS["refused"] if "resolves_to" not in vector]
BY_ADDRESSES = [vector for vector in VECTORS["refused"] if vector.get("resolves_to")]


def test_there_are_at_least_sixty_hostile_urls() -> None:
    assert len({vector["url"] for vector in VECTORS["refused"]}) >= 60


@pytest.mark.parametrize("vector", BY_THEMSELVES, ids=lambda vector: ascii(vector["url"])[:60])
@pytest.mark.parametrize("loopback", [False, True])
def test_hostile_urls_are_refused(vector: dict[str, Any], loopback: bool) -> None:
    """Development lets loopback through, spelled plainly, and nothing else."""
    try:
        found = destination_of(vector["url"], loopback=loopback)
    except DestinationRefused:
        return
    assert loopback
    assert found.loopback
    assert found.host == "localhost" or ip_address(found.host).is_loopback


@pytest.mark.parametrize("vector", BY_ADDRESSES, ids=lambda vector: vector["note"])
def test_names_of_addresses_that_are_not_public_are_refused(vector: dict[str, Any]) -> None:
    destination_of(vector["url"])
    assert not all(is_allowed(address) for address in vector["resolves_to"])


@pytest.mark.parametrize("vector", VECTORS["allowed"], ids=lambda vector: vector["url"])
def test_plain_urls_are_allowed(vector: dict[str, Any]) -> None:
    found = destination_of(vector["url"])
    assert (found.host, found.port, found.loopback) == (vector["host"], vector["port"], False)
    assert found.target.startswith("/")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/in", "http://localhost/in", "https://[::1]:8443/", "http://127.0.0.2:80/"]
)
def test_loopback_is_allowed_in_development_alone(url: str) -> None:
    assert destination_of(url, loopback=True).loopback
    with pytest.raises(DestinationRefused):
        destination_of(url)


def test_a_name_of_this_machine_must_lead_to_it_and_to_nothing_else() -> None:
    assert is_allowed("127.0.0.1", loopback=True)
    assert is_allowed("::1", loopback=True)
    assert not is_allowed("93.184.216.34", loopback=True)
    assert not is_allowed("127.0.0.1")


def test_the_host_header_names_a_port_only_where_it_is_another() -> None:
    assert destination_of("https://hooks.example.com:443/in").authority == "hooks.example.com"
    assert destination_of("https://hooks.example.com:8443/in").authority == "hooks.example.com:8443"
    assert destination_of("https://[2606:4700:4700::1111]/").authority == "[2606:4700:4700::1111]"

"""Webhooks: what holds for every address, every wait and every secret."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from firstline.core.backoff import JITTER, RETRY_DELAYS_S, next_delay_s
from firstline.core.destination import DestinationRefused, destination_of, is_allowed
from firstline.core.signature import format_secret, signature_headers, verify

NOW_S = 1_795_000_000


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_is_allowed_that_python_does_not_call_global(address: IPv4Address) -> None:
    if is_allowed(str(address)):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_is_allowed_that_python_does_not_call_global(address: IPv6Address) -> None:
    if is_allowed(str(address)) and int(address) >> 96 != 0x64FF9B:
        assert address.is_global
        assert address.ipv4_mapped is None
        assert address.sixtofour is None
        assert address.teredo is None


@given(st.ip_addresses(v=4))
def test_an_address_in_another_one_is_worth_no_more_than_itself(inner: IPv4Address) -> None:
    assert is_allowed(str(IPv6Address((0x64FF9B << 96) | int(inner)))) == is_allowed(str(inner))
    for other in ((0xFFFF << 32) | int(inner), int(inner), (0x2002 << 112) | (int(inner) << 80)):
        assert not is_allowed(str(IPv6Address(other)))


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://hooks.example.com/{text}"):
        try:
            found = destination_of(url)
        except DestinationRefused:
            continue
        assert found.https
        assert found.target.isascii()


@given(st.integers(1, len(RETRY_DELAYS_S)), st.floats(0, 1))
def test_jitter_stays_within_its_share(failures: int, random: float) -> None:
    delay = next_delay_s(failures, random=random)
    assert delay is not None
    assert abs(delay - RETRY_DELAYS_S[failures - 1]) <= RETRY_DELAYS_S[failures - 1] * JITTER * 1.000_001


@given(st.binary(min_size=24, max_size=64), st.text())
def test_what_is_signed_is_verified_by_us(random: bytes, text: str) -> None:
    secret, body = format_secret(random), text.encode("utf-8", "replace")
    headers = signature_headers([secret], message_id="evt_1", timestamp_s=NOW_S, body=body)
    verify(secret, headers=headers, body=body, now_s=NOW_S)

"""The shape of keys and ids; the SDKs read the same key vectors."""

import json
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import pytest

from firstline.core.api_key import KeyKind, format_key, hash_of, hint_of, looks_like_key
from firstline.core.identity import KEY, TICKET, bare, uuid7_hex

KEYS = json.loads((Path(__file__).parents[3] / "vectors" / "keys.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", KEYS, ids=[case["note"] for case in KEYS])
def test_a_text_is_recognised_as_a_key_or_not(case: dict[str, Any]) -> None:
    assert looks_like_key(case["key"]) is case["valid"]


@pytest.mark.parametrize("case", KEYS, ids=[case["note"] for case in KEYS])
def test_a_key_is_stored_as_its_sha256(case: dict[str, Any]) -> None:
    assert hash_of(case["key"]) == case["sha256"]


@pytest.mark.parametrize("case", [case for case in KEYS if case["valid"]], ids=lambda case: case["note"])
def test_a_hint_shows_kind_and_last_four_characters_only(case: dict[str, Any]) -> None:
    assert hint_of(case["key"]) == f"{case['kind']}…{case['key'][-4:]}"


def test_a_hint_of_something_else_shows_nothing() -> None:
    assert hint_of("password") == "…"


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_made_key_has_the_shape_of_one(kind: KeyKind) -> None:
    assert looks_like_key(format_key(kind, "AbCdEfGhIjKlMnOpQrStUvWxYz012-_5"))


@pytest.mark.parametrize("random", [bytes(10), b"\xff" * 10, bytes(range(10))])
def test_an_id_is_a_uuid_of_version_7(random: bytes) -> None:
    identity = UUID(uuid7_hex(milliseconds=1_763_000_000_123, random=random))
    assert identity.version == 7
    assert identity.variant == RFC_4122
    assert identity.int >> 80 == 1_763_000_000_123


def test_ids_sort_by_time() -> None:
    moments = [0, 1, 1_000, 1_763_000_000_000, 1_763_000_000_001, (1 << 48) - 1]
    ids = [uuid7_hex(milliseconds=moment, random=bytes([255 - place] * 10)) for place, moment in enumerate(moments)]
    assert ids == sorted(ids)
    assert {len(identity) for identity in ids} == {32}


def test_every_random_bit_but_the_fixed_ones_is_kept() -> None:
    ids = {uuid7_hex(milliseconds=0, random=(1 << bit).to_bytes(10, "big")) for bit in range(80)}
    assert len(ids) == 75  # 74 random bits, one id each, and the one for the bits that are dropped


@pytest.mark.parametrize("length", [0, 9, 11])
def test_an_id_needs_ten_random_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="10 random bytes"):
        uuid7_hex(milliseconds=0, random=bytes(length))


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        (f"tkt_{'0a' * 16}", "0a" * 16),
        (f"key_{'0a' * 16}", None),
        ("0a" * 16, None),
        (f"tkt_{'0A' * 16}", None),
        (f"tkt_{'0a' * 15}", None),
        (f"tkt_{'0a' * 15}0g", None),
        ("", None),
        (f"tkt_{'٠' * 32}", None),
    ],
)
def test_a_prefixed_id_is_read_strictly(text: str, digits: str | None) -> None:
    assert bare(text, prefix=TICKET) == digits
    assert bare(f"key_{'f' * 32}", prefix=KEY) == "f" * 32

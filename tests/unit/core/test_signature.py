"""Signatures of webhooks against shared vectors, and against the public package that receivers use."""

import json
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from firstline.core.signature import (
    SECRET_PREFIX,
    SignatureInvalid,
    format_secret,
    signature_headers,
    verify,
)

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[3] / "vectors" / "signatures.json").read_text(encoding="utf-8")
)
NOW_S = 1_795_000_000


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["note"])
def test_vectors_are_accepted_and_refused_as_they_say(vector: dict[str, Any]) -> None:
    headers = {name: value for name, value in vector.items() if name.startswith("webhook-")}
    secret, body = SECRET_PREFIX + vector["secret"], vector["body"].encode()
    if vector["valid"]:
        verify(secret, headers=headers, body=body, now_s=vector["now"])
        return
    with pytest.raises(SignatureInvalid):
        verify(secret, headers=headers, body=body, now_s=vector["now"])


def test_a_signature_is_the_one_of_the_vectors() -> None:
    vector = VECTORS[0]
    headers = signature_headers(
        [SECRET_PREFIX + vector["secret"]],
        message_id=vector["webhook-id"],
        timestamp_s=int(vector["webhook-timestamp"]),
        body=vector["body"].encode(),
    )
    assert headers == {name: value for name, value in vector.items() if name.startswith("webhook-")}


def test_the_public_package_reads_our_secrets() -> None:
    secret = format_secret(bytes(range(32)))
    assert Webhook(secret)._whsecret == bytes(range(32))


def test_two_live_secrets_give_two_signatures_and_either_verifies() -> None:
    new, old = format_secret(b"n" * 32), format_secret(b"o" * 32)
    headers = signature_headers([new, old], message_id="evt_1", timestamp_s=NOW_S, body=b"{}")
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (new, old):
        verify(secret, headers=headers, body=b"{}", now_s=NOW_S)


@pytest.mark.parametrize("length", [0, 23, 65])
def test_secrets_of_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="24 to 64"):
        format_secret(bytes(length))


@pytest.mark.parametrize("secret", ["", SECRET_PREFIX, SECRET_PREFIX + "not base64!"])
def test_what_is_no_secret_signs_nothing(secret: str) -> None:
    with pytest.raises(ValueError, match="webhook secret"):
        signature_headers([secret], message_id="evt_1", timestamp_s=NOW_S, body=b"")

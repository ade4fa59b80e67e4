"""The shipped packs with their terms packed, read from one file instead of worked out from YAML at every start.

`tools/pack_rules.py` writes the file after a change to a pack. It names the packs that it was made from by their hash;
when they are others, the packs themselves are read, which is right but takes seconds.
"""

import hashlib
from importlib import resources
from typing import Any, Final

import orjson

from firstline.adapters.rule_files import builtin_rules
from firstline.core.rules import CompiledRules, Conditions, Effects, Rule, compile_rules, content_hash_of, pack_rules
from firstline.core.taxonomy import Channel, Decision, Priority, Signal, UserPlan
from firstline.core.term_arrays import TermArrays
from firstline.core.term_table import TermTable

PACKED_NAME: Final = "packed.bin"

_FORMAT: Final = b"firstline rules 1\n"
_LENGTH_BYTES: Final = 8


def shipped_rules() -> CompiledRules:
    """The packs that firstline ships, compiled."""
    folder = resources.files("firstline.data").joinpath("rules")
    try:
        parts = _parts(folder.joinpath(PACKED_NAME).read_bytes())
    except FileNotFoundError:
        parts = []
    if parts and bytes(parts[0]) == _fingerprint():
        return CompiledRules(
            tuple(_rule(fields) for fields in orjson.loads(parts[2])),
            TermTable(TermArrays.load(parts[3:])),
            bytes(parts[1]).decode(),
        )
    return compile_rules(builtin_rules())


def packed_rules() -> bytes:
    """What the file should hold now."""
    rules = builtin_rules()
    parts = [_fingerprint(), content_hash_of(rules).encode(), orjson.dumps(rules), *pack_rules(rules).dump()]
    return _FORMAT + b"".join(len(part).to_bytes(_LENGTH_BYTES, "little") + part for part in parts)


def _fingerprint() -> bytes:
    """SHA-256 over the packs' files."""
    digest = hashlib.sha256()
    folder = resources.files("firstline.data").joinpath("rules")
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".yaml"):
            digest.update(hashlib.sha256(entry.read_bytes()).digest())
    return digest.digest()


def _parts(packed: bytes) -> list[memoryview]:
    """The parts of the file; none when it has another format."""
    parts: list[memoryview] = []
    if packed.startswith(_FORMAT):
        view = memoryview(packed)
        place = len(_FORMAT)
        while place < len(packed):
            begin = place + _LENGTH_BYTES
            place = begin + int.from_bytes(view[place:begin], "little")
            parts.append(view[begin:place])
    return parts


def _rule(fields: dict[str, Any]) -> Rule:
    when, then = fields["when"], fields["then"]
    return Rule(
        fields["id"],
        _optional(Signal, fields["signal"]),
        tuple(fields["terms"]),
        tuple(fields["guards"]),
        tuple(fields["patterns"]),
        tuple(fields["guard_patterns"]),
        Conditions(
            tuple(UserPlan(plan) for plan in when["plans"]),
            tuple(Channel(channel) for channel in when["channels"]),
            tuple(when["languages"]),
            when["history_min"],
        ),
        Effects(
            _optional(Decision, then["decision"]),
            _optional(Priority, then["priority"]),
            then["category"],
            then["action"],
            then["terminal"],
        ),
    )


def _optional(choices: Any, value: str | None) -> Any:
    return None if value is None else choices(value)

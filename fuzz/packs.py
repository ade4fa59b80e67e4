"""Targets that read what operators write: rule packs, terms, settings, origins, addresses of providers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Final
from urllib.parse import urlsplit

from firstline.adapters.llm.opening import MAX_URL, Opening, OpeningInvalid
from firstline.adapters.rule_files import MAX_TERMS, RulePackInvalid, parse_pack
from firstline.core.expressions import ExpressionInvalid
from firstline.core.message import Message, facts_of
from firstline.core.origins import ANY, MOST, origins_of
from firstline.core.rules import Rule, RuleBook
from firstline.core.taxonomy import Contract, Signal
from firstline.core.terms import TermInvalid, beginnings, needs, parse_term, words_in
from firstline.settings import PREFIX, SettingsInvalid, load_settings, secret_names, variable_names
from fuzz.target import Draw, Target, refusals, text_of

_TEXT: Final = "My lawyer says: I will sue you, and I want my money back. Ich möchte kündigen!"
_SECRET: Final = "zq7secretq7z"


def read_pack(data: bytes) -> None:
    """A pack that is read makes a rule book; what is refused is named with its line."""
    try:
        rules = parse_pack(text_of(data), source="own.yaml")
    except RulePackInvalid as error:
        assert str(error).startswith("own.yaml:"), f"no file in {error}"
        return
    assert rules
    assert len({rule.id for rule in rules}) == len(rules), "two rules of one name"
    assert all(len(rule.terms) <= MAX_TERMS for rule in rules)
    _search(RuleBook(rules))


def read_term(data: bytes) -> None:
    """A term that is read needs a word, and is searched for within the text; another is refused with a reason."""
    draw = Draw(data)
    term, text = text_of(draw.line())[:1_000], text_of(draw.rest())[:500]
    try:
        items = parse_term(term)
    except TermInvalid as error:
        assert str(error)
        return
    assert needs(items, lambda _: 1.0), "a term that needs no word would match every text"
    assert list(words_in(items))
    assert set(beginnings(items)) <= set(words_in(items))
    _search(RuleBook([Rule("own/one", Signal.LEGAL, terms=(term,))]), text or _TEXT)


def read_expression(data: bytes) -> None:
    """An expression is compiled and searched in time that the text bounds, or refused with a reason."""
    pattern = text_of(data)
    try:
        book = RuleBook([Rule("own/one", Signal.LEGAL, patterns=(f"(?:{pattern})",))])
    except ExpressionInvalid as error:
        assert str(error)
        return
    _search(book)


def _search(book: RuleBook, text: str = _TEXT) -> None:
    for match in book.evaluate(text, facts_of(Message(text, Contract.DECISION)), language="en"):
        for start, end in match.spans:
            assert 0 <= start <= end <= len(text), f"{start}:{end} of {len(text)} characters"


def read_settings(data: bytes) -> None:
    """Settings are read, or each mistake is a sentence that names the variable and repeats no secret."""
    given: dict[str, str] = {}
    names = _names()
    draw = Draw(data)
    for _ in range(4):
        name = names[draw.number(len(names))]
        value = draw.line().decode("utf-8", "surrogateescape").replace("\x00", "")
        given[name] = f"{value}{_SECRET}" if name in _secrets() else value
    with _environment(given), refusals(SettingsInvalid):
        try:
            load_settings(env_file=None)
        except SettingsInvalid as error:
            assert _SECRET not in str(error), "a secret in a message"
            assert any(name in str(error) for name in names), f"no variable in {error}"
            raise


@contextmanager
def _environment(given: dict[str, str]) -> Iterator[None]:
    """The environment with these settings and no others."""
    before = dict(os.environ)
    for name in [name for name in before if name.upper().startswith(PREFIX) or name in _names()]:
        del os.environ[name]
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(name for names in variable_names().values() for name in names))


@cache
def _secrets() -> frozenset[str]:
    return frozenset(name for names in secret_names().values() for name in names)


def read_origins(data: bytes) -> None:
    """Origins as browsers write them, or a sentence."""
    with refusals(ValueError):
        found = origins_of(text_of(data))
        assert len(found) <= MOST
        assert ANY not in found or found == {ANY}
        for origin in found - {ANY}:
            assert origins_of(origin) == {origin}, "an origin that is read otherwise again"
            assert "/" not in origin.partition("://")[2], "an origin with a path"


def open_address(data: bytes) -> None:
    """What a provider is opened with is within bounds, or the field is named and nothing of a key repeated."""
    draw = Draw(data)
    model, url = text_of(draw.line()), text_of(draw.line())
    key = text_of(draw.rest()) + _SECRET
    try:
        opening = Opening(model=model, api_key=key, base_url=url)
    except OpeningInvalid as error:
        assert error.field in {"model", "api_key", "base_url"}
        assert _SECRET not in str(error)
        return
    found = opening.url("")
    assert found.lower().startswith(("http://", "https://"))
    assert len(found) <= MAX_URL
    assert found.isascii()
    assert not set(found) & set("?# \r\n")
    assert "@" not in urlsplit(found).netloc
    assert _SECRET not in repr(opening)


_PACK: Final = """\
pack: own
language: en
rules:
  - id: threats
    signal: legal
    any:
      - (my|our) lawyer*
      - i [will] sue .. you
      - re2: 'su(e|ing)\\b'
    unless:
      - sue ellen
      - re2: 'sued'
    when:
      plan: [vip]
      channel: [email, chat]
      language: [en]
      history_min: 2
    then:
      decision: immediate_escalation
      priority: critical
      category: Billing
      action: Call a lawyer.
      terminal: true
"""


def _pack_seeds() -> Iterator[bytes]:
    yield _PACK.encode()
    yield b"pack: a\nrules: [&a {id: x, any: [b], signal: legal}, *a]\n"
    yield b"pack: a\nrules:\n- {id: x, any: [no, 1.5, 'yes'], then: {priority: high}}\n"
    yield b"? [a]\n: b\n"
    yield ("[" * 30).encode()
    shipped = resources.files("firstline.data").joinpath("rules", "any.yaml").read_text(encoding="utf-8")
    yield shipped[:3_000].encode()


def _term_seeds() -> Iterator[bytes]:
    for term in (
        "(my|our) lawyer*",
        "*burg [the] (a|b c) .. d ... e",
        "變更 密碼",
        "환불*",
        "[a]",
        "a..",
        "(a|)",
        "l'avocat",
    ):
        yield term.encode() + b"\nmy lawyer will sue you " + term.encode()


def _setting_seeds() -> Iterator[bytes]:
    names = _names()
    values = {"PORT": "8000", "DATABASE_URL": "postgresql://u:p@db/x", "REDIS_URL": "redis://a:b@c/0"}
    for place, name in enumerate(names):
        value = next((value for end, value in values.items() if name.endswith(end)), "1")
        size = 1 if len(names) <= 256 else 2
        yield place.to_bytes(size, "big") + f"{value}\n".encode()


_WORDS: Final = (
    "any:",
    "unless:",
    "re2:",
    "then:",
    "when:",
    "history_min:",
    "terminal:",
    "..",
    "…",
    "(",
    "|",
    ")",
    "[",
    "]",
    "*",
)

TARGETS: Final = (
    Target(
        "rule-pack", "a pack makes a rule book, or a line is named", ("adapters.rule_files",), read_pack, _pack_seeds,
        (*_WORDS, "&a", "*a", "!!python/object", "<<:"),
    ),
    Target(
        "term", "a term needs a word and is found within the text", ("core.terms", "core.term_arrays"), read_term,
        _term_seeds, _WORDS, 1_024,
    ),
    Target(
        "expression", "compiled and searched in bounded time, or refused", ("core.expressions",), read_expression,
        lambda: [rb"su(e|ing)\b", rb"(?i)a{1,1000}", rb"\pL+", rb"(?P<x>a)|[^b]*c$"],
        ("{1000}", "\\b", "(?i)", "\\p{L}"),
        512,
    ),
    Target(
        "settings", "read, or sentences that name variables and repeat no secret", ("settings",), read_settings,
        _setting_seeds, ("postgresql://", "redis://", "https://", "true", "127.0.0.1/8", "*"), 1_024,
    ),
    Target(
        "origins", "origins as browsers write them, or a sentence", ("core.origins",), read_origins,
        lambda: [b"*", b"https://app.example.com, http://localhost:3000", b"https://[::1]:443"],
        ("https://", "http://localhost", ":443", "*."), 1_024,
    ),
    Target(
        "provider-address", "within bounds, or the field is named", ("adapters.llm.opening",), open_address,
        lambda: [b"gpt-5\nhttps://api.example.com/v1\nkey", b"a/b\nhttp://[::1]:99999/\n"],
        ("https://", "@", "://", "%00", "[::1]"), 1_024,
    ),
)  # fmt: skip
"""Of this module."""

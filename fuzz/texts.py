"""Targets that read messages: folding, rules, redaction, what a reader counts, language, word pieces."""

from functools import cache
from typing import Final

from firstline.adapters.language import ForeignLanguage
from firstline.adapters.shipped_rules import shipped_rules
from firstline.core.folding import MAX_VIEWS, Trace, views
from firstline.core.message import MAX_TEXT_LENGTH, Message, facts_of, reader_length, trimmed
from firstline.core.redaction import (
    AllowList,
    AllowListInvalid,
    Redactor,
    check_allowed,
    find,
)
from firstline.core.rules import MAX_SPANS, RuleBook
from firstline.core.taxonomy import Contract
from firstline.learning.wordpiece import MARKERS, MAX_TOKENS, WordPieces
from fuzz.target import Draw, Target, message_of, message_seeds, text_of, vectors

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzäöüß0123456789"


def read_message(data: bytes) -> None:
    """Trimming is done once, leaves no NUL, and what is left has a length unless it is empty."""
    text = message_of(data)
    found = trimmed(text)
    assert trimmed(found) == found, "trimming again changes a text"
    assert "\x00" not in found
    assert len(found) <= len(text)
    length = reader_length(found)
    assert 0 <= length <= 2.5 * len(found), f"{len(found)} characters are {length} long"


def fold_message(data: bytes) -> None:
    """Every reading leads back into the text."""
    text = text_of(data)[:MAX_TEXT_LENGTH]
    found = views(text, vocabulary=_book_words())
    assert 1 <= len(found) <= MAX_VIEWS
    assert len({view.words for view in found}) == len(found), "two readings are the same"
    trace = Trace(text)
    for view in found:
        words = view.words
        assert words.startswith(" ") or not words, "words are padded"
        assert "  " not in words or not words.strip(), "words are single-spaced"
        begin = words.find(" ", 1)
        for start, end in ((0, len(words)), (1, max(begin, 1)), (len(words) // 2, len(words))):
            first, last = trace.locate(view, start, end)
            assert 0 <= first <= last <= len(text), f"{start}:{end} of a reading is {first}:{last} of the text"


def match_rules(data: bytes) -> None:
    """Spans lie within the text, sorted and bounded; the same text gives the same matches."""
    text = message_of(data)[:MAX_TEXT_LENGTH]
    book, facts = _book(), facts_of(Message(text, Contract.DECISION))
    found = book.evaluate(text, facts, language="en")
    for match in found:
        assert 0 < len(match.spans) <= MAX_SPANS, f"{match.rule} has {len(match.spans)} spans"
        assert list(match.spans) == sorted(set(match.spans)), f"the spans of {match.rule} are not sorted"
        for start, end in match.spans:
            assert 0 <= start <= end <= len(text), f"{match.rule} is at {start}:{end} of {len(text)} characters"
    assert len({match.rule for match in found}) == len(found)
    assert book.evaluate(text, facts, language="en") == found, "the same text matches otherwise"


def redact(data: bytes) -> None:
    """Spans are sorted and apart; what is masked is gone for good; what is restored is the text again."""
    text = message_of(data)[:MAX_TEXT_LENGTH]
    found = find(text)
    place = 0
    for one in found:
        assert place <= one.start < one.end <= len(text), f"{one} after {place} of {len(text)}"
        place = one.end
    redactor = Redactor()
    masked = redactor.mask(text)
    assert find(masked) == (), "what was masked is found again"
    assert Redactor().mask(masked) == masked or "[" in text, "masking again changes a text"
    assert redactor.mask(masked) == masked
    assert sum(redactor.counts.values()) == len(found)
    values = {(one.kind, text[one.start : one.end]) for one in found}
    restored = redactor.restore(masked)
    if len(values) == len(found) == len(_keys(text)):
        assert restored == text, "what is restored is another text"
    again = Redactor()
    assert again.mask(text) == masked, "the same text is masked otherwise"


def _keys(text: str) -> set[str]:
    """The values of a text without case and separators: two that are equal share a placeholder."""
    return {"".join(filter(str.isalnum, text[one.start : one.end].casefold())) for one in find(text)}


def allow(data: bytes) -> None:
    """A list is within bounds or refused; what it allows is not masked, and it masks nothing more."""
    draw = Draw(data)
    entry, text = text_of(draw.line()), text_of(draw.rest())[:MAX_TEXT_LENGTH]
    try:
        check_allowed([entry])
    except AllowListInvalid as error:
        assert error.field == "redaction_allow[0]"
        return
    kept = find(text, allowed=AllowList([entry]))
    before = set(find(text))
    for one in kept:
        assert any(one.start < other.end and other.start < one.end for other in before), "allowing finds more"


def identify_language(data: bytes) -> None:
    """A code of letters, or none; never the code of a language that is supported."""
    found = _foreign().found_in(message_of(data))
    assert found is None or (found.isascii() and 2 <= len(found) <= 4 and found.isalpha()), found


def read_pieces(data: bytes) -> None:
    """At most `MAX_TOKENS` numbers that are all known, between the marks of beginning and end."""
    pieces = _pieces()
    found = pieces.ids(message_of(data))
    assert 2 <= len(found) <= MAX_TOKENS
    assert found[0] == 0
    assert found[-1] == 1
    assert all(0 <= number < len(_PIECES) for number in found)
    assert not {0, 1} & set(found[1:-1]), "a mark that somebody wrote is read as one"


_PIECES: Final = (*MARKERS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), "##ing", "refund", "[", "]")


@cache
def _pieces() -> WordPieces:
    return WordPieces(_PIECES)


@cache
def _book() -> RuleBook:
    return RuleBook((), shipped_rules())


@cache
def _book_words() -> frozenset[str]:
    return frozenset({"i", "will", "sue", "you", "lawyer", "refund"})


@cache
def _foreign() -> ForeignLanguage:
    return ForeignLanguage()


def _allow_seeds() -> list[bytes]:
    return [b"@example.com\nanna@example.com and bob@example.org", b"+49 30 123456\nRuf 030 123456 an", b"-\nx"]


def _url_seeds() -> list[bytes]:
    return [entry["url"].encode() for entry in vectors("outbound_urls.json")["refused"]]


_SIGNS: Final = ("\u200b", "\u0301", "\u202e", "１", "@", "[EMAIL_1]", "&#105;", "<b>", "...", "0x7f", "::ffff:")

TARGETS: Final = (
    Target("message", "trimming and length are sane", ("core.message",), read_message, message_seeds, _SIGNS),
    Target(
        "folding", "every reading leads back into the text", ("core.folding", "core.look_alikes"), fold_message,
        message_seeds, _SIGNS, 2_048,
    ),
    Target(
        "rule-book", "matches lie within the text and are the same every time",
        ("core.rules", "core.term_search", "core.term_table", "core.expressions", "adapters.shipped_rules"),
        match_rules, message_seeds, (*_SIGNS, "lawyer", "sue", "refund"), 2_048,
    ),
    Target(
        "redaction", "what is masked is gone, and comes back",
        (
            "core.redaction", "core.readable_view", "core.addresses", "core.bank_accounts", "core.credentials",
            "core.lettered_ids", "core.national_ids", "core.number_words", "core.personal_numbers",
            "core.phone_numbers",
        ),
        redact, lambda: [*message_seeds(), *_url_seeds()],
        (*_SIGNS, "password:", "DE89", "+49", "4111", " at ", " dot "),
        2_048,
    ),
    Target(
        "allow-list", "a list lets out and masks nothing more", ("core.redaction",), allow, _allow_seeds, _SIGNS, 1_024,
    ),
    Target(
        "language", "the code of an unsupported language, or none", ("adapters.language",), identify_language,
        message_seeds, _SIGNS, 1_024,
    ),
    Target(
        "word-pieces", "numbers of known pieces, bounded", ("learning.wordpiece", "learning.vocabulary"), read_pieces,
        message_seeds, (*_SIGNS, *MARKERS),
    ),
)  # fmt: skip
"""Of this module."""

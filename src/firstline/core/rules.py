"""Rules: data in, matches out; what must never be missed is decided here and by nothing else.

A `RuleBook` is compiled once from any number of rules and is immutable. Matching is linear in the text, depends on
nothing but the text and its facts, and a match is never lost for want of its exact place.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from firstline.core.expressions import Expression, ExpressionSet
from firstline.core.folding import Trace, views
from firstline.core.message import Facts
from firstline.core.taxonomy import Channel, Decision, Priority, Signal, UserPlan
from firstline.core.terms import compile_term, words_in

MAX_SPANS: Final = 16
"""Spans kept of one rule in one message."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """When a rule applies; an empty condition always holds."""

    plans: tuple[UserPlan, ...] = ()
    channels: tuple[Channel, ...] = ()
    languages: tuple[str, ...] = ()
    history_min: int = 0

    def hold(self, facts: Facts, *, language: str | None) -> bool:
        """Whether all of them hold for a message."""
        return (
            (not self.plans or facts.plan in self.plans)
            and (not self.channels or facts.channel in self.channels)
            and (not self.languages or language in self.languages)
            and facts.history_count >= self.history_min
        )


@dataclass(frozen=True, slots=True)
class Effects:
    """What a rule asks for beyond its signal: floors, a category, an action."""

    decision: Decision | None = None
    priority: Priority | None = None
    category: str | None = None
    action: str | None = None
    terminal: bool = False


_ALWAYS: Final = Conditions()
NO_EFFECTS: Final = Effects()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a pack.

    Attributes:
        id: `pack/name`.
        signal: what it recognises, or None when only its effects matter.
        terms: one is enough.
        guards: terms that cancel a hit which they overlap.
        patterns: RE2 expressions over the folded text with punctuation; one is enough.
        guard_patterns: the same, cancelling.
    """

    id: str
    signal: Signal | None
    terms: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    guard_patterns: tuple[str, ...] = ()
    when: Conditions = _ALWAYS
    then: Effects = NO_EFFECTS


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that applies to a message.

    Attributes:
        rule: its id.
        signal: what it recognised, or None.
        spans: half-open ranges of code points of the original text, at most `MAX_SPANS`.
        then: what it asks for.
    """

    rule: str
    signal: Signal | None
    spans: tuple[tuple[int, int], ...]
    then: Effects = NO_EFFECTS


@dataclass(slots=True)
class _Searches:
    """Patterns by rule, over one kind of text, and the guards that cancel what they find."""

    overlap: int
    guards: dict[int, str] = field(default_factory=dict)
    expressions: dict[str, Expression] = field(default_factory=dict)

    def hits(self, rule: int, pattern: str, text: bytes) -> list[tuple[int, int]]:
        """Byte ranges of a rule's pattern that no guard of the rule overlaps."""
        found = self._expression(pattern).spans(text, overlap=self.overlap)
        guard = self.guards.get(rule)
        if not found or guard is None:
            return found
        guarded = self._expression(guard).spans(text, overlap=self.overlap)
        return [hit for hit in found if not any(hit[0] + 1 < end and begin + 1 < hit[1] for begin, end in guarded)]

    def _expression(self, pattern: str) -> Expression:
        """Compiled on first use; two threads may both compile it, which is harmless."""
        found = self.expressions.get(pattern)
        if found is None:
            found = self.expressions[pattern] = Expression(pattern)
        return found


class _Candidate(NamedTuple):
    """A term to search when its rarest anchor is in a text and one anchor of each other group is too."""

    rule: int
    pattern: str
    others: tuple[frozenset[int], ...]


class RuleBook:
    """All rules in force, compiled.

    Matching has two steps. One pass of an RE2 set over plain pieces of text (the terms' anchors) finds the terms
    that may match; each of those is then searched as an expression of its own. A set of the whole terms was as fast
    on text it had seen, and a hundred times slower on text it had not, because gaps and wildcards multiply the
    automaton's states (docs/decisions/0004-anchored-rule-search.md).

    Attributes:
        content_hash: hex SHA-256 over the rules; names this version in evidence.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Raises: TermInvalid or ExpressionInvalid for a rule that cannot be compiled."""
        self.rules: Final = tuple(rules)
        self.content_hash: Final = hashlib.sha256(repr(self.rules).encode()).hexdigest()
        self._vocabulary: Final = frozenset(
            word for rule in self.rules for term in rule.terms for word in words_in(term) if word.isalpha()
        )
        self._words: Final = _Searches(overlap=1)
        self._text: Final = _Searches(overlap=0)
        self._text_patterns: Final[list[tuple[int, str]]] = []
        numbers: dict[str, int] = {}
        self._candidates: Final[dict[int, list[_Candidate]]] = {}
        for number, rule in enumerate(self.rules):
            for term in map(compile_term, rule.terms):
                first, *others = (
                    frozenset(numbers.setdefault(piece, len(numbers)) for piece in group) for group in term.anchors
                )
                for piece in first:
                    self._candidates.setdefault(piece, []).append(_Candidate(number, term.pattern, tuple(others)))
            if rule.guards:
                self._words.guards[number] = "|".join(compile_term(guard).pattern for guard in rule.guards)
            if rule.guard_patterns:
                self._text.guards[number] = "|".join(rule.guard_patterns)
            self._text_patterns.extend((number, pattern) for pattern in rule.patterns)
        self._anchors: Final = ExpressionSet(list(numbers))
        self._text_set: Final = ExpressionSet([pattern for _, pattern in self._text_patterns])

    def evaluate(self, text: str, facts: Facts, *, language: str | None = None) -> tuple[Match, ...]:
        """The rules that apply to a text, in the order of the packs.

        Args:
            text: the original message.
            facts: of the same message.
            language: detected language, for rules that ask for one.
        """
        found: dict[int, set[tuple[int, int]]] = {}
        trace: Trace | None = None
        for view in views(text, vocabulary=self._vocabulary):
            words = view.words.encode()
            for number, span in self._hits_in_words(words):
                trace = trace or Trace(text)
                _keep(found, number, trace.locate(view, *_characters(words, *span)))
            if self._text_patterns:
                punctuated = view.text.encode()
                for number, span in self._hits_in_text(punctuated):
                    same = len(view.text) == len(text)
                    _keep(found, number, _characters(punctuated, *span) if same else (0, len(text)))
        if not found:
            return ()
        matches = []
        for number in sorted(found):
            rule = self.rules[number]
            if rule.when == _ALWAYS or rule.when.hold(facts, language=language):
                matches.append(Match(rule.id, rule.signal, tuple(sorted(found[number])), rule.then))
        return tuple(matches)

    def _hits_in_words(self, words: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
        present = frozenset(self._anchors.match(words))
        for anchor in present:
            for number, pattern, others in self._candidates.get(anchor, ()):
                for group in others:
                    if group.isdisjoint(present):
                        break
                else:
                    for span in self._words.hits(number, pattern, words):
                        yield number, span

    def _hits_in_text(self, text: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
        for index in self._text_set.match(text):
            number, pattern = self._text_patterns[index]
            for span in self._text.hits(number, pattern, text):
                yield number, span


def _keep(found: dict[int, set[tuple[int, int]]], number: int, span: tuple[int, int]) -> None:
    spans = found.setdefault(number, set())
    if len(spans) < MAX_SPANS:
        spans.add(span)


def _characters(text: bytes, start: int, end: int) -> tuple[int, int]:
    """Byte offsets of UTF-8 text as character offsets."""
    first = len(text[:start].decode())
    return first, first + len(text[start:end].decode())

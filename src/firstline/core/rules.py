"""Rules: data in, matches out; what must never be missed is decided here and by nothing else.

A `RuleBook` is compiled once from any number of rules and is immutable. Matching is linear in the text, depends on
nothing but the text and its facts, and a match is never lost for want of its exact place.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from firstline.core.expressions import Expression, ExpressionSet
from firstline.core.folding import View, locate, views
from firstline.core.message import Facts
from firstline.core.taxonomy import Channel, Decision, Priority, Signal, UserPlan
from firstline.core.terms import pattern_of, words_in

MAX_SPANS: Final = 16
"""Spans kept of one rule in one message."""

_RE2_PREFIX: Final = "re2:"


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
class _Side:
    """The patterns of all rules over one kind of text: words, or text with punctuation."""

    overlap: int
    patterns: list[str] = field(default_factory=list)
    rules: list[int] = field(default_factory=list)
    guards: dict[int, str] = field(default_factory=dict)
    expressions: dict[str, Expression] = field(default_factory=dict)
    compiled: ExpressionSet = field(default_factory=lambda: ExpressionSet(()))

    def add(self, number: int, patterns: Sequence[str], guards: Sequence[str]) -> None:
        if patterns:
            self.patterns.append("|".join(patterns))
            self.rules.append(number)
        if guards:
            self.guards[number] = "|".join(guards)

    def expression(self, pattern: str) -> Expression:
        """Compiled on first use; two threads may both compile it, which is harmless."""
        found = self.expressions.get(pattern)
        if found is None:
            found = self.expressions[pattern] = Expression(pattern)
        return found

    def hits(self, index: int, text: str) -> list[tuple[int, int]]:
        """Ranges of one pattern that no guard of its rule overlaps."""
        found = list(self.expression(self.patterns[index]).spans(text, overlap=self.overlap))
        guard = self.guards.get(self.rules[index])
        if guard is None:
            return found
        guarded = list(self.expression(guard).spans(text, overlap=self.overlap))
        return [hit for hit in found if not any(hit[0] + 1 < end and begin + 1 < hit[1] for begin, end in guarded)]


class RuleBook:
    """All rules in force, compiled.

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
        self._by_script: Final = {script: _Side(overlap=1) for script in _SCRIPTS}
        self._text: Final = _Side(overlap=0)
        for number, rule in enumerate(self.rules):
            guards = [pattern_of(term) for term in rule.guards]
            by_script: dict[str, list[str]] = {}
            for term in rule.terms:
                for script in scripts_of(term):
                    by_script.setdefault(script, []).append(pattern_of(term))
            for script, patterns in by_script.items():
                self._by_script[script].add(number, patterns, guards)
            self._text.add(number, rule.patterns, rule.guard_patterns)
        for side in (*self._by_script.values(), self._text):
            side.compiled = ExpressionSet(side.patterns)

    def evaluate(self, text: str, facts: Facts, *, language: str | None = None) -> tuple[Match, ...]:
        """The rules that apply to a text, in the order of the packs.

        Args:
            text: the original message.
            facts: of the same message.
            language: detected language, for rules that ask for one.
        """
        found: dict[int, tuple[tuple[int, int], ...]] = {}
        readings = views(text, vocabulary=self._vocabulary)
        for view in readings:
            for script in _scripts_in(view.words):
                self._collect(self._by_script[script], view.words, text, view, found)
            if self._text.patterns:
                self._collect(self._text, view.text, text, view, found)
        if not found:
            return ()
        matches = []
        for number in sorted(found):
            rule = self.rules[number]
            if rule.when is _ALWAYS or rule.when.hold(facts, language=language):
                matches.append(Match(rule.id, rule.signal, found[number], rule.then))
        return tuple(matches)

    def _collect(
        self, side: _Side, searched: str, text: str, view: View, found: dict[int, tuple[tuple[int, int], ...]]
    ) -> None:
        for index in side.compiled.match(searched):
            number = side.rules[index]
            if number in found:
                continue
            hits = side.hits(index, searched)
            if hits:
                spans = {
                    locate(text, view, start, end) if side is not self._text else _locate_text(text, view, start, end)
                    for start, end in hits[:MAX_SPANS]
                }
                found[number] = tuple(sorted(spans))


def _locate_text(text: str, view: View, start: int, end: int) -> tuple[int, int]:
    return (start, min(end, len(text))) if len(view.text) == len(text) else (0, len(text))


_SCRIPTS: Final[Mapping[str, re.Pattern[str]]] = {
    "latin": re.compile(r"[a-z0-9]"),
    "cyrillic": re.compile(r"[\u0400-\u052f]"),
    "arabic": re.compile(r"[\u0600-\u06ff]"),
    "hangul": re.compile(r"[\u1100-\u11ff\uac00-\ud7af]"),
    "other": re.compile(r"[^\x00-\u024f\u0400-\u052f\u0600-\u06ff\u1100-\u11ff\uac00-\ud7af]"),
}


def scripts_of(term: str) -> tuple[str, ...]:
    """The scripts of which a text must have one for the term to be in it; keeps the sets small and fast.

    A term without alternatives needs all its scripts, so the rarest one decides; with alternatives any may do.
    """
    present = _scripts_in(" ".join(words_in(term.replace("*", ""))))
    if any(bracket in term for bracket in "(["):
        return present
    return present[-1:]


def _scripts_in(words: str) -> tuple[str, ...]:
    if words.isascii():
        return ("latin",)
    return tuple(script for script, expression in _SCRIPTS.items() if expression.search(words)) or ("latin",)

"""Rules: data in, matches out; what must never be missed is decided here and by nothing else.

A `RuleBook` is compiled once from any number of rules and is immutable. Matching is linear in the text, depends on
nothing but the text and its facts, and a match is never lost for want of its exact place.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from firstline.core.expressions import Expression, ExpressionSet
from firstline.core.folding import Trace, View, views
from firstline.core.literals import LiteralSet
from firstline.core.message import Facts
from firstline.core.taxonomy import Channel, Decision, Priority, Signal, UserPlan
from firstline.core.terms import Term, TermInvalid, compile_term, forget_words

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
class _Expressions:
    """Patterns compiled on first use; two threads may both compile one, which is harmless."""

    overlap: int
    compiled: dict[str, Expression] = field(default_factory=dict)

    def spans(self, pattern: str, text: bytes) -> list[tuple[int, int]]:
        """Byte ranges of a pattern."""
        found = self.compiled.get(pattern)
        if found is None:
            found = self.compiled[pattern] = Expression(pattern)
        return found.spans(text, overlap=self.overlap)


_SENTENCE_END: Final = b" . "


class _Candidate(NamedTuple):
    """A term to search when its rarest anchor is in a text and one anchor of each other group is too."""

    rule: int
    pattern: str
    others: tuple[frozenset[int], ...]


class RuleBook:
    """All rules in force, compiled.

    Matching has two steps. One pass over plain pieces of text (the terms' anchors) finds the terms that may match;
    each of those is then searched as an RE2 expression of its own. One RE2 set of the whole terms was as fast on text
    it had seen, and a hundred times slower on text it had not, because gaps and wildcards multiply the automaton's
    states (docs/decisions/0004-anchored-rule-search.md).

    Attributes:
        content_hash: hex SHA-256 over the rules; names this version in evidence.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Raises: TermInvalid or ExpressionInvalid for a rule that cannot be compiled."""
        self.rules: Final = tuple(rules)
        self.content_hash: Final = hashlib.sha256(repr(self.rules).encode()).hexdigest()
        self._expressions: Final = _Expressions(overlap=1)
        self._text_expressions: Final = _Expressions(overlap=0)
        self._text_patterns: Final[list[tuple[int, str]]] = []
        text_guards: dict[str, list[str]] = {}
        numbers: dict[str, int] = {}
        self._candidates: Final[dict[int, list[_Candidate]]] = {}
        self._guards: Final[dict[int, list[_Candidate]]] = {}
        for number, rule in enumerate(self.rules):
            for term in _compiled(rule, rule.terms):
                _file(term, number, self._candidates, numbers)
            for guard in _compiled(rule, rule.guards, greedy=True):
                _file(guard, number, self._guards, numbers)
            text_guards.setdefault(_name(rule), []).extend(rule.guard_patterns)
            self._text_patterns.extend((number, pattern) for pattern in rule.patterns)
        self._text_guards: Final = {name: "|".join(patterns) for name, patterns in text_guards.items() if patterns}
        whole_words = (piece.split() for piece in numbers if piece[0] == piece[-1] == " ")
        self._vocabulary: Final = frozenset(word for words in whole_words for word in words if word.isalpha())
        self._anchors: Final = LiteralSet(list(numbers))
        self._text_set: Final = ExpressionSet([pattern for _, pattern in self._text_patterns])
        forget_words()

    def evaluate(self, text: str, facts: Facts, *, language: str | None = None) -> tuple[Match, ...]:
        """The rules that apply to a text, in the order of the packs.

        Args:
            text: the original message.
            facts: of the same message.
            language: detected language, for rules that ask for one.
        """
        found: dict[int, set[tuple[int, int]]] = {}
        readings = views(text, vocabulary=self._vocabulary)
        plain = readings[0]
        trace: Trace | None = None
        searched: set[bytes] = set()
        for view in readings:
            words = view.words.encode()
            for number, hits in self._hits_in_words(words, searched):
                trace = trace or Trace(text)
                # Hits beyond those that are kept need no place, unless a guard may cancel some of the first.
                wanted = hits[:MAX_SPANS] if view is plain else hits
                spans = [trace.locate(view, *_characters(words, *hit)) for hit in wanted]
                if view is not plain:
                    # A joined or undisguised word may have hidden the guard's own words: ask the plain text too.
                    spans = self._unguarded(number, plain, trace, spans)
                _keep(found, number, spans)
            if self._text_patterns:
                punctuated = view.text.encode()
                same = len(view.text) == len(text)
                for number, hits in self._hits_in_text(punctuated):
                    _keep(
                        found,
                        number,
                        [_characters(punctuated, *hit) if same else (0, len(text)) for hit in hits],
                    )
        if not found:
            return ()
        matches = []
        for number in sorted(found):
            rule = self.rules[number]
            if rule.when == _ALWAYS or rule.when.hold(facts, language=language):
                matches.append(Match(rule.id, rule.signal, tuple(sorted(found[number])), rule.then))
        return tuple(matches)

    def _hits_in_words(self, words: bytes, searched: set[bytes]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Rules and where they hit. No term and no guard reaches across a sentence, so each is searched alone.

        Args:
            searched: sentences of earlier readings, which are not searched again; this reading's are added.
        """
        sentences = words.split(_SENTENCE_END)
        if len(sentences) > 1 and next(_candidates_in(self._anchors.found_in(words), self._candidates), None) is None:
            return
        begin = 0
        again = frozenset(searched)
        for sentence in sentences:
            key = sentence.strip()
            if key not in again:
                searched.add(key)
                shift = max(begin - 1, 0)
                for number, hits in self._hits_in_sentence(b" %b " % sentence if begin else sentence + b" "):
                    yield number, [(start + shift, end + shift) for start, end in hits]
            begin += len(sentence) + len(_SENTENCE_END)

    def _hits_in_sentence(self, words: bytes) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        present = self._anchors.found_in(words)
        guarded: dict[str, list[tuple[int, int]]] | None = None
        for number, pattern, _ in _candidates_in(present, self._candidates):
            hits = self._expressions.spans(pattern, words)
            if hits:
                if guarded is None:
                    guarded = self._guarded(present, words)
                hits = _not_overlapped(hits, guarded.get(_name(self.rules[number]), ()), shared=1)
            if hits:
                yield number, hits

    def _guarded(self, present: frozenset[int], words: bytes) -> dict[str, list[tuple[int, int]]]:
        """Ranges that guards cover, by the name of their rules."""
        guarded: dict[str, list[tuple[int, int]]] = {}
        for number, pattern, _ in _candidates_in(present, self._guards):
            guarded.setdefault(_name(self.rules[number]), []).extend(self._expressions.spans(pattern, words))
        return guarded

    def _hits_in_text(self, text: bytes) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        for index in self._text_set.match(text):
            number, pattern = self._text_patterns[index]
            hits = self._text_expressions.spans(pattern, text)
            guard = self._text_guards.get(_name(self.rules[number]))
            if guard is not None:
                hits = _not_overlapped(hits, self._text_expressions.spans(guard, text), shared=0)
            if hits:
                yield number, hits

    def _unguarded(self, number: int, plain: View, trace: Trace, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        words = plain.words.encode()
        guarded = self._guarded(self._anchors.found_in(words), words).get(_name(self.rules[number]), ())
        covered = [trace.locate(plain, *_characters(words, *found)) for found in guarded]
        return _not_overlapped(spans, covered, shared=0)


def _file(term: Term, rule: int, candidates: dict[int, list[_Candidate]], numbers: dict[str, int]) -> None:
    """File a term under each piece of its rarest group of anchors; new pieces get the next numbers."""
    first, *others = (frozenset(numbers.setdefault(piece, len(numbers)) for piece in group) for group in term.anchors)
    candidate = _Candidate(rule, term.pattern, tuple(others))
    for piece in first:
        candidates.setdefault(piece, []).append(candidate)


def _candidates_in(present: frozenset[int], candidates: Mapping[int, list[_Candidate]]) -> Iterator[_Candidate]:
    """Terms that may match: all that do, and some that do not. What a sentence has, the text around it has."""
    for anchor in candidates.keys() & present:
        for candidate in candidates[anchor]:
            for group in candidate.others:
                if group.isdisjoint(present):
                    break
            else:
                yield candidate


def _compiled(rule: Rule, terms: Iterable[str], *, greedy: bool = False) -> Iterator[Term]:
    for term in terms:
        try:
            yield compile_term(term, greedy=greedy)
        except TermInvalid as error:
            raise TermInvalid(f"rule {rule.id}: {error}") from None


def _name(rule: Rule) -> str:
    """The rule's name without its pack; guards of one name work together."""
    return rule.id.partition("/")[2]


def _not_overlapped(
    hits: list[tuple[int, int]], guarded: Sequence[tuple[int, int]], *, shared: int
) -> list[tuple[int, int]]:
    """The hits that no guard overlaps; `shared` units at either end may be common to both."""
    return [hit for hit in hits if not any(hit[0] + shared < end and begin + shared < hit[1] for begin, end in guarded)]


def _keep(found: dict[int, set[tuple[int, int]]], number: int, spans: list[tuple[int, int]]) -> None:
    if spans:
        kept = found.setdefault(number, set())
        kept.update(spans[: max(MAX_SPANS - len(kept), 0)])


def _characters(text: bytes, start: int, end: int) -> tuple[int, int]:
    """Byte offsets of UTF-8 text as character offsets."""
    first = len(text[:start].decode())
    return first, first + len(text[start:end].decode())

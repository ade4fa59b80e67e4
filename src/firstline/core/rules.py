"""Rules: data in, matches out; what must never be missed is decided here and by nothing else.

A `RuleBook` is compiled once from any number of rules and is immutable. Matching is linear in the text, depends on
nothing but the text and its facts, and a match is never lost for want of its exact place.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final, NamedTuple

from firstline.core.expressions import Expression, ExpressionSet
from firstline.core.folding import Trace, views
from firstline.core.message import Facts
from firstline.core.taxonomy import Channel, Decision, Priority, Signal, UserPlan
from firstline.core.term_arrays import PackedTerm, TermArrays, pack_terms
from firstline.core.term_search import Sentence, Span
from firstline.core.term_table import TermTable
from firstline.core.terms import Items, TermInvalid, forget_words, parse_term

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


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """Rules with their terms packed.

    Attributes:
        rules: in the order of their packs.
        terms: terms and guards; an owner is a place in `rules`.
        content_hash: hex SHA-256 over the rules.
    """

    rules: tuple[Rule, ...]
    terms: TermTable
    content_hash: str


def compile_rules(rules: Iterable[Rule]) -> CompiledRules:
    """Pack the terms of rules.

    Raises: TermInvalid for a term that the language does not allow.
    """
    rules = tuple(rules)
    return CompiledRules(rules, TermTable(pack_rules(rules)), content_hash_of(rules))


def pack_rules(rules: Iterable[Rule]) -> TermArrays:
    """The terms and guards of rules, packed; an owner is a place among the rules.

    Raises: TermInvalid for a term that the language does not allow.
    """
    packed = pack_terms(PackedTerm(*term) for number, rule in enumerate(rules) for term in _parsed(number, rule))
    forget_words()
    return packed


def content_hash_of(rules: tuple[Rule, ...]) -> str:
    """Hex SHA-256 over rules."""
    return hashlib.sha256(repr(rules).encode()).hexdigest()


class _TextPatterns:
    """The RE2 expressions of rules and their guards, all compiled."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Raises: ExpressionInvalid."""
        patterns = [(number, pattern) for number, rule in enumerate(rules) for pattern in rule.patterns]
        guards: dict[str, list[str]] = {}
        for rule in rules:
            guards.setdefault(_name(rule), []).extend(rule.guard_patterns)
        self._set: Final = ExpressionSet([pattern for _, pattern in patterns])
        self._expressions: Final = [(number, Expression(pattern)) for number, pattern in patterns]
        self._guards: Final = {name: Expression("|".join(parts)) for name, parts in guards.items() if parts}
        self._names: Final = [_name(rule) for rule in rules]

    def __bool__(self) -> bool:
        return bool(self._expressions)

    def hits(self, text: bytes) -> Iterator[tuple[int, list[Span]]]:
        """Rules and where in UTF-8 text they hit."""
        for index in self._set.match(text):
            number, expression = self._expressions[index]
            hits = expression.spans(text)
            guard = self._guards.get(self._names[number])
            if guard is not None:
                hits = _not_overlapped(hits, guard.spans(text))
            if hits:
                yield number, hits


class _Terms(NamedTuple):
    """Terms that are searched together, and the number of the rule that their owner 0 is."""

    table: TermTable
    first_rule: int


_SENTENCE_END: Final = b" . "


class RuleBook:
    """All rules in force, compiled.

    Matching has two steps. One pass over plain pieces of text finds the terms that may match; each of those is then
    searched from where its words stand (docs/decisions/0014-packed-terms.md).

    Attributes:
        rules: all of them; the given ones come before the shipped ones.
        content_hash: hex SHA-256 over the rules; names this version in evidence.
    """

    def __init__(self, rules: Iterable[Rule], shipped: CompiledRules | None = None) -> None:
        """Args:
            rules: to be compiled.
            shipped: more rules, which come after them.
        Raises: TermInvalid or ExpressionInvalid for a rule that cannot be compiled.
        """
        own = compile_rules(rules)
        parts = [part for part in (own, shipped) if part is not None and part.rules]
        self.rules: Final = tuple(rule for part in parts for rule in part.rules)
        hashes = [part.content_hash for part in parts] or [own.content_hash]
        self.content_hash: Final = (
            hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        )
        self._names: Final = [_name(rule) for rule in self.rules]
        self._terms: Final = tuple(
            _Terms(part.terms, sum(len(before.rules) for before in parts[:index])) for index, part in enumerate(parts)
        )
        self._vocabulary: Final = _Vocabulary(tuple(terms.table for terms in self._terms))
        self._text_patterns: Final = _TextPatterns(self.rules)

    def evaluate(self, text: str, facts: Facts, *, language: str | None = None) -> tuple[Match, ...]:
        """The rules that apply to a text, in the order of the packs.

        Args:
            text: the original message.
            facts: of the same message.
            language: detected language, for rules that ask for one.
        """
        found: dict[int, set[Span]] = {}
        readings = views(text, vocabulary=self._vocabulary)
        plain = readings[0]
        plain_words = plain.words.encode()
        plain_sentences: list[tuple[Sentence, ...]] = []
        trace = Trace(text)
        beneath: _Guards | None = None
        searched: set[bytes] = set()
        for view in readings:
            words = plain_words if view is plain else view.words.encode()
            sentences = self._sentences(words, searched)
            plain_sentences = plain_sentences or sentences
            for number, hits in self._hits_in_words(sentences, found):
                if view is plain:
                    # Hits beyond those that are kept need no place, unless a guard may cancel some of the first.
                    spans = [trace.locate(view, *_characters(words, *hit)) for hit in hits[:MAX_SPANS]]
                else:
                    # A joined or undisguised word may have hidden the guard's own words: ask the plain text too.
                    if beneath is None:
                        covered = self._guarded_in_words(plain_sentences)
                        beneath = _Guards(covered, lambda hit: trace.locate(plain, *_characters(plain_words, *hit)))
                    located = (trace.locate(view, *_characters(words, *hit)) for hit in hits)
                    spans = beneath.leave(located, self._names[number], shared=0, most=MAX_SPANS)
                _keep(found, number, spans)
            if self._text_patterns:
                punctuated = view.text.encode()
                same = len(view.text) == len(text)
                for number, hits in self._text_patterns.hits(punctuated):
                    _keep(
                        found,
                        number,
                        [_characters(punctuated, *hit) if same else (0, len(text)) for hit in hits[:MAX_SPANS]],
                    )
        if not found:
            return ()
        matches = []
        for number in sorted(found):
            rule = self.rules[number]
            if rule.when == _ALWAYS or rule.when.hold(facts, language=language):
                matches.append(Match(rule.id, rule.signal, tuple(sorted(found[number])), rule.then))
        return tuple(matches)

    def _sentences(self, words: bytes, searched: set[bytes]) -> list[tuple[Sentence, ...]]:
        """What each of the tables finds in each sentence. No term and no guard reaches across a sentence.

        Args:
            searched: sentences of earlier readings, which are left out; this reading's are added.
        """
        bounds = _bounds(words)
        if searched:
            bounds = [(begin, end) for begin, end in bounds if words[begin:end] not in searched]
            if not bounds:
                return []
        searched.update(words[begin:end] for begin, end in bounds)
        return list(zip(*(table.sentences(words, bounds) for table, _ in self._terms), strict=True))

    def _hits_in_words(
        self, sentences: Iterable[tuple[Sentence, ...]], found: Mapping[int, set[Span]]
    ) -> Iterator[tuple[int, list[Span]]]:
        """Rules and where they hit; a rule of which no more spans are kept is not searched for.

        Args:
            found: the spans that are kept so far.
        """
        for parts in sentences:
            guards: _Guards | None = None
            for (table, first_rule), sentence in zip(self._terms, parts, strict=True):
                for term in table.candidates(sentence):
                    number = first_rule + table.owner(term)
                    if number in found and len(found[number]) >= MAX_SPANS:
                        continue
                    hits = table.spans(term, sentence)
                    if hits:
                        if guards is None:
                            guards = _Guards(self._guarded_in_words([parts]))
                        hits = guards.leave(hits, self._names[number], shared=1)
                        if hits:
                            yield number, hits

    def _guarded_in_words(self, sentences: Iterable[tuple[Sentence, ...]]) -> dict[str, list[Span]]:
        """Ranges that guards cover, by the name of their rules."""
        guarded: dict[str, list[Span]] = {}
        for parts in sentences:
            for (table, first_rule), sentence in zip(self._terms, parts, strict=True):
                for guard in table.guards(sentence):
                    spans = table.spans(guard, sentence)
                    if spans:
                        guarded.setdefault(self._names[first_rule + table.owner(guard)], []).extend(spans)
        return guarded


class _Guards:
    """Ranges that guards cover, by the name of their rules; made ready for a name when it is first asked for."""

    __slots__ = ("_locate", "_ranges", "_ready")

    def __init__(self, ranges: Mapping[str, list[Span]], locate: Callable[[Span], Span] | None = None) -> None:
        """Args:
        locate: where a range stands among the hits that will be asked for; by default as given.
        """
        self._ranges: Final = ranges
        self._locate: Final = locate
        self._ready: Final[dict[str, tuple[list[int], list[int]]]] = {}

    def leave(self, hits: Iterable[Span], name: str, *, shared: int, most: int | None = None) -> list[Span]:
        """The first hits that no guard of a name overlaps.

        Args:
            shared: units at either end that may be common to both.
            most: how many are wanted at most.
        """
        ranges = self._ranges.get(name)
        if ranges:
            ready = self._ready.get(name)
            if ready is None:
                ready = self._ready[name] = _in_order(map(self._locate, ranges) if self._locate else ranges)
            hits = (hit for hit in hits if not _overlaps(hit, *ready, shared=shared))
        return list(hits if most is None else islice(hits, most))


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """The whole words of all terms."""

    tables: tuple[TermTable, ...]

    def __contains__(self, word: object) -> bool:
        return any(word in table for table in self.tables)


def _parsed(number: int, rule: Rule) -> Iterator[tuple[int, Items, bool]]:
    for guard, terms in ((False, rule.terms), (True, rule.guards)):
        for term in terms:
            try:
                yield number, parse_term(term), guard
            except TermInvalid as error:
                raise TermInvalid(f"rule {rule.id}: {error}") from None


def _name(rule: Rule) -> str:
    """The rule's name without its pack; guards of one name work together."""
    return rule.id.partition("/")[2]


def _bounds(words: bytes) -> list[Span]:
    """Byte ranges of the sentences among padded words, with the spaces around them."""
    if _SENTENCE_END not in words:
        return [(0, len(words))]
    bounds = []
    begin = 0
    while (stop := words.find(_SENTENCE_END, begin)) >= 0:
        bounds.append((begin, stop + 1))
        begin = stop + 2
    return [*bounds, (begin, len(words))]


def _not_overlapped(hits: list[Span], guarded: Iterable[Span]) -> list[Span]:
    """The hits that no guard overlaps."""
    ready = _in_order(guarded)
    return [hit for hit in hits if not _overlaps(hit, *ready, shared=0)]


def _in_order(ranges: Iterable[Span]) -> tuple[list[int], list[int]]:
    """Where ranges begin, ascending, and how far each or one before it reaches."""
    ordered = sorted(ranges)
    return [begin for begin, _ in ordered], list(accumulate((end for _, end in ordered), max))


def _overlaps(hit: Span, begins: list[int], reaches: list[int], *, shared: int) -> bool:
    """Whether one of the ranges that are in order overlaps a hit, beyond what they may share at either end."""
    index = bisect_left(begins, hit[1] - shared)
    return index > 0 and reaches[index - 1] > hit[0] + shared


def _keep(found: dict[int, set[Span]], number: int, spans: list[Span]) -> None:
    if spans:
        kept = found.setdefault(number, set())
        kept.update(spans[: max(MAX_SPANS - len(kept), 0)])


def _characters(text: bytes, start: int, end: int) -> tuple[int, int]:
    """Byte offsets of UTF-8 text as character offsets."""
    first = len(text[:start].decode())
    return first, first + len(text[start:end].decode())

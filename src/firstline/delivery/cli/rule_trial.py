"""`firstline rules test`: which rules match a text, where, by which term, and what follows.

Rules that would have matched but for a guard or a condition are named too, with what held them back.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.text import Text

from firstline.core.folding import fold_characters, views
from firstline.core.message import Facts, Message, facts_of
from firstline.core.policy import NO_FLOOR, floor_of
from firstline.core.rules import Conditions, Match, Rule, RuleBook
from firstline.core.taxonomy import Channel, Contract, Decision, Signal, UserPlan
from firstline.core.verdict import Verdict
from firstline.delivery.cli.rows import Row, RowInvalid, message_of
from firstline.delivery.cli.terminal import Mistake, output, paragraph, printable
from firstline.delivery.cli.triage import build_triage
from firstline.settings import load_settings

Span = tuple[int, int]
_PIECE: Final = re.compile(r"[^\W_]{3,}")
_GROUP: Final = re.compile(r"\(([^()]*)\)")
_STYLE: Final = "bold yellow"


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that applies, or nearly did.

    Attributes:
        spans: where, in code points of the message.
        terms: those of its terms that are there.
        effect: what the rule asks for, in words.
        held_back: why it does not apply; None when it does.
    """

    rule: Rule
    spans: tuple[Span, ...]
    terms: tuple[str, ...]
    effect: str
    held_back: str | None = None


def try_rules(
    text: str,
    *,
    plan: UserPlan,
    channel: Channel,
    history: int,
    rules_dir: Path | None,
    as_json: bool,
) -> None:
    """Print what the rules in force find in a text.

    Raises: Mistake, SettingsInvalid, CannotStart.
    """
    try:
        message = message_of(Row(1, text), contract=Contract.DECISION, plan=plan, channel=channel)
    except RowInvalid as error:
        raise Mistake(f"{str(error).capitalize()}.") from None
    message = replace(message, history=("…",) * history)
    triage = build_triage(load_settings(rules_dir=rules_dir))
    verdict = triage.decide(message)
    category = triage.decide(Message(message.text, Contract.CLASSIFIER))
    findings = findings_of(triage.rules, message, verdict)
    if as_json:
        sys.stdout.write(orjson.dumps(_data(message, findings, verdict, category)).decode() + "\n")
    else:
        _print(output(), message, findings, verdict, category)


def findings_of(book: RuleBook, message: Message, verdict: Verdict) -> list[Finding]:
    """The rules that apply to a message, then those that were held back."""
    facts = facts_of(message)
    matches = verdict.evidence.matches if verdict.evidence else ()
    rules = {rule.id: rule for rule in book.rules}
    findings = [
        Finding(
            rules[match.rule], match.spans, _terms(rules[match.rule], message.text, facts, match), _effect(match, facts)
        )
        for match in matches
    ]
    applied = {match.rule for match in matches}
    near = [rule for rule in book.rules if rule.id not in applied and _may_touch(rule, message.text)]
    bare = RuleBook(replace(rule, guards=(), guard_patterns=(), when=Conditions()) for rule in near)
    for match in bare.evaluate(message.text, facts, language=verdict.language):
        rule = rules[match.rule]
        held = _missing_condition(rule.when, facts, verdict.language) or "a guard (unless) overlaps these words"
        findings.append(
            Finding(rule, match.spans, _terms(rule, message.text, facts, match), _effect(match, facts), held)
        )
    return findings


def _may_touch(rule: Rule, text: str) -> bool:
    """Whether a piece of any term is in the text: quick, and enough to choose the rules worth compiling again."""
    if rule.patterns:
        return True
    folded = views(text)[0].words
    squeezed = folded.replace(" ", "")
    for term in rule.terms:
        pieces = _PIECE.findall(fold_characters(term)) or [term]
        if any(piece in folded or piece in squeezed for piece in pieces):
            return True
    return False


def _terms(rule: Rule, text: str, facts: Facts, match: Match) -> tuple[str, ...]:
    """The rule's terms that are found where the match is."""
    alone = [
        *(Rule(term, None, terms=(term,)) for term in rule.terms),
        *(Rule(pattern.removeprefix("(?:").removesuffix(")"), None, patterns=(pattern,)) for pattern in rule.patterns),
    ]
    found = RuleBook(alone).evaluate(text, facts)
    return tuple(term.rule for term in found if not set(term.spans).isdisjoint(match.spans))


def _missing_condition(when: Conditions, facts: Facts, language: str | None) -> str | None:
    if when.plans and facts.plan not in when.plans:
        return f"it is for the plans {', '.join(when.plans)}"
    if when.channels and facts.channel not in when.channels:
        return f"it is for the channels {', '.join(when.channels)}"
    if when.languages and language not in when.languages:
        return f"it is for the languages {', '.join(when.languages)}, and this looks like {language or 'none of them'}"
    if facts.history_count < when.history_min:
        return f"it needs {when.history_min} earlier messages"
    return None


def _effect(match: Match, facts: Facts) -> str:
    """What a rule alone asks for, in words."""
    parts = []
    floor = floor_of(
        frozenset({match.signal} if match.signal else ()), plan=facts.plan, history_count=facts.history_count
    ).raised(decision=match.then.decision, priority=match.then.priority)
    if floor != NO_FLOOR:
        parts.append(f"at least {'' if floor.decision is Decision.IGNORE else f'{floor.decision}, '}{floor.priority}")
    elif match.signal is Signal.SPAM:
        parts.append("ignore, unless something else speaks for the message")
    elif match.signal is not None:
        parts.append("raises the churn risk")
    if match.then.category:
        parts.append(f"category {match.then.category}")
    if match.then.action:
        parts.append(f"action: {match.then.action}")
    if match.then.terminal:
        parts.append("terminal")
    return "; ".join(parts) or "nothing by itself"


def _print(
    console: Console, message: Message, findings: Sequence[Finding], verdict: Verdict, category: Verdict
) -> None:
    applied = [finding for finding in findings if finding.held_back is None]
    console.print(_marked(message.text, [span for finding in applied for span in finding.spans], console))
    console.print()
    if not applied:
        console.print("No rule applies.")
    for finding in applied:
        _print_finding(console, finding, message.text)
    held = [finding for finding in findings if finding.held_back is not None]
    if held:
        console.print()
        console.print("Held back:", style="bold")
        for finding in held:
            _print_finding(console, finding, message.text)
    console.print()
    console.print("Verdict:", style="bold")
    rows = [
        ("decision", f"{verdict.decision}, {verdict.priority}, churn risk {verdict.churn_risk:.2f}"),
        ("category", f"{category.category}, {category.priority}, probability {category.probability:.2f}"),
        ("decided by", "rules" if verdict.source == "rule" else "the local model, under what the rules set"),
        ("language", verdict.language or "not recognised"),
        ("next step", verdict.recommended_action),
    ]
    if verdict.needs_review:
        rows.append(("review", "a person should look at it"))
    for name, value in rows:
        paragraph(console, name, value, indent=2, width=11)


def _marked(text: str, spans: Sequence[Span], console: Console) -> Text:
    """The message with the words that matched marked; in [brackets] where there is no colour to mark them with."""
    shown = Text()
    last = 0
    for start, end in _merged(spans):
        shown.append(_visible(text[last:start]))
        words = _visible(text[start:end])
        shown.append(words if console.is_terminal else f"[{words}]", f"{_STYLE} underline")
        last = end
    shown.append(_visible(text[last:]))
    return shown


def _visible(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _print_finding(console: Console, finding: Finding, text: str) -> None:
    held = finding.held_back is not None
    signal = f"  {finding.rule.signal}" if finding.rule.signal else ""
    console.print(Text.assemble("  ", (finding.rule.id, "dim" if held else _STYLE), signal))
    quoted = ", ".join(f"“{printable(text[start:end])}” at {start + 1}–{end}" for start, end in finding.spans[:5])
    lines = [("words", quoted)]
    if finding.terms:
        shown = ", ".join(_shortened(term) for term in finding.terms[:4])
        lines.append(("term", shown if len(finding.terms) <= 4 else f"{shown} and {len(finding.terms) - 4} more"))
    lines.append(("held by" if held else "effect", finding.held_back or finding.effect))
    for name, value in lines:
        paragraph(console, name, value, indent=4, width=9, style="dim" if held else "")


def _shortened(term: str) -> str:
    """A term with its long lists of alternatives cut."""

    def cut(group: re.Match[str]) -> str:
        choices = group[1].split("|")
        return group[0] if len(choices) <= 3 else f"({'|'.join(choices[:2])}|…)"

    return _GROUP.sub(cut, term)


def _data(message: Message, findings: Sequence[Finding], verdict: Verdict, category: Verdict) -> dict[str, Any]:
    return {
        "text": message.text,
        "matches": [_finding_data(finding, message.text) for finding in findings if finding.held_back is None],
        "held_back": [_finding_data(finding, message.text) for finding in findings if finding.held_back is not None],
        "verdict": {
            "decision": verdict.decision.value,
            "priority": verdict.priority.value,
            "churn_risk": verdict.churn_risk,
            "confidence": verdict.confidence,
            "recommended_action": verdict.recommended_action,
            "category": category.category,
            "category_priority": category.priority.value,
            "probability": round(category.probability, 4),
            "needs_review": verdict.needs_review,
            "source": verdict.source.value,
            "language": verdict.language,
            "reasons": [reason.text for reason in verdict.reasons],
        },
    }


def _finding_data(finding: Finding, text: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "rule": finding.rule.id,
        "signal": finding.rule.signal.value if finding.rule.signal else None,
        "spans": [{"start": start, "end": end, "text": text[start:end]} for start, end in finding.spans],
        "terms": list(finding.terms),
        "effect": finding.effect,
    }
    if finding.held_back is not None:
        data["held_back"] = finding.held_back
    return data

"""`firstline rules check`: own packs, and every mistake in them with file and line.

A pack's reader stops at its first mistake. To find the others, the rule with the mistake is blanked out, line by line,
and the pack is read again; so the first mistake of every rule is found.
"""

import re
from pathlib import Path
from typing import Final

import yaml

from firstline.adapters.rule_files import MAX_FILE_BYTES, RulePackInvalid, builtin_rules, pack_files, parse_pack
from firstline.core.rules import Rule, RuleBook
from firstline.delivery.cli.terminal import FOUND_WRONG, Mistake, counted, printable, say

_MAX_MISTAKES: Final = 200
_LINE: Final = re.compile(r":(\d+): ")


def check_rules(folder: Path) -> int:
    """Print every mistake, or what was found; 1 when there is a mistake, else 0.

    Raises: Mistake when the folder cannot be listed or holds no pack.
    """
    try:
        paths = pack_files(folder)
    except RulePackInvalid as error:
        raise Mistake(f"{error}.") from None
    if not paths:
        raise Mistake(f"There is no pack (*.yaml, *.yml) in {folder}.")
    mistakes: list[str] = []
    packs: dict[str, Path] = {}
    shipped = {pack_of(rule) for rule in builtin_rules()}
    rules: list[Rule] = []
    for path in paths:
        found, wrong = _read(path)
        mistakes += wrong
        if wrong or not found:
            continue
        name = pack_of(found[0])
        if name in packs:
            mistakes.append(f"{path}:1: pack '{name}' is also in {packs[name].name}")
        packs[name] = path
        rules += found
        print(f"{path}: {counted(len(found), 'rule')}, {_terms(found)}.")
        if name in shipped:
            say(f"{path}: a pack named '{name}' is shipped too; verdicts will not tell them apart. Rename yours.")
    for mistake in mistakes:
        print(printable(mistake))
    if mistakes:
        say(f"{counted(len(mistakes), 'mistake')}; these packs would not be put in force.")
        return FOUND_WRONG
    RuleBook(rules)
    say(f"{counted(len(rules), 'rule')} in {counted(len(packs), 'pack')}: all valid.")
    return 0


def pack_of(rule: Rule) -> str:
    """The name of a rule's pack."""
    return rule.id.partition("/")[0]


def _terms(rules: tuple[Rule, ...]) -> str:
    terms = counted(sum(len(rule.terms) for rule in rules), "term")
    expressions = sum(len(rule.patterns) for rule in rules)
    return f"{terms}, {counted(expressions, 'expression')}" if expressions else terms


def _read(path: Path) -> tuple[tuple[Rule, ...], list[str]]:
    """The rules of a file, and its mistakes in the order of their lines."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return (), [f"{path}:1: a pack is at most {MAX_FILE_BYTES:,} bytes"]
        data = path.read_bytes()
    except OSError as error:
        return (), [f"{path}:1: {error.strerror}"]
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return (), [f"{path}:{line}: not UTF-8"]
    mistakes: list[str] = []
    while len(mistakes) < _MAX_MISTAKES:
        try:
            rules = parse_pack(text, source=str(path))
        except RulePackInvalid as error:
            mistakes.append(str(error))
        else:
            return rules, mistakes
        place = _LINE.search(mistakes[-1].removeprefix(str(path)))
        rest = _without_rule(text, int(place[1])) if place else None
        if rest is None:
            break
        text = rest
    return (), mistakes


def _without_rule(text: str, line: int) -> str | None:
    """The text with the rule on a line blanked out; None when the line belongs to no rule, or to the last one."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    nodes = [value for key, value in root.value if key.value == "rules"] if isinstance(root, yaml.MappingNode) else []
    if not nodes or not isinstance(nodes[0], yaml.SequenceNode) or len(nodes[0].value) < 2 or nodes[0].flow_style:
        return None
    starts = [node.start_mark.line for node in nodes[0].value]
    after = nodes[0].end_mark.line + (1 if nodes[0].end_mark.column else 0)
    lines = text.split("\n")
    for start, end in zip(starts, [*starts[1:], after], strict=True):
        if start <= line - 1 < end:
            lines[start:end] = [""] * (end - start)
            return "\n".join(lines)
    return None

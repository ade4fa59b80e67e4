"""Rule packs from YAML files, checked with file and line.

Values are read as the text that stands in the file (`no` is a word, not a boolean); anchors and aliases are
refused, and a file is at most `MAX_FILE_BYTES`.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Final, TypeVar

import yaml

from firstline.core.expressions import Expression, ExpressionInvalid
from firstline.core.rules import Conditions, Effects, Rule
from firstline.core.taxonomy import LANGUAGES, Channel, Decision, Priority, Signal, UserPlan
from firstline.core.terms import TermInvalid, parse_term

MAX_FILE_BYTES: Final = 1 << 20
MAX_TERMS: Final = 500
MAX_TERM_LENGTH: Final = 1000
MAX_ACTION_LENGTH: Final = 500
MAX_DEPTH: Final = 20

SHIPPED_PACKS: Final = (*LANGUAGES, "any")

_RE2_PREFIX: Final = "re2"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Choice = TypeVar("_Choice", bound=StrEnum)


class RulePackInvalid(ValueError):
    """A pack that cannot be used; the message names the file, the line and what is wrong."""


def builtin_rules() -> tuple[Rule, ...]:
    """The packs that firstline ships: one per language, and one for all of them."""
    folder = resources.files("firstline.data").joinpath("rules")
    rules: list[Rule] = []
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".yaml"):
            rules.extend(parse_pack(entry.read_text(encoding="utf-8"), source=entry.name, check_terms=False))
    return tuple(rules)


def read_rules(folder: Path) -> tuple[Rule, ...]:
    """All packs of a folder, in the order of their file names.

    Raises: RulePackInvalid when a file cannot be read, a pack is invalid or two packs share a name.
    """
    rules: list[Rule] = []
    packs: dict[str, str] = {}
    for path in pack_files(folder):
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise RulePackInvalid(f"{path.name}: a pack is at most {MAX_FILE_BYTES} bytes")
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise RulePackInvalid(f"{path.name}: not UTF-8") from None
        except OSError as error:
            raise RulePackInvalid(f"{path.name}: {error.strerror}") from None
        found = parse_pack(text, source=path.name)
        name = found[0].id.split("/", 1)[0]
        if name in SHIPPED_PACKS:
            raise RulePackInvalid(f"{path.name}: pack '{name}' has the name of a shipped pack; choose another")
        if name in packs:
            raise RulePackInvalid(f"{path.name}: pack '{name}' is also in {packs[name]}")
        packs[name] = path.name
        rules.extend(found)
    return tuple(rules)


def pack_files(folder: Path) -> list[Path]:
    """The YAML files of a folder, sorted; hidden files and subfolders are left out.

    Raises: RulePackInvalid when the folder cannot be listed.
    """
    try:
        return sorted(
            path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"} and not path.name.startswith(".")
        )
    except OSError as error:
        raise RulePackInvalid(f"{folder}: {error.strerror}") from None


def parse_pack(text: str, *, source: str, check_terms: bool = True) -> tuple[Rule, ...]:
    """One pack from its YAML text.

    Args:
        source: file name, for messages.
        check_terms: compile every term for the sake of its line in a message; the rule book compiles them anyhow.
    Raises: RulePackInvalid.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise RulePackInvalid(f"{source}: aliases are not allowed")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:  # composing deeper ones overflows the C stack
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise RulePackInvalid(f"{source}:{line}: nesting is deeper than {MAX_DEPTH}")
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RulePackInvalid(f"{source}:{line}: {error.problem or 'not valid YAML'}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise RulePackInvalid(f"{source}: not valid YAML ({type(error).__name__})") from None
    if root is None:
        raise RulePackInvalid(f"{source}: the file is empty")
    return _Pack(source, check_terms=check_terms).read(root)


class _Pack:
    def __init__(self, source: str, *, check_terms: bool) -> None:
        self._source = source
        self._check_terms = check_terms

    def read(self, root: yaml.Node) -> tuple[Rule, ...]:
        top = self._mapping(root, allowed={"pack", "language", "rules"}, required={"pack", "rules"})
        name = self._name(top["pack"], "pack")
        if "language" in top:
            self._one_of(top["language"], "language", (*LANGUAGES, "any"))
        rules = [self._rule(name, node) for node in self._items(top["rules"], "rules")]
        seen: set[str] = set()
        for rule, node in zip(rules, self._items(top["rules"], "rules"), strict=True):
            if rule.id in seen:
                raise self._error(node, f"rule '{rule.id}' is there twice")
            seen.add(rule.id)
        return tuple(rules)

    def _rule(self, pack: str, node: yaml.Node) -> Rule:
        keys = self._mapping(node, allowed={"id", "signal", "any", "unless", "when", "then"}, required={"id", "any"})
        if "signal" not in keys and "then" not in keys:
            raise self._error(node, "a rule needs a signal or a then")
        terms, patterns = self._terms(keys["any"], "any")
        guards, guard_patterns = self._terms(keys["unless"], "unless") if "unless" in keys else ((), ())
        if bool(guards and not terms) or bool(guard_patterns and not patterns):
            raise self._error(
                keys["unless"], "unless needs terms of the same kind as any: words for words, re2 for re2"
            )
        return Rule(
            id=f"{pack}/{self._name(keys['id'], 'id')}",
            signal=self._choice(keys["signal"], "signal", Signal) if "signal" in keys else None,
            terms=terms,
            guards=guards,
            patterns=patterns,
            guard_patterns=guard_patterns,
            when=self._conditions(keys["when"]) if "when" in keys else Conditions(),
            then=self._effects(keys["then"]) if "then" in keys else Effects(),
        )

    def _terms(self, node: yaml.Node, key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        terms: list[str] = []
        patterns: list[str] = []
        items = self._items(node, key)
        if len(items) > MAX_TERMS:
            raise self._error(node, f"{key} has {len(items)} terms; at most {MAX_TERMS}")
        for item in items:
            expression = isinstance(item, yaml.MappingNode)
            if expression:
                entry = self._mapping(item, allowed={_RE2_PREFIX}, required={_RE2_PREFIX})
                value = self._text(entry[_RE2_PREFIX], "re2", most=MAX_TERM_LENGTH)
            else:
                value = self._text(item, key, most=MAX_TERM_LENGTH)
            try:
                if expression:
                    Expression(value)
                    patterns.append(f"(?:{value})")
                else:
                    if self._check_terms:
                        parse_term(value)
                    terms.append(value)
            except (TermInvalid, ExpressionInvalid) as error:
                raise self._error(item, str(error)) from None
        return tuple(terms), tuple(patterns)

    def _conditions(self, node: yaml.Node) -> Conditions:
        keys = self._mapping(node, allowed={"plan", "channel", "language", "history_min"})
        return Conditions(
            plans=self._choices(keys, "plan", UserPlan),
            channels=self._choices(keys, "channel", Channel),
            languages=tuple(
                self._one_of(item, "language", LANGUAGES)
                for item in (self._items(keys["language"], "language") if "language" in keys else ())
            ),
            history_min=self._number(keys["history_min"], "history_min", most=50) if "history_min" in keys else 0,
        )

    def _effects(self, node: yaml.Node) -> Effects:
        keys = self._mapping(node, allowed={"decision", "priority", "category", "action", "terminal"})
        return Effects(
            decision=self._choice(keys["decision"], "decision", Decision) if "decision" in keys else None,
            priority=self._choice(keys["priority"], "priority", Priority) if "priority" in keys else None,
            category=self._text(keys["category"], "category", most=64) if "category" in keys else None,
            action=self._text(keys["action"], "action", most=MAX_ACTION_LENGTH) if "action" in keys else None,
            terminal=self._one_of(keys["terminal"], "terminal", ("true", "false")) == "true"
            if "terminal" in keys
            else False,
        )

    def _choices(self, keys: Mapping[str, yaml.Node], key: str, choices: type[_Choice]) -> tuple[_Choice, ...]:
        return tuple(self._choice(item, key, choices) for item in self._items(keys[key], key)) if key in keys else ()

    def _choice(self, node: yaml.Node, key: str, choices: type[_Choice]) -> _Choice:
        return choices(self._one_of(node, key, [choice.value for choice in choices]))

    def _one_of(self, node: yaml.Node, key: str, allowed: Sequence[str]) -> str:
        value = self._text(node, key, most=64)
        if value not in allowed:
            raise self._error(node, f"{key} is one of {', '.join(allowed)}")
        return value

    def _name(self, node: yaml.Node, key: str) -> str:
        value = self._text(node, key, most=64)
        if not all(character in "abcdefghijklmnopqrstuvwxyz0123456789._-" for character in value):
            raise self._error(node, f"{key} may hold a-z, 0-9, '.', '_' and '-'")
        return value

    def _number(self, node: yaml.Node, key: str, *, most: int) -> int:
        value = self._text(node, key, most=10)
        if not value.isascii() or not value.isdigit() or int(value) > most:
            raise self._error(node, f"{key} is a number from 0 to {most}")
        return int(value)

    def _text(self, node: yaml.Node, key: str, *, most: int) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            raise self._error(node, f"{key} must be a text")
        value: str = node.value.strip()
        if len(value) > most:
            raise self._error(node, f"{key} has {len(value)} characters; at most {most}")
        return value

    def _items(self, node: yaml.Node, key: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self._error(node, f"{key} must be a list with at least one entry")
        items: list[yaml.Node] = node.value
        return items

    def _mapping(
        self,
        node: yaml.Node,
        *,
        allowed: set[str],
        required: set[str] = frozenset(),  # type: ignore[assignment]  # never changed
    ) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"expected keys: {', '.join(sorted(allowed))}")
        keys: dict[str, yaml.Node] = {}
        for key, value in self._pairs(node):
            if key.value not in allowed:
                raise self._error(key, f"unknown key '{key.value}'; known: {', '.join(sorted(allowed))}")
            if key.value in keys:
                raise self._error(key, f"'{key.value}' is there twice")
            keys[key.value] = value
        for missing in sorted(required - keys.keys()):
            raise self._error(node, f"'{missing}' is missing")
        return keys

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be a word")
            yield key, value

    def _error(self, node: yaml.Node, problem: str) -> RulePackInvalid:
        return RulePackInvalid(f"{self._source}:{node.start_mark.line + 1}: {problem}")

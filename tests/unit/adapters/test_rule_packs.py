"""Own packs: what is read, and every mistake reported with file and line."""

from pathlib import Path

import pytest

from firstline.adapters.rule_files import (
    MAX_FILE_BYTES,
    MAX_TERM_LENGTH,
    MAX_TERMS,
    RulePackInvalid,
    builtin_rules,
    parse_pack,
    read_rules,
)
from firstline.core.rules import Conditions, Effects, Rule
from firstline.core.taxonomy import LANGUAGES, Channel, Decision, Priority, Signal, UserPlan

PACK = r"""
pack: acme
language: en
rules:
  - id: legal.injunction
    signal: legal
    any:
      - injunction*
      - cease and desist
    unless:
      - injunction molding
  - id: vip.broken-checkout
    any:
      - checkout ... (broken|down|dead)
      - re2: 'err-\d{4}'
    when:
      plan: [enterprise]
      channel: [email, chat]
      language: [en, de]
      history_min: 2
    then:
      decision: priority_response
      priority: high
      category: Payment Issue
      action: Call the account manager.
      terminal: true
"""


def test_a_pack_is_read_as_it_is_documented() -> None:
    first, second = parse_pack(PACK, source="acme.yaml")
    assert first == Rule(
        "acme/legal.injunction", Signal.LEGAL, ("injunction*", "cease and desist"), ("injunction molding",)
    )
    assert second == Rule(
        "acme/vip.broken-checkout",
        None,
        ("checkout ... (broken|down|dead)",),
        patterns=(r"(?:err-\d{4})",),
        when=Conditions((UserPlan.ENTERPRISE,), (Channel.EMAIL, Channel.CHAT), ("en", "de"), 2),
        then=Effects(
            Decision.PRIORITY_RESPONSE, Priority.HIGH, "Payment Issue", "Call the account manager.", terminal=True
        ),
    )


def test_words_of_yaml_stay_words() -> None:
    (rule,) = parse_pack(
        "pack: p\nrules:\n  - id: x\n    signal: legal\n    any: [no, 12, null, true]", source="p.yaml"
    )
    assert rule.terms == ("no", "12", "null", "true")


def rule_with(**lines: str) -> str:
    """A pack of one rule, with given values of its keys; line 3 is the rule's first."""
    keys = {"id": "x", "signal": "legal", "any": "[sue]"} | lines
    return "pack: p\nrules:\n- " + "\n  ".join(f"{key}: {value}" for key, value in keys.items() if value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "p.yaml: the file is empty", id="empty"),
        pytest.param("# nothing", "p.yaml: the file is empty", id="comment only"),
        pytest.param("pack: p\nrules: ]", "p.yaml:2: ", id="syntax"),
        pytest.param("pack: p\nrules:\n\t- id: x", "p.yaml:3: ", id="tab"),
        pytest.param("- a\n- b", "p.yaml:1: expected keys: language, pack, rules", id="a list"),
        pytest.param("just words", "p.yaml:1: expected keys", id="a text"),
        pytest.param("pack: p", "p.yaml:1: 'rules' is missing", id="no rules"),
        pytest.param("rules: [a]", "p.yaml:1: 'pack' is missing", id="no name"),
        pytest.param("pack: p\nrules: []", "p.yaml:2: rules must be a list with at least one entry", id="empty rules"),
        pytest.param("pack: p\nrules: x", "p.yaml:2: rules must be a list", id="rules are text"),
        pytest.param("pack: p\ncolour: red\nrules: [a]", "p.yaml:2: unknown key 'colour'", id="unknown key"),
        pytest.param("pack: p\npack: q\nrules: [a]", "p.yaml:2: 'pack' is there twice", id="key twice"),
        pytest.param("? [a]\n: b", "p.yaml:1: a key must be a word", id="key is a list"),
        pytest.param("pack: p\nrules: &a\n- *a", "p.yaml: aliases are not allowed", id="alias"),
        pytest.param("pack: P!\nrules: [a]", "p.yaml:1: pack may hold a-z", id="bad pack name"),
        pytest.param("pack: p\nlanguage: xx\nrules: [a]", "p.yaml:2: language is one of en, de", id="bad language"),
        pytest.param("pack: p\nrules: [a]", "p.yaml:2: expected keys: any, id, signal", id="rule is text"),
        pytest.param(rule_with(id=""), "p.yaml:3: 'id' is missing", id="no id"),
        pytest.param(rule_with(any=""), "p.yaml:3: 'any' is missing", id="no terms"),
        pytest.param(rule_with(signal=""), "p.yaml:3: a rule needs a signal or a then", id="no effect"),
        pytest.param(rule_with(id="Ä"), "p.yaml:3: id may hold a-z", id="bad id"),
        pytest.param(rule_with(id="a" * 65), "p.yaml:3: id has 65 characters; at most 64", id="long id"),
        pytest.param(rule_with(signal="angry"), "p.yaml:4: signal is one of legal, safety", id="bad signal"),
        pytest.param(rule_with(signal="[legal]"), "p.yaml:4: signal must be a text", id="signal is a list"),
        pytest.param(rule_with(any="sue"), "p.yaml:5: any must be a list", id="any is text"),
        pytest.param(rule_with(any="['']"), "p.yaml:5: any must be a text", id="empty term"),
        pytest.param(rule_with(any="[(sue]"), "p.yaml:5: ')' is missing", id="bad term"),
        pytest.param(rule_with(any="\n  - sue\n  - '...'"), "p.yaml:7: a term needs", id="bad term further down"),
        pytest.param(rule_with(any="[{re2: '('}]"), "p.yaml:5: missing )", id="bad re2"),
        pytest.param(rule_with(any="[{re2: '(?=x)'}]"), "p.yaml:5: ", id="lookahead"),
        pytest.param(rule_with(any="[{re3: x}]"), "p.yaml:5: unknown key 're3'", id="bad term key"),
        pytest.param(
            rule_with(any=f"[{'a' * (MAX_TERM_LENGTH + 1)}]"), "p.yaml:5: any has 1001 characters", id="long term"
        ),
        pytest.param(
            rule_with(any=f"[{', '.join('a' for _ in range(MAX_TERMS + 1))}]"),
            "p.yaml:5: any has 501 terms; at most 500",
            id="many terms",
        ),
        pytest.param(
            rule_with(unless="[{re2: x}]"), "p.yaml:6: unless needs terms of the same kind", id="guard of another kind"
        ),
        pytest.param(rule_with(when="{plan: [gold]}"), "p.yaml:6: plan is one of free, pro, enterprise", id="bad plan"),
        pytest.param(rule_with(when="{plan: free}"), "p.yaml:6: plan must be a list", id="plan is text"),
        pytest.param(rule_with(when="{channel: [fax]}"), "p.yaml:6: channel is one of email", id="bad channel"),
        pytest.param(rule_with(when="{language: [any]}"), "p.yaml:6: language is one of en", id="bad condition"),
        pytest.param(rule_with(when="{history_min: 51}"), "p.yaml:6: history_min is a number from 0 to 50", id="much"),
        pytest.param(rule_with(when="{history_min: -1}"), "p.yaml:6: history_min is a number", id="negative"),
        pytest.param(rule_with(when="{tier: [x]}"), "p.yaml:6: unknown key 'tier'", id="unknown condition"),
        pytest.param(rule_with(then="{decision: panic}"), "p.yaml:6: decision is one of ignore", id="bad decision"),
        pytest.param(rule_with(then="{priority: urgent}"), "p.yaml:6: priority is one of low", id="bad priority"),
        pytest.param(rule_with(then="{terminal: yes}"), "p.yaml:6: terminal is one of true, false", id="bad flag"),
        pytest.param(
            rule_with(then=f"{{action: {'a' * 501}}}"), "p.yaml:6: action has 501 characters", id="long action"
        ),
        pytest.param(
            rule_with(then=f"{{category: {'a' * 65}}}"), "p.yaml:6: category has 65 characters", id="long category"
        ),
        pytest.param(
            "pack: p\nrules:\n- {id: x, signal: legal, any: [a]}\n- {id: x, signal: legal, any: [b]}",
            "p.yaml:4: rule 'p/x' is there twice",
            id="id twice",
        ),
        pytest.param("[" * 100_000, "p.yaml:1: nesting is deeper than 20", id="deep nesting"),
    ],
)
def test_a_mistake_is_reported_with_file_and_line(text: str, problem: str) -> None:
    with pytest.raises(RulePackInvalid) as caught:
        parse_pack(text, source="p.yaml")
    assert str(caught.value).startswith(problem)


def test_packs_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(rule_with().replace("pack: p", "pack: second"))
    (tmp_path / "a.yaml").write_text(rule_with().replace("pack: p", "pack: first"))
    (tmp_path / ".hidden.yaml").write_text("[")
    (tmp_path / "notes.txt").write_text("[")
    assert [rule.id for rule in read_rules(tmp_path)] == ["first/x", "second/x"]


def test_two_packs_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(rule_with())
    with pytest.raises(RulePackInvalid, match=r"b\.yaml: pack 'p' is also in a\.yaml"):
        read_rules(tmp_path)


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RulePackInvalid, match=r"a\.yaml: not UTF-8"):
        read_rules(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(RulePackInvalid, match="at most"):
        read_rules(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RulePackInvalid, match="No such file"):
        read_rules(tmp_path / "none")


def test_every_supported_language_has_its_rules() -> None:
    packs = {rule.id.split("/")[0] for rule in builtin_rules()}
    assert packs == {*LANGUAGES, "any"}


@pytest.mark.parametrize("signal", list(Signal))
def test_every_language_has_rules_for_every_signal(signal: Signal, shipped_rules: tuple[Rule, ...]) -> None:
    assert {rule.id.split("/")[0] for rule in shipped_rules if rule.signal is signal} >= set(LANGUAGES)

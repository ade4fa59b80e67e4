"""What is found, masked and restored; the SDKs read the same vectors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firstline.core.redaction import (
    MAX_ALLOWED,
    MAX_ALLOWED_LENGTH,
    AllowList,
    AllowListInvalid,
    Kind,
    Redactor,
    check_allowed,
    find,
)

CASES = json.loads((Path(__file__).parents[3] / "vectors" / "redaction.json").read_text(encoding="utf-8"))["cases"]
LANGUAGES = {"en", "de", "fr", "es", "pt", "it", "nl", "pl", "ru", "tr", "zh", "ja", "ar", "ko"}


def text_of(case: dict[str, Any]) -> str:
    return "".join(case["text"])


def name_of(case: dict[str, Any]) -> str:
    return f"{case['language']}-{'-'.join(entry[0] for entry in case['found']) or 'nothing'}"


@pytest.mark.parametrize("case", CASES, ids=map(name_of, CASES))
def test_what_is_personal_is_found_at_its_place_and_nothing_else(case: dict[str, Any]) -> None:
    found = [[one.kind.value, one.start, one.end] for one in find(text_of(case))]
    assert found == case["found"]


@pytest.mark.parametrize("case", CASES, ids=map(name_of, CASES))
def test_a_text_is_masked_as_the_vectors_say(case: dict[str, Any]) -> None:
    assert Redactor().mask(text_of(case)) == case["masked"]


def test_the_vectors_cover_every_language_with_and_without_personal_data() -> None:
    assert {case["language"] for case in CASES if case["found"]} == LANGUAGES
    assert {case["language"] for case in CASES if not case["found"]} == LANGUAGES
    assert sum(bool(case["found"]) for case in CASES) >= 200
    assert sum(not case["found"] for case in CASES) >= 150
    assert {entry[0] for case in CASES for entry in case["found"]} == set(Kind)


def test_one_value_keeps_its_placeholder_over_message_history_and_answer() -> None:
    redactor = Redactor()
    assert redactor.mask("From anna@example.com, cc bob@example.com") == "From [EMAIL_1], cc [EMAIL_2]"
    assert redactor.mask("BOB@example.com wrote") == "[EMAIL_2] wrote"
    assert redactor.restore("Answer [EMAIL_2] first") == "Answer bob@example.com first"


def test_separators_do_not_make_another_number() -> None:
    redactor = Redactor()
    assert redactor.mask("4111 1111 1111 1111, then 4111-1111-1111-1111") == "[CARD_1], then [CARD_1]"
    assert redactor.counts == {Kind.CARD: 2}


def test_an_unknown_placeholder_stays() -> None:
    redactor = Redactor()
    redactor.mask("anna@example.com")
    assert redactor.restore("[EMAIL_2] [PHONE_1] [EMAIL_1") == "[EMAIL_2] [PHONE_1] [EMAIL_1"


def test_a_placeholder_in_the_message_is_not_taken_for_a_value() -> None:
    redactor = Redactor()
    text = "Why do I see [EMAIL_1] instead of anna@example.com?"
    masked = redactor.mask(text)
    assert masked == "Why do I see [EMAIL_1] instead of [EMAIL_2]?"
    assert redactor.restore(masked) == text


def test_a_placeholder_in_the_history_that_is_taken_gets_another() -> None:
    redactor = Redactor()
    redactor.mask("anna@example.com")
    masked = redactor.mask("it says [EMAIL_1] to me")
    assert masked == "it says [EMAIL_2] to me"
    assert redactor.restore(masked) == "it says [EMAIL_1] to me"


def test_masked_text_is_masked_to_itself() -> None:
    redactor = Redactor()
    masked = redactor.mask("anna@example.com and [EMAIL_1]")
    assert redactor.mask(masked) == masked


def test_restoring_is_not_recursive() -> None:
    redactor = Redactor()
    masked = redactor.mask('password: "[EMAIL_1]x9" and anna@example.com')
    assert "anna" not in masked
    assert redactor.restore(redactor.restore(masked)).count("anna@example.com") == 1


def test_allowed_values_and_domains_stay() -> None:
    allowed = AllowList(["+49 30 1234567", "@example.com", "GB82WEST12345698765432"])
    text = "Ask help@example.com or Anna@Other.example, +49-30-1234567, GB82 WEST 1234 5698 7654 32, 0171 2345678"
    assert Redactor(allowed=allowed).mask(text) == (
        "Ask help@example.com or [EMAIL_1], +49-30-1234567, GB82 WEST 1234 5698 7654 32, [PHONE_1]"
    )


def test_an_allowed_domain_allows_no_longer_name_that_ends_alike() -> None:
    allowed = AllowList(["@example.com"])
    assert len(find("a1@notexample.com b1@sub.example.com c1@example.com.evil.example", allowed=allowed)) == 3


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        (["x"] * (MAX_ALLOWED + 1), f"redaction_allow must hold at most {MAX_ALLOWED}"),
        (["fine", ""], r"redaction_allow\[1\] must have 1 to"),
        (["x" * (MAX_ALLOWED_LENGTH + 1)], r"redaction_allow\[0\] must have 1 to"),
        (["--"], r"redaction_allow\[0\] must hold a letter or a digit"),
    ],
)
def test_an_allow_list_out_of_bounds_is_refused_with_field_and_bound(entries: list[str], problem: str) -> None:
    with pytest.raises(AllowListInvalid, match=problem):
        check_allowed(entries)


def test_an_allow_list_within_bounds_is_accepted() -> None:
    check_allowed(["x" * MAX_ALLOWED_LENGTH] * MAX_ALLOWED)


def test_a_refused_entry_is_not_repeated_in_the_error() -> None:
    entry = "anna@example.com" * 20
    with pytest.raises(AllowListInvalid) as refused:
        check_allowed([entry])
    assert "anna" not in str(refused.value)


def test_counts_say_how_many_of_each_kind() -> None:
    redactor = Redactor()
    redactor.mask("anna@example.com, bob@example.com, 192.168.1.10")
    assert redactor.counts == {Kind.EMAIL: 2, Kind.IP: 1}


def test_an_empty_and_a_broken_text_are_read() -> None:
    assert find("") == ()
    assert Redactor().mask("") == ""
    broken = "a \ud800 anna@example.com \udfff"
    redactor = Redactor()
    assert redactor.restore(redactor.mask(broken)) == broken


def test_values_beyond_the_bound_on_checks_are_still_masked() -> None:
    numbers = [f"+49 170 {number:07d}" for number in range(1_000_000, 1_000_300)]
    masked = Redactor().mask("; ".join(numbers))
    assert not any(number in masked for number in numbers)


def test_numbering_plans_are_not_loaded_by_the_import() -> None:
    code = (
        "import sys, firstline.core.redaction as r; r.find('hello, order 12');"
        "sys.exit(any(name in sys.modules for name in ('phonenumbers', 'stdnum')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

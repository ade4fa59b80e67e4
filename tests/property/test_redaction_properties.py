"""What redaction promises for every text."""

import pytest
import stdnum.cn.ric
import stdnum.iban
import stdnum.luhn
from hypothesis import example, given
from hypothesis import strategies as st

from firstline.core.national_ids import is_resident_id
from firstline.core.redaction import Kind, Redactor, find

any_text = st.text(st.characters(codec="utf-8"), max_size=120)
tricky = st.text("1204 5-./()+@:[]_=#aAbDE8937K\n\u200b\u00ad٣５密码пароль", max_size=80)
fragments = st.sampled_from(
    [
        "anna@example.com", "+49 170 1234567", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "123-45-6789",
        "192.168.1.10", "password: ", "Hunter2x", "[EMAIL_1]", "[PHONE_2]", "[SECRET_1]", "order ", "tel ", "SSN ",
        "(at)", " dot ", "https://", "?token=", "://a:b@", "-----BEGIN PRIVATE KEY-----", "Bearer ", "1 ", "\x00", "@",
    ]
)  # fmt: skip
texts = st.lists(any_text | tricky | fragments, max_size=8).map("".join)
words = st.text("abc xyz\n密ж", max_size=20).map(lambda text: f" {text} ")

VALUES = {
    Kind.EMAIL: "anna.s@example.org",
    Kind.PHONE: "+49 170 7654321",
    Kind.CARD: "5555 5555 5555 4444",
    Kind.IBAN: "GB82 WEST 1234 5698 7654 32",
    Kind.NATIONAL_ID: "529.982.247-25",
    Kind.IP: "2001:db8::7",
    Kind.SECRET: "gh" + "p_" + "abcDEF1234567890abcdefGHIJ",
}


@given(texts)
@example("password: [EMAIL_1]")
@example("a@b.com4111111111111111")
@example("[EMAIL_1]@example.com")
def test_masked_text_holds_nothing_that_would_be_found_again(text: str) -> None:
    masked = Redactor().mask(text)
    assert find(masked) == ()
    assert Redactor().mask(masked) == masked


@given(texts)
def test_spans_are_sorted_separate_and_inside_the_text(text: str) -> None:
    position = 0
    for one in find(text):
        assert position <= one.start < one.end <= len(text)
        position = one.end


@given(st.lists(words | st.sampled_from(sorted(VALUES.values())), max_size=10))
def test_masking_and_restoring_gives_the_text_back_and_no_planted_value_stays(parts: list[str]) -> None:
    text = " ; ".join(parts)
    redactor = Redactor()
    masked = redactor.mask(text)
    assert redactor.restore(masked) == text
    assert not any(value in masked for value in VALUES.values())


@given(st.sampled_from(sorted(VALUES)), words, words)
def test_a_planted_value_is_found_as_what_it_is_among_words(kind: Kind, before: str, after: str) -> None:
    found = find(before + VALUES[kind] + after)
    assert [(one.kind, one.start, one.end) for one in found] == [(kind, len(before), len(before) + len(VALUES[kind]))]


@given(st.sampled_from(sorted(VALUES)), st.data())
def test_characters_that_nobody_sees_hide_nothing(kind: Kind, data: st.DataObject) -> None:
    value = VALUES[kind]
    places = data.draw(st.sets(st.integers(1, len(value) - 1), max_size=6))
    unseen = data.draw(st.sampled_from("\u200b\u200c\u200d\u00ad\u2060\ufeff"))
    hidden = "".join(unseen * (place in places) + sign for place, sign in enumerate(value))
    assert [(one.kind, one.start, one.end) for one in find(f"see {hidden} here")] == [(kind, 4, 4 + len(hidden))]


@given(st.from_regex(r"4[0-9]{14}", fullmatch=True))
def test_a_card_is_found_exactly_when_its_check_digit_is_right(digits: str) -> None:
    right = digits + stdnum.luhn.calc_check_digit(digits)
    wrong = digits + str((int(right[-1]) + 5) % 10)
    if len(set(digits)) > 1:
        assert [one.kind for one in find(f"it is {right} ok")] == [Kind.CARD]
    assert Kind.CARD not in {one.kind for one in find(f"it is {wrong} ok")}


@given(st.from_regex(r"DE[0-9]{20}", fullmatch=True))
def test_an_account_number_is_found_exactly_when_python_stdnum_accepts_it(number: str) -> None:
    fixed = "DE" + stdnum.iban.calc_check_digits(number) + number[4:]
    assert [one.kind for one in find(f"to {fixed} please")] == [Kind.IBAN]
    assert (Kind.IBAN in {one.kind for one in find(f"to {number} please")}) is stdnum.iban.is_valid(number)


@pytest.mark.parametrize("digits", ["11010519491231002", "11010519491231001", "44030419900307451"])
def test_a_resident_id_is_checked_as_python_stdnum_checks_it(digits: str) -> None:
    for sign in "0123456789X":
        assert is_resident_id(digits + sign) is (stdnum.cn.ric.calc_check_digit(digits + sign) == sign)

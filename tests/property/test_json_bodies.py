"""Bodies: what is accepted is what the standard library reads; what is refused is refused with a reason."""

import json
import math

from hypothesis import example, given
from hypothesis import strategies as st

from firstline.delivery.http.bodies import MAX_DEPTH, JsonInvalid, parse_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values, st.booleans())
def test_json_within_the_bounds_is_read_as_it_is(value: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=60) | st.text('{}[]",:\\u0d8e1.-NaInfty \n', max_size=40).map(str.encode))
@example(b'{"a":1,"a":2}')
@example(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
@example(b'"\\ud83d\\ude00"')
@example(b'"\\ud83d"')
def test_any_bytes_are_refused_or_read_as_the_standard_library_does(body: bytes) -> None:
    try:
        found = parse_json(body)
    except JsonInvalid:
        return
    assert found == json.loads(body.decode("utf-8-sig"))


@given(st.integers())
def test_a_whole_number_fits_64_bits_or_is_refused(number: int) -> None:
    try:
        assert parse_json(str(number).encode()) == number
        assert -(2**63) <= number < 2**64
    except JsonInvalid:
        assert not -(2**63) <= number < 2**64


@given(st.integers(1, 3 * MAX_DEPTH), st.sampled_from(["[{}]", '{{"a":{}}}']))
def test_nesting_is_read_to_64_levels_and_not_further(depth: int, around: str) -> None:
    text = "0"
    for _ in range(depth):
        text = around.replace("{}", text) if around == "[{}]" else f'{{"a":{text}}}'
    try:
        parse_json(text.encode())
        assert depth <= MAX_DEPTH
    except JsonInvalid:
        assert depth > MAX_DEPTH


@given(st.sampled_from(["NaN", "Infinity", "-Infinity", "1e999", "-1e999"]))
def test_what_is_no_number_is_refused(text: str) -> None:
    try:
        parse_json(f'{{"a": [{text}]}}'.encode())
    except JsonInvalid:
        return
    raise AssertionError(f"{text} was read as {math.nan}")

"""Text as the numbers that the sentence encoder reads."""

import pytest

from firstline.learning.wordpiece import MAX_TOKENS, WordPieces

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "refund",
    "in",
    "##voice",
    "invoice",
    "cafe",
    "strasse",
    "stra",
    "!",
    "'",
    "don",
    "t",
    "退",
    "款",
    "[",
    "sep",
    "]",
    "€",
    "sigma",
    "σας",
    "##s",
    "a",
    "1",
]


@pytest.fixture
def words() -> WordPieces:
    return WordPieces(PIECES)


def named(words: WordPieces, text: str) -> list[str]:
    names = [PIECES[number] for number in words.ids(text)]
    assert (names[0], names[-1]) == ("[CLS]", "[SEP]")
    return names[1:-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Refund INVOICE", ["refund", "invoice"], id="case is folded"),
        pytest.param("invoices", ["invoice", "##s"], id="the longest pieces first"),
        pytest.param("Café café", ["cafe", "cafe"], id="accents are folded, composed or not"),
        pytest.param("don't!", ["don", "'", "t", "!"], id="every mark is a word"),
        pytest.param("我退款", ["[UNK]", "退", "款"], id="every Chinese character is a word"),
        pytest.param("straße", ["[UNK]"], id="a sharp s stays one"),
        pytest.param("re\x00fu\u200bnd", ["refund"], id="control characters go"),
        pytest.param("refund\u00a0\t\u3000a", ["refund", "a"], id="every kind of space"),
        pytest.param("€1", ["[UNK]"], id="a sign that is no mark stays in its word"),
        pytest.param("€ 1", ["€", "1"], id="and is one alone"),
        pytest.param("ΣΑΣ", ["[UNK]"], id="case is folded letter by letter"),
        pytest.param("invoixe refund", ["[UNK]", "refund"], id="a word that cannot be cut is unknown as a whole"),
        pytest.param("[SEP]", ["[", "sep", "]"], id="a marker in a text is no marker"),
        pytest.param("\ud800", [], id="half a character"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_a_text_is_read_as_the_encoder_was_taught(words: WordPieces, text: str, expected: list[str]) -> None:
    assert named(words, text) == expected


def test_a_long_text_is_cut_and_still_framed(words: WordPieces) -> None:
    assert named(words, "refund " * 500) == ["refund"] * (MAX_TOKENS - 2)
    assert named(words, "a" * 101) == ["[UNK]"]


def test_a_word_is_read_alike_the_second_time(words: WordPieces) -> None:
    assert words.ids("invoices") == words.ids("invoices")


def test_pieces_without_a_marker_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lack \[SEP\]"):
        WordPieces(["[CLS]", "[UNK]", "refund"])

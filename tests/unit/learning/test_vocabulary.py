"""How text becomes rows of the embedding table, in English and through word lists."""

import pytest

from firstline.learning.vocabulary import MAX_CHARACTERS, Vocabulary, words_of

PIECES = ["refund", "in", "##voice", "invoice", "not", "working", "pass", "##word", "password", "!", "'", "don", "t"]
PAIRS = [("not", "working")]
LEXICONS = {
    "de": "rückerstattung\trefund\nfunktioniert nicht\tnot working\nkennwort\tpassword\nrechnung\tinvoice\n",
    "ja": "返金\trefund\n動かない\tnot working\n",
    "ko": "환불\trefund\n",
    "ar": "فاتورة\tinvoice\n",
}


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(PIECES, PAIRS, LEXICONS)


def named(vocabulary: Vocabulary, text: str, language: str | None = None) -> list[str]:
    names = [*PIECES, *(" ".join(pair) for pair in PAIRS)]
    return [names[row] for row in vocabulary.rows(text, language=language)]


def test_a_word_is_cut_into_the_longest_pieces_first(vocabulary: Vocabulary) -> None:
    assert named(vocabulary, "Invoice") == ["invoice"]
    assert named(vocabulary, "password!") == ["password", "!"]
    assert named(vocabulary, "involce") == []


def test_a_known_pair_has_a_row_of_its_own_beside_its_words(vocabulary: Vocabulary) -> None:
    assert named(vocabulary, "it is NOT working") == ["not", "working", "not working"]


def test_accents_and_case_make_no_difference(vocabulary: Vocabulary) -> None:
    assert named(vocabulary, "RÉFUND") == named(vocabulary, "refund") == ["refund"]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de", "Wo bleibt die Rückerstattung", ["refund"]),
        ("de", "wo bleibt die ruckerstattung", ["refund"]),
        ("de", "Es funktioniert nicht", ["not", "working", "not working"]),
        ("de", "Meine Rechnungskopie", ["invoice"]),
        ("de", "das password", ["password"]),
        ("ja", "アプリが動かないので返金してください", ["not", "working", "not working", "refund"]),
        ("ko", "환불해 주세요", ["refund"]),
        ("ar", "أين الفاتورة؟ فاتوره", ["invoice"]),
    ],
)
def test_another_language_is_read_through_its_word_list(
    vocabulary: Vocabulary, language: str, text: str, expected: list[str]
) -> None:
    assert named(vocabulary, text, language) == expected


def test_a_language_without_a_word_list_is_read_as_english(vocabulary: Vocabulary) -> None:
    assert named(vocabulary, "refund", "en") == named(vocabulary, "refund", "fr") == ["refund"]


@pytest.mark.parametrize("text", ["", "   ", "\x00\x01", "\u200b\u200d", "👍👍", "\ud800", "a" * 5_000])
def test_text_without_words_has_no_rows(vocabulary: Vocabulary, text: str) -> None:
    for language in (None, *LEXICONS):
        assert vocabulary.rows(text, language=language) == []


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    assert len(words_of("word " * MAX_CHARACTERS)) == MAX_CHARACTERS // 5

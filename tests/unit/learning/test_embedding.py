"""What the sentence encoder is given to read, by language."""

import numpy as np
import pytest

from firstline.learning.embedding import Floats, SentenceEmbedder
from firstline.learning.vocabulary import Vocabulary
from firstline.learning.wordpiece import WordPieces

PIECES = ["[CLS]", "[SEP]", "[UNK]", "refund", "not", "working", "invoice", "the", "vpn", "!"]
LEXICONS = {
    "de": "rückerstattung\trefund\nfunktioniert nicht\tnot working\nrechnung\tthe invoice\nleer\tnichts\n",
    "ja": "返金\trefund\n動かない\tnot working\n",
}


class Listener:
    """An encoder that keeps what it was given."""

    dimensions = 2

    def __init__(self) -> None:
        self.heard: list[str] = []

    def encode(self, ids: list[int]) -> Floats:
        self.heard.append(" ".join(PIECES[number] for number in ids[1:-1]))
        return np.array([1, 0], np.float32)


@pytest.mark.parametrize(
    ("language", "text", "heard"),
    [
        ("en", "The VPN!", "the vpn !"),
        (None, "The VPN!", "the vpn !"),
        ("de", "Rechnungskopie, VPN funktioniert nicht", "the invoice vpn not working"),
        ("ja", "アプリが動かないので返金してください", "not working refund"),
    ],
)
def test_english_is_read_as_it_is_and_other_languages_by_their_glosses(
    language: str | None, text: str, heard: str
) -> None:
    encoder = Listener()
    vector = SentenceEmbedder(encoder, WordPieces(PIECES), Vocabulary(PIECES, (), LEXICONS)).embed(
        text, language=language
    )
    assert encoder.heard == [heard]
    assert vector.tolist() == [1, 0]


@pytest.mark.parametrize(("language", "text"), [("de", "Guten Tag"), ("fr", "refund"), ("en", " \x00"), ("de", "leer")])
def test_a_text_of_which_nothing_is_known_has_no_meaning(language: str, text: str) -> None:
    encoder = Listener()
    embedder = SentenceEmbedder(encoder, WordPieces(PIECES), Vocabulary(PIECES, (), LEXICONS))
    assert embedder.embed(text, language=language).tolist() == [0, 0]
    assert encoder.heard == []


def test_a_gloss_keeps_the_order_of_the_text() -> None:
    vocabulary = Vocabulary(PIECES, (), LEXICONS)
    assert vocabulary.gloss("Funktioniert nicht: die Rückerstattung", language="de") == "not working refund"
    assert vocabulary.gloss("guten tag", language="de") == ""

"""What a search of the shipped rules costs, counted in steps and not in seconds, and that threads may share it."""

import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from firstline.core.folding import views
from firstline.core.message import Message, facts_of
from firstline.core.rules import CompiledRules, RuleBook
from firstline.core.taxonomy import Contract

LANGUAGES = ("en", "de", "pl", "zh", "ar", "ko")
LENGTH = 2_500
MAX_STEPS_PER_CHARACTER = 20

_DIGITS = str.maketrans("aeiost", "431057")


def _repeated(pick: Callable[[], str], *, between: str = " ") -> str:
    text = ""
    while len(text) < LENGTH:
        text += pick() + between
    return text[:LENGTH]


def hostile(packs: CompiledRules, language: str) -> Iterator[tuple[str, str]]:
    """Texts made of the words of one pack so that many of its terms seem to begin, each with its kind."""
    draw = random.Random(language)
    terms = [term for rule in packs.rules if rule.id.startswith(f"{language}/") for term in rule.terms + rule.guards]
    words = sorted({word.strip("*") for term in terms for word in re.findall(r"[^\s()\[\]|.…]+", term)} - {""})
    few, short = draw.sample(words, 40), sorted(words, key=len)[:100]
    beginnings = [re.findall(r"[^\s()\[\]|.…*]+", term)[0] for term in terms if "..." in term]
    yield "any words", _repeated(lambda: draw.choice(words))
    yield "few words", _repeated(lambda: draw.choice(few))
    yield "one word", _repeated(lambda: few[0])
    yield "short words", _repeated(lambda: draw.choice(short))
    yield "beginnings before gaps", _repeated(lambda: draw.choice(beginnings))
    yield "no spaces", _repeated(lambda: draw.choice(words), between="")
    yield "letter by letter", _repeated(lambda: draw.choice(draw.choice(words)))
    yield "digits for letters", _repeated(lambda: draw.choice(words).translate(_DIGITS))
    yield "split by signs", _repeated(lambda: "-".join(draw.choice(words)))


def steps(packs: CompiledRules, text: str) -> int:
    """Steps for all terms and guards of the first reading, in one sentence."""
    words = views(text)[0].words.replace(" . ", " ").encode()
    (sentence,) = packs.terms.sentences(words, [(0, len(words))])
    for term in packs.terms.candidates(sentence) | packs.terms.guards(sentence):
        packs.terms.spans(term, sentence)
    return sentence.steps_worked_out


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_costs_more_than_a_few_steps_for_each_character(shipped_packs: CompiledRules, language: str) -> None:
    costly = {
        kind: cost
        for kind, text in hostile(shipped_packs, language)
        if (cost := steps(shipped_packs, text)) > MAX_STEPS_PER_CHARACTER * len(text)
    }
    assert costly == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_of_twice_the_length_costs_at_most_twice_the_steps(shipped_packs: CompiledRules, language: str) -> None:
    dearer = {}
    for kind, text in hostile(shipped_packs, language):
        once, twice = steps(shipped_packs, text), steps(shipped_packs, f"{text} {text}")
        if twice > 2.1 * once + 100:
            dearer[kind] = (once, twice)
    assert dearer == {}


def test_threads_that_share_a_book_find_what_one_alone_finds(book: RuleBook, shipped_packs: CompiledRules) -> None:
    texts = [text[:400] for language in LANGUAGES for _, text in hostile(shipped_packs, language)]

    def matches(text: str) -> object:
        return book.evaluate(text, facts_of(Message(text, Contract.DECISION)))

    alone = [matches(text) for text in texts]
    assert any(alone)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(matches, texts * 4)) == alone * 4

"""How the rules see a text: folded until a disguise and the plain word look alike.

Only the rules read folded text. What is stored, answered and given to a model is the original. A `View` is the
folded text as words between single spaces, padded with one space at each end, with `.` as a word of its own
where a sentence ends, and every Chinese or Japanese character as a word; so a term's word boundaries are plain
spaces. Positions can be traced back to code points
of the original.

Cost: a plain message has one view; only a text that shows signs of disguise (letters spaced out, digits inside
words, signs between letters, letters repeated) gets more.
"""

import html
import re
import unicodedata
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from firstline.core.expressions import ExpressionSet
from firstline.core.look_alikes import ALWAYS, BETWEEN_SCRIPTS, BETWEEN_SCRIPTS_BACK, LEET

MAX_VIEWS: Final = 9
_LONGEST_WORD: Final = 20
_LEET_CHARACTERS: Final = frozenset("0123456789@$€£+§¢!|")

_LATIN: Final = re.compile(r"[a-z]")
_OTHER_ALPHABET: Final = re.compile(r"[\u0370-\u03ff\u0400-\u052f]")
_WORD: Final = re.compile(r"[^\W_]+")
_TAG: Final = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<!--[^<>]{0,200}-->")
_PARAGRAPH: Final = re.compile(r"\n[ \t]*\n\s*")
_INNER_DOT: Final = re.compile(r"\.(?=[^\W_])")
_CJK: Final = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_HANGUL: Final = "\u1100-\u11ff\uac00-\ud7af"
_HANGUL_CHARACTER: Final = re.compile(rf"[{_HANGUL}]")
_CJK_CHARACTER: Final = re.compile(rf"[{_CJK}]")
_SCRIPT_CHANGE: Final = re.compile(rf"(?<=[^\W{_HANGUL}])(?=[{_HANGUL}])|(?<=[{_HANGUL}])(?=[^\W{_HANGUL}])")
_HAS_EAST_ASIAN: Final = re.compile(rf"[{_CJK}{_HANGUL}]")

# What a disguise looks like. A sign stands for a letter only where a letter is beside it.
_LEET_SIGN: Final = re.compile(r"[^\W\d_][0-9@$€£+§¢!|]|[0-9@$€£+§¢!|][^\W\d_]")
_LEET_WORD: Final = re.compile(r"[\w@$€£+§¢!|]*[^\W\d_][\w@$€£+§¢!|]*")
_SPACED: Final = re.compile(
    r"(?<![\w@$€!])[\w@$€!](?:(?:[ ._*~/|,:;'\"-]|\s){1,3}[\w@$€!](?![\w@$€])){2,}",
)
_SPLIT_BY_SIGN: Final = re.compile(r"(?<=[^\W_])[._*~/|^`+=\\-]{1,3}(?=[^\W_])")
_REPEATED: Final = re.compile(r"([^\W\d_])\1{2,}")

# The same signs in one pass, each a little wider than the expression that then does the work.
_LEET, _SPLITS, _SPACES, _REPEATS = range(4)
_SIGNS: Final = ExpressionSet(
    [
        r"\pL[0-9@$€£+§¢!|]|[0-9@$€£+§¢!|]\pL",
        r"[\pL\pN][._*~/|^`+=\\-]{1,3}[\pL\pN]",
        r"(?:^|[^\pL\pN])[\pL\pN@$€!][^\pL\pN]{1,3}[\pL\pN@$€!][^\pL\pN]{1,3}[\pL\pN@$€!](?:[^\pL\pN]|$)",
        "|".join(letter * 3 for letter in "abcdefghijklmnopqrstuvwxyzабвгдежзиклмнопрстуфхцчшщыэюя"),
    ]
)


class _FoldTable(dict[int, str]):
    """Code point → folded text, worked out on first sight and then kept; bounded by Unicode itself."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _fold_character(chr(code))
        return folded


class _WordTable(dict[int, str]):
    """Folded code point → itself if it is part of a word, `.` if it ends a sentence, else a space.

    A Chinese or Japanese character is a word of its own.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept: str
        if _CJK_CHARACTER.match(character):
            kept = f" {character} "
        elif character.isalnum():
            kept = character
        elif character == ".":
            kept = "."
        elif character in "!?;。！？؟；…।\x00":
            kept = " . "
        else:
            kept = " "
        self[code] = kept
        return kept


def _fold_character(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\n\t\r\v\f\x85\u2028\u2029":
        return "\n" if character in "\n\u2028\u2029" else " "
    if category == "Zs":
        return " "
    if category in {"Cc", "Cf", "Cs", "Co", "Mn", "Me"}:
        return _keep_mark(character)
    if character in ALWAYS:
        return ALWAYS[character]
    folded = unicodedata.normalize("NFKC", character).casefold()
    if not _HAS_EAST_ASIAN.search(folded):
        folded = "".join(
            part for part in unicodedata.normalize("NFKD", folded) if unicodedata.category(part) not in {"Mn", "Me"}
        )
    folded = "".join(ALWAYS.get(part, part) for part in folded)
    if len(folded) == 1 and not folded.isascii() and folded.isdigit():
        return str(unicodedata.digit(folded, 0))
    return folded


def _keep_mark(character: str) -> str:
    """Drop what a reader does not see; voicing marks are letters to a Japanese reader."""
    return character if character in "\u3099\u309a" else ""


_FOLD: Final = _FoldTable()
_WORDS: Final = _WordTable()


@dataclass(frozen=True, slots=True)
class View:
    """One way to read a text.

    Attributes:
        words: folded words, single-spaced and padded; what terms are matched on.
        text: folded text with its punctuation; what `re2:` terms are matched on.
    """

    words: str
    text: str


def fold(text: str) -> str:
    """Lower-case, normalise and undisguise characters; keep punctuation and word order.

    A word of two scripts is read in the one that most of its letters are of: `lawуer` with a Cyrillic у is
    "lawyer", `cуд` with a Latin c is "суд".
    """
    folded = fold_characters(text)
    if not folded.isascii() and _LATIN.search(folded) and _OTHER_ALPHABET.search(folded):
        folded = _WORD.sub(_read_mixed, folded)
    return folded


def fold_characters(text: str) -> str:
    """`fold` without reading words of two scripts in one of them; for the words of a rule."""
    if text.isascii():
        folded = text.lower()
        return folded if folded.isprintable() else folded.translate(_FOLD)
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return text.translate(_FOLD)


def words_of(folded: str) -> str:
    """The words of a folded text, as `View.words` has them."""
    if "\n" in folded:
        folded = _PARAGRAPH.sub("\x00", folded)
    spaced = folded.translate(_WORDS)
    if "." in spaced:
        spaced = _INNER_DOT.sub(" ", spaced).replace(".", " . ")
    if not spaced.isascii() and _HANGUL_CHARACTER.search(spaced):
        spaced = _SCRIPT_CHANGE.sub(" ", spaced)
    return f" {' '.join(spaced.split())} "


def views(text: str, *, vocabulary: Container[str] = ()) -> tuple[View, ...]:
    """Every reading of a text that the rules should try, the plain one first.

    Args:
        text: original text, at most a few thousand code points.
        vocabulary: words that letters written one by one may spell without a gap between the words, as in
            "I s u e y o u".
    Returns: 1 to `MAX_VIEWS` different views.
    """
    folded = fold(text)
    plain = View(words_of(folded), folded)
    signs = _SIGNS.match(folded.encode())
    marked = ("&" in text and ";" in text) or ("<" in text and ">" in text)
    latin = None if folded.isascii() else _as_latin(fold_characters(text))
    if not signs and not marked and latin is None:
        return (plain,)
    seen = {plain.words: plain}
    if latin is not None:
        seen.setdefault(words_of(latin), View(words_of(latin), latin))
    for other in _undisguised(text, folded, signs=signs, marked=marked, vocabulary=vocabulary):
        words = words_of(other)
        if words not in seen:
            seen[words] = View(words, other)
            if len(seen) == MAX_VIEWS:
                break
    return tuple(seen.values())


def _undisguised(
    text: str, folded: str, *, signs: Sequence[int], marked: bool, vocabulary: Container[str]
) -> Iterator[str]:
    if marked:
        folded = fold(_TAG.sub("", html.unescape(text)))
        yield folded
        signs = _SIGNS.match(folded.encode())
    leet = _LEET in signs or not _LEET_CHARACTERS.isdisjoint(folded)
    for joined in _joined(folded, signs=signs, vocabulary=vocabulary):
        yield joined
        if leet and _LEET_SIGN.search(joined):
            yield _LEET_WORD.sub(_read_leet_l, joined)
            yield _LEET_WORD.sub(_read_leet_i, joined)
    if _REPEATS in signs:
        yield _REPEATED.sub(r"\1", folded)
        yield _REPEATED.sub(r"\1\1", folded)


def _joined(folded: str, *, signs: Sequence[int], vocabulary: Container[str]) -> Iterator[str]:
    """The text with spaced-out letters and split words put together, then as it is."""
    if _SPACES in signs:
        yield _SPACED.sub(_join_letters, folded)
        yield _SPACED.sub(lambda run: _join_known_words(run, vocabulary), folded)
    if _SPLITS in signs:
        yield _SPLIT_BY_SIGN.sub("", folded)
    yield folded


def _join_letters(run: re.Match[str]) -> str:
    return " ".join("".join(_letters_of(part)) for part in _split_words(run[0]))


def _join_known_words(run: re.Match[str], vocabulary: Container[str]) -> str:
    """Letters that spell several known words in a row, read as the fewest such words; else as one word."""
    letters = "".join(_letters_of(run[0]))
    # For every position: how many words lead up to it at least, and where the last of them begins.
    best: list[tuple[int, int] | None] = [(0, 0)]
    for end in range(1, len(letters) + 1):
        known = [
            (head[0] + 1, start)
            for start in range(max(0, end - _LONGEST_WORD), end)
            if (head := best[start]) is not None and (letters[start:end] in vocabulary)
        ]
        best.append(min(known, default=None))
    words: list[str] = []
    end = len(letters)
    while end and (last := best[end]) is not None:
        words.append(letters[last[1] : end])
        end = last[1]
    return " ".join(reversed(words)) or letters


def _split_words(run: str) -> list[str]:
    """`s u e   y o u` is two words: a gap wider than the others separates words."""
    gaps = [len(gap) for gap in re.findall(r"[\s._*~/|,:;'\"-]+", run)]
    if gaps and max(gaps) > min(gaps):
        return re.split(rf"[\s._*~/|,:;'\"-]{{{min(gaps) + 1},}}", run)
    return [run]


def _letters_of(run: str) -> Iterator[str]:
    return (character for character in run if character.isalnum() or character in "@$€!")


def _read_leet_l(word: re.Match[str]) -> str:
    return _read_leet(word[0], one="l")


def _read_leet_i(word: re.Match[str]) -> str:
    return _read_leet(word[0], one="i")


def _read_leet(word: str, *, one: str) -> str:
    body = word.rstrip("!|+")
    if body.isalpha() or not any(character.isalpha() for character in body):
        return word
    return "".join(one if character in "1!|" else LEET.get(character, character) for character in body)


def _read_mixed(word: re.Match[str]) -> str:
    letters = word[0]
    if letters.isascii() or not _OTHER_ALPHABET.search(letters):
        return letters
    latin = sum(letter.isascii() and letter.isalpha() for letter in letters)
    if not latin:
        return letters
    if 2 * latin >= len(letters):
        return _read_latin(word)
    return "".join(BETWEEN_SCRIPTS_BACK.get(letter, letter) for letter in letters)


def _as_latin(original: str) -> str | None:
    """The reading in which every word that could be Latin is; None when a text gives no reason to try.

    A text of Cyrillic or Greek words is left alone as soon as it has one letter that passes for no Latin one and
    not a single Latin letter.
    """
    others = _OTHER_ALPHABET.findall(original)
    if not others or (not _LATIN.search(original) and any(letter not in BETWEEN_SCRIPTS for letter in others)):
        return None
    return _WORD.sub(_read_latin, original)


def _read_latin(word: re.Match[str]) -> str:
    as_latin = "".join(BETWEEN_SCRIPTS.get(letter, letter) for letter in word[0])
    return as_latin if as_latin.isascii() else word[0]


class Trace:
    """The way back from folded words to the original text; worked out once per text, and only when it is needed."""

    __slots__ = ("_ends", "_lined_up", "_starts", "_text")

    def __init__(self, text: str) -> None:
        self._text: Final = text
        self._starts: list[int] | None = None
        self._ends: list[int] = []
        self._lined_up: tuple[str, bool] = ("", False)

    def locate(self, view: View, start: int, end: int) -> tuple[int, int]:
        """Trace a span of `view.words` back to the original.

        Args:
            view: one of `views(text)`.
            start, end: offsets into `view.words`.
        Returns: half-open range of code points of the original; the whole text when the way back is not certain,
            so that a match is never lost for want of its place.
        """
        starts = self._work_out() if self._starts is None else self._starts
        words = view.words
        if self._lined_up[0] is not words:
            self._lined_up = words, _letters_in(words, len(words)) == len(starts)
        first, last = _letters_in(words, start), _letters_in(words, end) - 1
        if not self._lined_up[1] or last < first:
            return 0, len(self._text)
        return starts[first], self._ends[last]

    def _work_out(self) -> list[int]:
        text = self._text
        if text.isascii():
            starts = [position for position, character in enumerate(text) if character.isalnum()]
            self._ends = [position + 1 for position in starts]
        else:
            starts = []
            for position, cluster in _clusters(text):
                letters = _letters_of_character(cluster) if len(cluster) == 1 else _letters_of_cluster(cluster)
                starts.extend([position] * letters)
                self._ends.extend([position + len(cluster)] * letters)
        self._starts = starts
        return starts


@lru_cache(maxsize=16_384)
def _letters_of_character(character: str) -> int:
    return _letters_of_cluster(character)


def _letters_of_cluster(cluster: str) -> int:
    words = words_of(fold(cluster))
    return _letters_in(words, len(words))


def _letters_in(words: str, end: int) -> int:
    """Letters among padded words up to an offset."""
    return end - words.count(" ", 0, end) - words.count(".", 0, end)


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """Base characters with the marks that follow them, each with its position."""
    begin = 0
    for position in range(1, len(text) + 1):
        if position == len(text) or not _continues(text[position]):
            if begin < len(text):
                yield begin, text[begin:position]
            begin = position


def _continues(character: str) -> bool:
    return unicodedata.combining(character) != 0 or character in "\uff9e\uff9f" or "\u1160" <= character <= "\u11ff"

"""Where payment cards, telephone numbers and numbers of persons are in a text.

A run is a stretch of digits and light separators. In it every group of digits is tried as the beginning of a card,
of a number of a person and of a telephone number, in this order, over a bounded number of groups, so the work is
linear in the text. After `_MOST_CHECKS` costly checks whatever has the shape is taken for personal.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from firstline.core.expressions import Expression
from firstline.core.national_ids import DIGITS, is_national_id, schemes
from firstline.core.number_words import CARD, PERSON, PHONE, THING, words_after, words_before
from firstline.core.phone_numbers import international_lengths, is_mobile, is_national
from firstline.core.readable_view import BLANK, View, plain

Named = tuple[str, int, int]

RUN_MARK: Final = r"[0-9](?:[ \t\r\n.,/()\\_*|+~'-]{0,4}[0-9]){5}"
_RUN: Final = Expression(r"[0-9](?:[ \t\r\n.,/()\\_*|+~'-]{0,4}[0-9]){5,}")
_MOST_CHECKS: Final = 48
_UNMISTAKABLE: Final = frozenset({"cpf", "cnpj", "snils", "rrn", "ahv"})
"""Schemes whose separators alone tell them from numbers of things."""

_MOST_GROUPS: Final = 8
_LONGEST_AREA: Final = 5
_LONGEST_CARD: Final = 19
_CARD_RANKS: Final = {size: rank for rank, size in enumerate((16, 15, 14, 19, 18, 17, 13))}
"""Which of several lengths that are right is believed."""

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_BREAKS: Final = frozenset("\n\r,|~")
_AMOUNT_AFTER: Final = Expression(
    plain(
        r"(?i)^ ?(?:€|\$|£|¥|₽|₺|₩|₹|﷼|%|zł|pln\b|eur|usd|gbp|chf|руб|р\.|tl\b|try\b|円|元|块|원|won\b|yen\b|rmb|dollar"
        r"|pound|ريال|جنيه|درهم|دولار"
        r"|people|users|customers|views|rows|records|km\b|kg\b|ms\b|kb\b|mb\b|gb\b|bytes|x[0-9])"
    )
)
_GAPS_AS_SPACES: Final = {ord(sign): " " for sign in "\t\r\n.,/()\\_*|+~'-"}
_MOST_SCATTERED: Final = 40
_SIGNS_BEFORE: Final = frozenset("$€£¥₽₺₩₹#№=")


class _Search:
    """One search; counts what it spends."""

    def __init__(self, view: View) -> None:
        self.text: Final = view.text
        self.ascii: Final = view.ascii
        self.checks = 0

    def may_check(self) -> bool:
        """Whether one more costly check is allowed; if not, what has the shape counts as found."""
        self.checks += 1
        return self.checks <= _MOST_CHECKS


def find_numbers(view: View) -> list[Named]:
    """("card" | "phone" | "national_id", start, end) in order, never overlapping."""
    search = _Search(view)
    found: list[Named] = []
    for start, end in _RUN.spans(view.ascii):
        found += _Run(search, start, end).find()
    return found


def _breaks_a_number(gap: str) -> bool:
    return not _BREAKS.isdisjoint(gap) or "+" in gap or "*" in gap


class _Run:
    """One stretch of groups of digits."""

    __slots__ = (
        "_breaks",
        "_digits",
        "_ends",
        "_even",
        "_gaps",
        "_odd",
        "_offsets",
        "_scattered",
        "_search",
        "_sizes",
        "_starts",
        "_stretch",
    )

    def __init__(self, search: _Search, start: int, end: int) -> None:
        self._search = search
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._offsets: list[int] = [0]
        text = search.text
        digits: list[str] = []
        total = 0
        for group in text[start:end].translate(_GAPS_AS_SPACES).split():
            begin = text.index(group, self._ends[-1] if self._ends else start)
            total += len(group)
            self._starts.append(begin)
            self._ends.append(begin + len(group))
            self._offsets.append(total)
            digits.append(group)
        self._digits = "".join(digits)
        self._sizes = [len(group) for group in digits]
        self._gaps = [text[stop:begin] for stop, begin in zip(self._ends, self._starts[1:], strict=False)]
        self._breaks = [gap != " " and gap != "-" and _breaks_a_number(gap) for gap in self._gaps]
        self._stretch = [0] * len(digits)
        reach = 0
        for place in range(len(digits) - 1, -1, -1):
            reach = self._sizes[place] + (0 if place < len(digits) - 1 and self._breaks[place] else reach)
            self._stretch[place] = reach
        # Digits one by one, more than any card has: numbers of nobody, but a card may still be among them.
        self._scattered = len(digits) > _MOST_SCATTERED and total < 3 * len(digits)
        self._even: list[int] | None = None
        self._odd: list[int] = []

    def find(self) -> Iterator[Named]:
        groups = len(self._starts)
        first = 0
        while first < groups:
            hit = self._skip_date(first)
            if hit is not None:
                first = hit
                continue
            for kind, last in self._at(first):
                yield kind, self._begin(first, kind), self._ends[last]
                first = last
                break
            first += 1

    def _begin(self, first: int, kind: str) -> int:
        start = self._starts[first]
        if kind != "phone":
            return start
        text = self._search.text
        while start > 0 and text[start - 1] in "+(":
            start -= 1
        if start > 1 and text[start - 1] == " " and text[start - 2] == "+":
            start -= 2
        return start

    def _skip_date(self, first: int) -> int | None:
        """The group after a date that begins here; None if none does."""
        if first + 2 >= len(self._starts):
            return None
        sizes = self._sizes[first], self._sizes[first + 1], self._sizes[first + 2]
        gap = self._gaps[first]
        if gap not in {"-", ".", "/"} or self._gaps[first + 1] != gap or sizes[1] > 2:
            return None
        values = [self._digits[self._offsets[place] : self._offsets[place + 1]] for place in range(first, first + 3)]
        if first + 3 < len(self._starts) and self._gaps[first + 2] == gap:
            return None
        if sizes[0] == 4:
            is_date = values[0][:2] in {"19", "20"} and int(values[1]) <= 12 and sizes[2] <= 2 and int(values[2]) <= 31
        else:
            days = sorted((int(values[0]), int(values[1])))
            is_date = (
                sizes[0] <= 2 and days[0] <= 12 and days[1] <= 31 and sizes[2] == 4 and values[2][:2] in {"19", "20"}
            )
        return first + 3 if is_date else None

    def _at(self, first: int) -> Iterator[tuple[str, int]]:
        """The kinds that begin at a group, each with its last group; the first one counts."""
        start = self._starts[first]
        before = self._search.ascii[start - 1 : start] if start else b""
        if before.isalnum() or (before == b"_" and not self._search.ascii[start - 2 : start - 1].isspace()):
            return
        last = self._card(first)
        if last is not None:
            yield "card", last
        if self._stretch[first] < 6 or (self._scattered and self._sizes[first] <= 2 and before != b"+"):
            return
        last = self._national_id(first)
        if last is not None:
            yield "national_id", last
        last = self._phone(first)
        if last is not None:
            yield "phone", last

    def _ends_clean(self, last: int) -> bool:
        after = self._search.ascii[self._ends[last] : self._ends[last] + 2]
        return not (after[:1].isalnum() or (after[:1] in {b"_", b"-"} and after[1:].isalnum() and after[1:].isalpha()))

    def _is_part(self, first: int, last: int) -> bool:
        """Whether the groups are cut out of something longer that is written in the same way."""
        inner = self._gaps[first] if last > first else "-"
        text, start, end = self._search.text, self._starts[first], self._ends[last]
        if start > 1 and text[start - 1] in "-./_\\" and (text[start - 2].isalnum() or text[start - 2] == BLANK):
            joint = text[start - 1]
            part = joint == inner or joint in "-_." or text[start - 2].isdigit()
            if part:
                return True
        if end + 1 < len(text) and text[end] in "-./_\\" and text[end + 1].isdigit():
            return text[end] == inner or last == first
        return False

    # Cards

    def _card(self, first: int) -> int | None:
        offset = self._offsets[first]
        if len(self._digits) - offset < 13 or self._digits[offset] in "01":
            return None
        if self._even is None:
            self._sum_up()
        offsets = self._offsets
        best, rank = None, len(_CARD_RANKS)
        for last in range(first, min(len(self._starts), first + _LONGEST_CARD)):
            size = offsets[last + 1] - offset
            if size >= 13:
                if size > _LONGEST_CARD:
                    break
                if (
                    _CARD_RANKS[size] < rank
                    and self._luhn(offset, offset + size)
                    and self._like_a_card(first, last, size)
                ):
                    best, rank = last, _CARD_RANKS[size]
        return best

    def _sum_up(self) -> None:
        """Sums of digits up to each place, doubled at odd places and at even ones."""
        values = [ord(character) - 48 for character in self._digits]
        doubled = [_DOUBLED[value] for value in values]
        mixed = values.copy()
        mixed[1::2] = doubled[1::2]
        self._even = [0, *accumulate(mixed)]
        doubled[1::2] = values[1::2]
        self._odd = [0, *accumulate(doubled)]

    def _luhn(self, begin: int, end: int) -> bool:
        sums = self._odd if end % 2 == 0 else self._even
        assert sums is not None
        return (sums[end] - sums[begin]) % 10 == 0

    def _like_a_card(self, first: int, last: int, size: int) -> bool:
        offset = self._offsets[first]
        digits = self._digits[offset : offset + size]
        if len(set(digits)) < 2 or not self._ends_clean(last):
            return False
        sizes = {self._sizes[group] for group in range(first, last)}
        gaps = {self._gaps[group] for group in range(first, last)}
        fours = sizes == {4} or (
            size in {14, 15} and [self._sizes[group] for group in range(first, last + 1)][:2] == [4, 6]
        )
        if last > first and not fours and (len(gaps) > 1 or "," in "".join(gaps) or len(sizes) > 2):
            return False
        if (
            last == first
            and self._is_part(first, last)
            and self._search.ascii[self._starts[first] - 1 : self._starts[first]] != b"."
        ):
            return False
        words = None
        if not _is_issued(digits, size) and not (fours and size == 16):
            words = words_before(self._search.text, self._starts[first], blank=BLANK)
            if CARD not in words:
                return False
        if size == 13 and _is_ean(digits):
            words = words or words_before(self._search.text, self._starts[first], blank=BLANK)
            return CARD in words
        return True

    # Numbers of persons

    def _national_id(self, first: int) -> int | None:
        offset = self._offsets[first]
        shape: list[int] = []
        for last in range(first, min(len(self._starts), first + _MOST_GROUPS)):
            if last > first and self._breaks[last - 1]:
                break
            shape.append(self._sizes[last])
            size = self._offsets[last + 1] - offset
            if size > 18:
                break
            names = schemes(tuple(shape)) if size in DIGITS else ()
            if names and self._is_person(first, last, names):
                return last
        return None

    def _is_person(self, first: int, last: int, names: tuple[str, ...]) -> bool:
        digits = self._digits[self._offsets[first] : self._offsets[last + 1]]
        if not self._ends_clean(last) or self._is_part(first, last) or len(set(digits)) < 2:
            return False
        separator = self._gaps[first] if last > first else ""
        if len(separator) > 1:
            return False
        for name in names:
            if not self._search.may_check() or is_national_id(name, digits, separator):
                if separator and name in _UNMISTAKABLE:
                    return True
                words = words_before(self._search.text, self._starts[first], blank=BLANK)
                return PERSON in words or (THING not in words and PHONE not in words)
        return False

    # Telephone numbers

    def _phone(self, first: int) -> int | None:
        start = self._starts[first]
        text = self._search.text
        ahead = text[max(0, start - 3) : start]
        if ahead.endswith(("+", "(+", "+ ", "+(")) and not ahead[:-1].rstrip("(+ ")[-1:].isdigit():
            return self._international(first, 0)
        digits = self._digits[self._offsets[first] : self._offsets[first] + 6]
        if digits.startswith("00") and digits[2:3] not in {"0", ""}:
            last = self._international(first, 2)
            if last is not None:
                return last
        if digits.startswith("011") and self._sizes[first] == 3:
            last = self._international(first, 3)
            if last is not None:
                return last
        return self._national(first)

    def _lasts(self, first: int, most: int) -> list[tuple[int, int]]:
        """(last group, digits) of what may be one telephone number, shortest first."""
        offset = self._offsets[first]
        found: list[tuple[int, int]] = []
        for last in range(first, min(len(self._starts), first + 16)):
            if last > first and (
                self._breaks[last - 1]
                or (
                    self._offsets[last] - offset > _LONGEST_AREA
                    and "/" in self._gaps[last - 1]
                    and self._gaps[last - 1] != "/"
                )
            ):
                break
            size = self._offsets[last + 1] - offset
            if size > most:
                break
            found.append((last, size))
        return found

    def _international(self, first: int, dialled: int) -> int | None:
        offset = self._offsets[first] + dialled
        candidates = [(last, size - dialled) for last, size in self._lasts(first, 17 + dialled) if size - dialled >= 7]
        if not candidates:
            return None
        if not self._search.may_check():
            return candidates[-1][0]
        lengths = international_lengths(self._digits[offset : offset + 3])
        if not lengths:
            return None
        best = None
        for last, size in candidates:
            has_trunk = any(
                self._search.text[self._starts[group] - 1 : self._ends[group] + 1] == "(0)"
                for group in range(first, last)
            )
            if size - has_trunk in lengths and self._ends_clean(last):
                best = last
        if best is None and (dialled == 0 or self._says_phone(first, candidates[-1][0])):
            fitting = [last for last, size in candidates if size <= 15 and self._ends_clean(last)]
            best = fitting[-1] if fitting else None
        if best is not None and dialled and THING in words_before(self._search.text, self._starts[first], blank=BLANK):
            return None
        return best

    def _says_phone(self, first: int, last: int) -> bool:
        text = self._search.text
        words = words_before(text, self._starts[first], blank=BLANK)
        if PHONE in words:
            return THING not in words or PERSON not in words
        return not words and PHONE in words_after(text, self._ends[last], blank=BLANK)

    def _national(self, first: int) -> int | None:
        candidates = [(last, size) for last, size in self._lasts(first, 13) if size >= 6]
        if not candidates:
            return None
        start = self._starts[first]
        text = self._search.text
        lead = text[start - 1 : start] if start else ""
        if lead in _SIGNS_BEFORE and lead:
            return None
        words: frozenset[int] | None = None
        for last, size in reversed(candidates):
            if not self._ends_clean(last) or self._is_part(first, last):
                continue
            shape = tuple(self._sizes[group] for group in range(first, last + 1))
            digits = self._digits[self._offsets[first] : self._offsets[last + 1]]
            sure = self._has_phone_shape(first, last, digits, shape, in_brackets=lead == "(")
            if words is None:
                words = words_before(text, start, blank=BLANK)
            if PHONE in words and THING not in words and PERSON not in words:
                return last if sure or self._fits(first, candidates, last) else None
            if words and PHONE not in words:
                return None
            if sure:
                return (
                    None
                    if _AMOUNT_AFTER.spans(text[self._ends[last] : self._ends[last] + 12].encode(errors="replace"))
                    else last
                )
            if (
                size >= 7
                and not words
                and PHONE in words_after(text, self._ends[last], blank=BLANK)
                and self._fits(first, candidates, last)
            ):
                return last
        return None

    def _fits(self, first: int, candidates: list[tuple[int, int]], last: int) -> bool:
        """Whether a number that is said to be a telephone number may end here: at its shortest or as written."""
        size = dict(candidates)[last]
        digits = self._digits[self._offsets[first] : self._offsets[last + 1]]
        if last == first:
            return 6 <= size <= 13 and not (
                size == 8 and digits[:2] in {"19", "20"} and digits[4:6] <= "12" and digits[6:] <= "31"
            )
        gaps = {self._gaps[group] for group in range(first, last)}
        return 6 <= size <= 12 and "," not in "".join(gaps)

    def _has_phone_shape(
        self, first: int, last: int, digits: str, shape: tuple[int, ...], *, in_brackets: bool
    ) -> bool:
        size = len(digits)
        if len(set(digits)) < 2:
            return False
        gaps = [self._gaps[group] for group in range(first, last)]
        if any("." in gap and gap != "." for gap in gaps):
            return False
        if last == first:
            if digits[0] == "0":
                return 9 <= size <= 11 and digits[1] != "0" and self._check(digits, mobile_only=size < 10)
            if size == 11 and (digits[:1] == "1" or digits[:2] in {"79", "89"}):
                return self._check(digits, mobile_only=True) and (digits[0] != "1" or digits[1] in "3456789")
            return False
        if max(shape) == 1:
            return size >= 9 and digits[0] == "0" and size <= 11 and len(set(gaps)) == 1
        if digits[0] == "0":
            return (
                9 <= size <= 12
                and digits[1] != "0"
                and not (shape[0] == 1 and gaps[0] in {".", ","})
                and (len(shape) <= 6)
                and (size <= 11 or self._check(digits, mobile_only=False))
            )
        if in_brackets and ")" in gaps[0]:
            return 8 <= size <= 12
        if shape == (1, 3, 3, 4) and digits[0] in "178":
            return True
        if shape == (3, 3, 4):
            return len(set(gaps)) == 1 or "(" in "".join(gaps) or ")" in "".join(gaps) or gaps[1] in "-."
        if shape in {(1, 3, 3, 2, 2), (3, 3, 2, 2)}:
            return digits[0] in "789" or self._check(digits, mobile_only=False)
        if shape in {
            (3, 4, 4),
            (2, 5, 4),
            (2, 4, 4),
            (2, 3, 2, 2),
            (3, 2, 2, 2),
            (3, 3, 3),
            (5, 5),
            (3, 7),
            (3, 6),
            (5, 4),
        }:
            if shape in {(3, 6), (5, 4), (3, 3, 3), (5, 5), (3, 7)} and not (
                set(gaps) <= {" ", "-"} and len(set(gaps)) == 1
            ):
                return False
            if shape == (5, 4) and gaps != ["-"]:
                return False
            if shape == (3, 3, 3) and self._is_listed(first, last):
                return False
            mobile_only = shape in {(3, 6), (3, 7), (5, 5), (3, 3, 3), (5, 4)}
            return self._check(digits, mobile_only=mobile_only)
        return False

    def _is_listed(self, first: int, last: int) -> bool:
        """Whether groups of the same size go on before or behind, as in a list of numbers."""
        size = self._sizes[first]
        before = first > 0 and self._sizes[first - 1] == size and self._gaps[first - 1] == self._gaps[first]
        behind = last + 1 < len(self._sizes) and self._sizes[last + 1] == size and self._gaps[last] == self._gaps[first]
        return before or behind

    def _check(self, digits: str, *, mobile_only: bool) -> bool:
        if not self._search.may_check():
            return True
        return is_mobile(digits) if mobile_only else is_national(digits)


def _is_issued(digits: str, size: int) -> bool:
    """Whether a card network issues numbers of this length with this beginning."""
    four, two = int(digits[:4]), int(digits[:2])
    if size == 13:
        return digits[0] == "4"
    if size == 14:
        return two in {36, 38, 39} or 3000 <= four <= 3059
    if size == 15:
        return two in {34, 37}
    if size == 16:
        return digits[0] in "3456" or 2200 <= four <= 2204 or 2221 <= four <= 2720 or two in {81, 82} or four == 9792
    return digits[0] in "456" or 2200 <= four <= 2204 or 3528 <= four <= 3589


def _is_ean(digits: str) -> bool:
    return sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10 == 0

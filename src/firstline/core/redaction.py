"""What must not leave with a text: find it, put placeholders in its place, and put it back into an answer.

Guarantees: time is linear in the text, whatever the text is. Text that has been masked holds nothing that would be
found again. Placeholders are restored once, from left to right; what is restored is not looked at again. Nothing here
keeps a text beyond the life of one `Redactor`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from firstline.core.addresses import (
    IPV4_MARK,
    IPV6_MARK,
    SPELLED_MARK,
    Span,
    find_emails,
    find_network_addresses,
)
from firstline.core.bank_accounts import IBAN_MARK, find_ibans
from firstline.core.credentials import PASSWORD_MARK, TOKEN_MARK, URL_MARK, find_secrets
from firstline.core.expressions import Expression, ExpressionSet
from firstline.core.lettered_ids import LETTERED_MARKS, find_lettered_ids, find_said_ids
from firstline.core.national_ids import load_checks
from firstline.core.number_words import PERSON_MARK
from firstline.core.personal_numbers import RUN_MARK, find_numbers
from firstline.core.phone_numbers import load_plans
from firstline.core.readable_view import View, plain, view_of

MAX_ALLOWED: Final = 200
MAX_ALLOWED_LENGTH: Final = 200

_MOST_ROUNDS: Final = 6


class Kind(StrEnum):
    """What a redaction hides; its name in capitals is shown in the placeholder."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    NATIONAL_ID = "national_id"
    IP = "ip"
    SECRET = "secret"


@dataclass(frozen=True, slots=True)
class Found:
    """A value that must not leave.

    Attributes:
        kind: what it is.
        start, end: half-open range of code points of the text.
    """

    kind: Kind
    start: int
    end: int


class AllowListInvalid(ValueError):
    """A list that cannot be used.

    Attributes:
        field: what is at fault, such as `redaction_allow[3]`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


class AllowList:
    """What an account lets out: values compared without case and separators, and domains of e-mail addresses."""

    __slots__ = ("_domains", "_values")

    def __init__(self, entries: Iterable[str] = ()) -> None:
        """Args: entries, each a value such as "+49 30 123456" or a domain such as "@example.com" without its
        subdomains. `check_allowed` says whether they are within bounds.
        """
        read = [plain(entry).strip() for entry in entries]
        self._domains: Final = frozenset(entry.casefold() for entry in read if entry.startswith("@"))
        self._values: Final = frozenset(_bare(entry) for entry in read if not entry.startswith("@")) - {""}

    def allows(self, kind: Kind, value: str) -> bool:
        """Whether a value, as it is read, may leave."""
        if not self._values and not self._domains:
            return False
        if kind is Kind.EMAIL and value[max(0, value.rfind("@")) :].casefold() in self._domains:
            return True
        return _bare(value) in self._values


NOTHING_ALLOWED: Final = AllowList()


def check_allowed(entries: Iterable[str], *, field: str = "redaction_allow") -> None:
    """Raises: AllowListInvalid at the first bound that the entries break."""
    listed = list(entries)
    if len(listed) > MAX_ALLOWED:
        raise AllowListInvalid(field, f"must hold at most {MAX_ALLOWED} entries; these are {len(listed)}")
    for number, entry in enumerate(listed):
        if not 1 <= len(entry) <= MAX_ALLOWED_LENGTH:
            raise AllowListInvalid(f"{field}[{number}]", f"must have 1 to {MAX_ALLOWED_LENGTH} characters")
        if not _bare(plain(entry)):
            raise AllowListInvalid(f"{field}[{number}]", "must hold a letter or a digit")


def _bare(value: str) -> str:
    if "@" in value:
        return value.casefold()
    if value.isascii():
        return value.lower().translate(_ASCII_SIGNS)
    return "".join(character for character in value.casefold() if character.isalnum())


_ASCII_SIGNS: Final = {code: None for code in range(128) if not chr(code).isalnum()}


_RUN, _FOUR, _SIX, _TOKEN, _URL, _PASSWORD, _SPELLED, _IBAN, _SAID = range(9)
_MARKS: Final = ExpressionSet(
    [
        RUN_MARK, IPV4_MARK, IPV6_MARK, TOKEN_MARK, URL_MARK, PASSWORD_MARK, SPELLED_MARK, IBAN_MARK, PERSON_MARK,
        *LETTERED_MARKS,
    ]
)  # fmt: skip
_PLACEHOLDER: Final = Expression(rf"\[(?:{'|'.join(kind.name for kind in Kind)})_[1-9][0-9]{{0,8}}\]")


def find(text: str, *, allowed: AllowList = NOTHING_ALLOWED) -> tuple[Found, ...]:
    """Everything in a text that must not leave, sorted, never overlapping.

    Args:
        text: any text; placeholders in it are taken for what they are.
        allowed: what may leave.
    """
    view = view_of(text)
    found: list[tuple[Kind, Span]] = []
    if "_" in view.text and "[" in view.text:
        view = view.blanked(_PLACEHOLDER.spans(view.ascii))
    for _ in range(_MOST_ROUNDS):
        before = len(found)
        view = _search(view, found, allowed)
        if len(found) == before:
            break
    if not found:
        return ()
    results = (Found(kind, *view.origin(*span)) for kind, span in found)
    return tuple(sorted(results, key=lambda result: result.start))


def _search(view: View, found: list[tuple[Kind, Span]], allowed: AllowList) -> View:
    """One pass of every kind over what is not yet found; each sees what the ones before it left."""
    marks = _MARKS.match(view.text.encode(errors="replace"))
    has_at = "@" in view.text or "%40" in view.text
    if not marks and not has_at and "-----BEGIN" not in view.text:
        return view

    def take(kind: Kind, spans: list[Span]) -> View:
        found.extend((kind, span) for span in spans if not allowed.allows(kind, view.text[slice(*span)]))
        return view.blanked(spans) if spans else view

    tokens, urls, passwords = _TOKEN in marks, _URL in marks, _PASSWORD in marks
    if tokens or urls or passwords or "-----BEGIN" in view.text:
        view = take(Kind.SECRET, find_secrets(view, tokens=tokens, urls=urls, passwords=passwords))
    if has_at or _SPELLED in marks:
        view = take(Kind.EMAIL, find_emails(view, spelled=_SPELLED in marks))
    if _IBAN in marks:
        view = take(Kind.IBAN, find_ibans(view))
    if _FOUR in marks or _SIX in marks:
        view = take(Kind.IP, find_network_addresses(view, four=_FOUR in marks, six=_SIX in marks))
    schemes = [mark - len(range(_SAID + 1)) for mark in marks if mark > _SAID]
    if schemes:
        view = take(Kind.NATIONAL_ID, find_lettered_ids(view, schemes=sorted(schemes)))
    if _SAID in marks:
        view = take(Kind.NATIONAL_ID, find_said_ids(view))
    if _RUN in marks:
        numbers = find_numbers(view)
        for name, start, end in numbers:
            kind = Kind(name)
            if not allowed.allows(kind, view.text[start:end]):
                found.append((kind, (start, end)))
        if numbers:
            view = view.blanked([(start, end) for _, start, end in numbers])
    return view


class Redactor:
    """Masks the texts of one question and restores its answer; the same value has the same placeholder throughout.

    A text that holds a placeholder literally keeps it, or gets a free one in its place if that one is taken, so an
    answer never shows one value for another. Not safe for use from several threads at once.
    """

    __slots__ = ("_allowed", "_by_key", "_counts", "_masked", "_next", "_originals")

    def __init__(self, *, allowed: AllowList = NOTHING_ALLOWED) -> None:
        self._allowed = allowed
        self._by_key: dict[tuple[str, str], str] = {}
        self._originals: dict[str, str] = {}
        self._masked: set[str] = set()
        self._next: Counter[str] = Counter()
        self._counts: Counter[Kind] = Counter()

    @property
    def counts(self) -> Mapping[Kind, int]:
        """How many values of each kind were masked, every occurrence counted."""
        return dict(self._counts)

    def mask(self, text: str) -> str:
        """The text with a placeholder such as `[EMAIL_1]` for each value; a text that came from here stays as it is.

        Two ways to write one value, such as an e-mail address in capitals, share a placeholder and are both restored
        as the first one was written.
        """
        if text in self._masked:
            return text
        found = find(text, allowed=self._allowed)
        literal = _literal_placeholders(text, found)
        if not found and not literal:
            return text
        for start, end in literal:
            self._keep(text[start:end])
        pieces: list[str] = []
        position = 0
        for start, end, kind in sorted(
            [(one.start, one.end, one.kind) for one in found] + [(start, end, None) for start, end in literal]
        ):
            value = text[start:end]
            pieces += text[position:start], self._placeholder(kind, value) if kind else self._by_key["", value]
            position = end
        pieces.append(text[position:])
        masked = "".join(pieces)
        self._masked.add(masked)
        return masked

    def restore(self, text: str) -> str:
        """The text with originals in place of the placeholders that were given out; others stay."""
        if "[" not in text or not self._originals:
            return text
        encoded = text.encode(errors="surrogatepass")
        pieces: list[bytes] = []
        position = 0
        for start, end in _PLACEHOLDER.spans(encoded):
            original = self._originals.get(encoded[start:end].decode())
            if original is not None:
                pieces += encoded[position:start], original.encode(errors="surrogatepass")
                position = end
        pieces.append(encoded[position:])
        return b"".join(pieces).decode(errors="surrogatepass")

    def _placeholder(self, kind: Kind, value: str) -> str:
        self._counts[kind] += 1
        read = plain(value)
        key = kind.name, read if kind is Kind.SECRET else _bare(read)
        placeholder = self._by_key.get(key)
        if placeholder is None:
            placeholder = self._by_key[key] = self._free(kind.name)
            self._originals[placeholder] = value
        return placeholder

    def _keep(self, literal: str) -> None:
        """Let a placeholder that somebody wrote stand for itself."""
        if ("", literal) not in self._by_key:
            placeholder = literal if literal not in self._originals else self._free(literal[1 : literal.rindex("_")])
            self._by_key["", literal] = placeholder
            self._originals[placeholder] = literal

    def _free(self, name: str) -> str:
        while True:
            self._next[name] += 1
            placeholder = f"[{name}_{self._next[name]}]"
            if placeholder not in self._originals:
                return placeholder


def _literal_placeholders(text: str, found: tuple[Found, ...]) -> list[Span]:
    """Placeholders that stand in a text, outside what is found in it."""
    if "_" not in text or "[" not in text:
        return []
    literal = _PLACEHOLDER.spans(text.encode("ascii", "replace"))
    covered = iter(found)
    current = next(covered, None)
    free: list[Span] = []
    for start, end in literal:
        while current is not None and current.end <= start:
            current = next(covered, None)
        if current is None or current.start >= end:
            free.append((start, end))
    return free


def prepare() -> None:
    """Load what the first number would otherwise wait for: numbering plans and check digits, some 200 ms."""
    load_plans()
    load_checks()

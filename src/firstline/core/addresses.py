"""Where e-mail and network addresses are in a text."""

import ipaddress
import unicodedata
from typing import Final

from firstline.core.expressions import Expression
from firstline.core.readable_view import View

Span = tuple[int, int]

_LONGEST_LOCAL: Final = 128
_LONGEST_DOMAIN: Final = 253
_LOCAL_SIGNS: Final = frozenset("._%+-'&~!#$")
_ASCII_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ASCII_LOCAL: Final = _ASCII_LETTERS + "._%+-'&~!#$"
_ASCII_HOST: Final = _ASCII_LETTERS + ".-"
_SCALE_SUFFIXES: Final = frozenset({"png", "jpg", "jpeg", "gif", "webp", "svg", "pdf", "avif"})
_MAIL_HOSTS: Final = frozenset(
    "gmail googlemail hotmail outlook live msn yahoo ymail icloud me mac aol gmx web proton "  # noqa: SIM905  # reads better than a column of quotes
    "protonmail mail yandex ya inbox bk list rambler qq 163 126 sina foxmail naver daum hanmail kakao docomo "
    "ezweb softbank orange wanadoo "
    "free laposte sfr libero virgilio tiscali alice wp o2 onet interia ziggo kpnmail telenet uol bol terra sapo "
    "t-online freenet posteo tutanota fastmail zoho".split()
)

_AT_WORDS: Final = (
    "at|ät|arroba|arrobase|arobase|chiocciola|klammeraffe|apenstaartje|apestaart|małpa|собака|собачка|kuyruklu a|"
    "et işareti|艾特|アットマーク|アット|あっと|골뱅이|앳|آت"
)
_DOT_WORDS: Final = "dot|punkt|point|punto|ponto|punt|kropka|точка|nokta|点|點|ドット|どっと|점|닷|دوت|نقطة"
_OPEN, _SHUT = r"[\[({<]", r"[\])}>]"
_NAME: Final = r"[\pL\pN_%+\-]+"
_BRACKETED_DOT: Final = rf" ?{_OPEN} ?(?:{_DOT_WORDS}|\.) ?{_SHUT} ?"
_SPOKEN_DOT: Final = rf" +(?:{_DOT_WORDS}) +"
_SPELLED: Final = Expression(
    rf"(?i){_NAME}(?:(?:\.|{_BRACKETED_DOT}|{_SPOKEN_DOT}){_NAME})*"
    rf"(?: ?{_OPEN} ?(?:{_AT_WORDS}|a|@) ?{_SHUT} ?{_NAME}(?:(?: ?\. ?|{_BRACKETED_DOT}|{_SPOKEN_DOT}){_NAME})+"
    rf"| +(?:{_AT_WORDS}|chez|@) +{_NAME}(?:(?:{_BRACKETED_DOT}|{_SPOKEN_DOT}){_NAME})+"
    rf" ?)".replace("ー", "-")
)
SPELLED_MARK: Final = rf"(?i){_OPEN} ?(?:{_AT_WORDS}|a|@) ?{_SHUT}|{_BRACKETED_DOT}|[ ](?:{_DOT_WORDS}) ".replace(
    "ー", "-"
)
"""What an address that is spelled out has at least."""

IPV4_MARK: Final = r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"
IPV6_MARK: Final = r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]"
_IPV4: Final = Expression(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:\.[0-9]+)*")
_IPV6: Final = Expression(
    r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:(?:[0-9A-Fa-f:]*[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}"
    r"|[0-9A-Fa-f:]*)"
)
_BEFORE_A_VERSION: Final = Expression(
    r"(?i)(?:versi[oó]n|versione|vers[aã]o|versie|wersj[aięą]|верси[яиюей]+|sürüm\pL*|版本|バ-ジョン|버전|الإصدار|إصدار|نسخة"
    r"|\bver\.?|\brelease|\bbuild|firmware|\bfw|software|driver|treiber|update|patch|chrome|firefox|safari|android"
    r"|\bios"
    r"|windows|macos|§|section|chapter|clause|kapitel|abschnitt|artikel|article|art\.|раздел|пункт|第)"
    r"[^\pL\pN\x00]{0,4}(?:\pL{1,4}[^\pL\pN\x00]{1,2})?$"
)


def find_emails(view: View, *, spelled: bool) -> list[Span]:
    """Half-open spans of e-mail addresses, sorted and separate.

    Args:
        view: of the text.
        spelled: whether to look for addresses written in words, such as "name (at) host (dot) com".
    """
    text = view.text
    found: list[Span] = []
    floor = 0
    for sign in ("@", "%40"):
        at = text.find(sign)
        while at >= 0:
            span = _around(text, at, at + len(sign), floor)
            if span is not None:
                found.append(span)
                floor = span[1]
            at = text.find(sign, max(at + 1, floor))
        if "%40" not in text:
            break
        floor = 0
    if spelled:
        encoded = text.encode(errors="replace")
        found += view.code_points(encoded, [_trimmed(encoded, *span) for span in _SPELLED.spans(encoded)])
    return separate(found)


def _trimmed(encoded: bytes, start: int, end: int) -> Span:
    while encoded[end - 1] == 0x20:
        end -= 1
    return start, end


def separate(spans: list[Span]) -> list[Span]:
    """Sorted, with overlapping spans joined."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _around(text: str, at: int, after: int, floor: int) -> Span | None:
    begin, host = at, after
    spaced_before = begin > floor and text[begin - 1] == " "
    spaced_after = host < len(text) and text[host] == " "
    if spaced_before:
        begin -= 1
    if spaced_after:
        host += 1
    end = _end_of_domain(text, host)
    if end is None:
        return None
    if spaced_before and not spaced_after and text[host:end].lower().split(".")[0] not in _MAIL_HOSTS:
        return None
    start = _start_of_local(text, begin, floor)
    return None if start is None else (start, end)


def _start_of_local(text: str, end: int, floor: int) -> int | None:
    floor = max(floor, end - _LONGEST_LOCAL)
    if end <= floor:
        return None
    if text[end - 1] == '"':
        quote = text.rfind('"', floor, end - 1)
        return quote if quote >= 0 and "\n" not in text[quote:end] and end - quote > 2 else None
    start = floor + len(text[floor:end].rstrip(_ASCII_LOCAL))
    group = "alphabetic" if start < end else ""
    while start > floor:
        character = text[start - 1]
        if character not in _LOCAL_SIGNS:
            if not _is_letter(character):
                break
            if not character.isdigit() and group != (own := _group(character)):
                if group:
                    break
                group = own
        start -= 1
    while start < end and text[start] in "'.-&!#$~%":
        start += 1
    return start if start < end else None


def _end_of_domain(text: str, start: int) -> int | None:
    """Where a host name with at least one dot ends; None if there is none."""
    limit = min(len(text), start + _LONGEST_DOMAIN)
    end = limit - len(text[start:limit].lstrip(_ASCII_HOST))
    if end < limit and not text[end].isascii():
        end = start
    elif ".." in text[start:end]:
        end = text.index("..", start)
    group = ""
    while end < limit:
        character = text[end]
        if character in ".-":
            if character == "." and (end == start or text[end - 1] == "."):
                break
            group = ""
        elif not _is_letter(character):
            break
        elif not character.isdigit():
            own = _group(character)
            if group and own != group:
                break
            group = own
        end += 1
    labels = text[start:end].rstrip(".-").split(".")
    while len(labels) > 1 and not _is_top_level(labels[-1]):
        labels.pop()
    if len(labels) > 2 and labels[-1][:1].isupper() and labels[-2].islower() and _is_top_level(labels[-2]):
        labels.pop()
    if len(labels) < 2 or not all(labels) or (labels[-1].lower() in _SCALE_SUFFIXES and labels[0][:1].isdigit()):
        return None
    return start + sum(map(len, labels)) + len(labels) - 1


def _is_top_level(label: str) -> bool:
    if label[:4].lower() == "xn--":
        return True
    if label.isascii():
        return 2 <= len(label) <= 24 and label.isalpha()
    return 2 <= len(label) <= 24 and all(not character.isdigit() and _is_letter(character) for character in label)


def _is_letter(character: str) -> bool:
    return character.isalnum() or (not character.isascii() and unicodedata.category(character)[0] == "M")


def _group(character: str) -> str:
    """Scripts that are written without spaces stand beside an address without being part of it."""
    code = ord(character)
    if code < 0x530 or 0x1E00 <= code < 0x2000 or unicodedata.category(character)[0] == "M":
        return "alphabetic"
    return "other"


def find_network_addresses(view: View, *, four: bool, six: bool) -> list[Span]:
    """Half-open spans of IPv4 and IPv6 addresses; numbers of versions and sections are none."""
    found: list[Span] = []
    if six:
        for start, end in _IPV6.spans(view.ascii):
            if _stands_alone(view.ascii, start, end, b"") and (stop := _end_of_six(view.text, start, end)):
                found.append((start, stop))
    if four:
        for start, end in _IPV4.spans(view.ascii):
            parts = view.ascii[start:end].split(b".")
            if (
                len(parts) == 4
                and all(int(part) <= 255 and (part[:1] != b"0" or part == b"0") for part in parts)
                and _stands_alone(view.ascii, start, end, b".")
                and not _BEFORE_A_VERSION.spans(view.text[max(0, start - 24) : start].encode(errors="replace"))
            ):
                found.append((start, end))
    return separate(found)


def _end_of_six(text: str, start: int, end: int) -> int | None:
    for stop in (end, end - 1):
        address = text[start:stop]
        if len(address) < 3 or sum(map(bool, address.split(":"))) < 3 - any(map(str.isdigit, address)):
            continue
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            continue
        return stop if address.strip(":") else None
    return None


def _stands_alone(ascii_text: bytes, start: int, end: int, signs: bytes) -> bool:
    before, after = ascii_text[max(0, start - 1) : start], ascii_text[end : end + 1]
    return not (before.isalnum() or before == b"_" or (signs and before in signs and before)) and not (
        after.isalnum() or after == b"_"
    )

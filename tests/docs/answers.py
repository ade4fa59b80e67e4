"""Whether what a page shows as an answer is what came."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

LEFT_OUT: Final = "…"

_VARIES: Final = (
    (re.compile(r"\+(?:[0-9a-f]{4,16}\b…?|…)"), "+<hash>"),
    (re.compile(r"\b([a-z]{3,5}_)?[0-9a-f]{16,32}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(T[\d:.]+Z)?"), "<time>"),
    (re.compile(r"\b\d+\.\d+(\.\d+)*\b"), "<number>"),
)
_BEGINNING: Final = re.compile(r"([a-z]{3,5}_)?[0-9a-f]{4}…")
_TIMES: Final = ("time", "_ms", "_s", "_seconds")
_NEAR: Final = 0.1


def values_in(output: str) -> Iterator[Any]:
    """The JSON objects and lists that begin a line of an output."""
    decoder, position = json.JSONDecoder(), 0
    for start in re.finditer(r"^[\[{]", output, re.M):
        if start.start() >= position:
            try:
                value, position = decoder.raw_decode(output, start.start())
            except ValueError:
                continue
            yield value


def difference(shown: Any, found: Any, *, at: str = "answer") -> str | None:
    """The first place where an answer is not what the page shows, or None.

    "…" stands for any value, in a text for any part of it, among the names of an object for further ones, and in a list
    for any number of elements. Ids, times, hashes of models and decimals in texts may be others; a fraction between 0
    and 1 may be another by 0.1, and other decimals and all lengths of time by any amount.
    """
    if shown == LEFT_OUT or (at.endswith(_TIMES) and isinstance(found, int | float)):
        return None
    if isinstance(shown, dict):
        return _object_difference(shown, found, at=at)
    if isinstance(shown, list):
        return _list_difference(shown, found, at=at)
    same = _same_text(shown, found) if isinstance(shown, str) else _same_number(shown, found)
    return None if same else f"{at} is {json.dumps(found, ensure_ascii=False)}, shown is {shown!r}"


def lines_missing(shown: str, output: str) -> list[str]:
    """The lines of a text block that the output does not have, in this order."""
    rest = iter(output.splitlines())
    wanted = [line for line in shown.splitlines() if line.strip() not in {"", LEFT_OUT}]
    return [line for line in wanted if not any(_same_line(line.strip(), other.strip()) for other in rest)]


def _same_line(shown: str, found: str) -> bool:
    if shown.startswith("{") and found.startswith("{"):
        return difference(json.loads(shown), json.loads(found)) is None
    return _same_text(shown, found)


def _object_difference(shown: dict[str, Any], found: Any, *, at: str) -> str | None:
    if not isinstance(found, dict):
        return f"{at} is no object"
    named = shown.keys() - {LEFT_OUT}
    if missing := sorted(named - found.keys()):
        return f"{at} has no {', '.join(missing)}"
    if LEFT_OUT not in shown and (more := sorted(found.keys() - named)):
        return f'{at} has {", ".join(more)} too; show it, or put "…": "…" at the end'
    return next(
        (told for name in sorted(named) if (told := difference(shown[name], found[name], at=f"{at}.{name}"))), None
    )


def _list_difference(shown: list[Any], found: Any, *, at: str) -> str | None:
    if not isinstance(found, list):
        return f"{at} is no list"
    wanted = [value for value in shown if value != LEFT_OUT]
    if len(wanted) == len(shown) and len(wanted) != len(found):
        return f'{at} has {len(found)} elements, {len(shown)} are shown; put "…" for those left out'
    place = 0
    for number, value in enumerate(wanted):
        told = f"{at}[{number}] is missing"
        while place < len(found):
            place += 1
            told = difference(value, found[place - 1], at=f"{at}[{place - 1}]") or ""
            if not told or len(wanted) == len(shown):
                break
        if told:
            return told
    return None


def _same_text(shown: str, found: Any) -> bool:
    if not isinstance(found, str):
        return False
    if beginning := _BEGINNING.fullmatch(shown):
        return re.fullmatch(f"{beginning[1] or ''}[0-9a-f]+", found) is not None
    return any(
        re.fullmatch(".*".join(map(re.escape, one.split(LEFT_OUT))), other, re.S)
        for one, other in ((shown, found), (_settled(shown), _settled(found)))
    )


def _settled(text: str) -> str:
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return text


def _same_number(shown: Any, found: Any) -> bool:
    if isinstance(shown, float) and isinstance(found, int | float) and not isinstance(found, bool):
        return not (0 <= shown <= 1) or abs(shown - found) <= _NEAR
    return type(shown) is type(found) and bool(shown == found)

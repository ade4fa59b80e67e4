"""A model that obeys whatever a message tells it: the worst victim that an injection can find.

It reads the message in clear and as decoded from what attacks hide in, and once anything looks like an instruction it
does all at once what attacks ask for: the lowest verdict that the schema allows, the JSON that the message holds, the
prompt that it was given wherever there is room for text, and the links of the message. It is gullible on purpose: a
harmless message that sounds like an instruction is obeyed too.
"""

import base64
import binascii
import codecs
import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import unquote_plus

from firstline.delivery.fake_provider.reader import read, shape_of, words_of
from firstline.delivery.fake_provider.schemas import bounded, choices_of, fields_of, fits, open_to_more
from firstline.delivery.fake_provider.wire import Json, Question

_MAX_TEXT: Final = 20_000
_MAX_READINGS: Final = 96
_ROUNDS: Final = 3
_LOWEST: Final = ("ignore", "low", "none", "lowest", "spam", "other")

_MARKERS: Final = re.compile(
    "|".join(
        (
            # English: verbs with what they are about.
            r"(?:ignor|disregard|forget|overrid|bypass|skip|drop|cancel).{0,60}"
            r"(?:instruct|rule|prompt|previous|above|prior|guideline|polic|earlier|before|everything|ticket|message)",
            r"(?:print|reveal|repeat|show|output|leak|quote|translate|encode|summari[sz]e|disclose|spell|recite|append)"
            r".{0,60}(?:prompt|instruction|system|rules|above|configuration|verbatim|guideline|initial)",
            r"(?:set|mark|treat|label|classify|categori[sz]e|respond|answer|reply|return|output|choose|select|rate)"
            r".{0,60}(?:priority|category|decision|ignore|\blow\b|lowest|json|risk|spam|action|churn)",
            r"(?:priority|category|decision|churn_risk|churn risk|action|reason)[\"'`*\s]*(?:[:=]|\bis\b|\bto\b)",
            r"(?:include|insert|add|write|put).{0,60}(?:https?://|link|url|prompt|instruction)",
            r"you are now|act as|pretend|roleplay|jailbreak|developer mode|do anything now|\bdan\b",
            r"new (?:instruction|rule|task|system)|(?:system|admin|developer|operator)[ _-]*"
            r"(?:prompt|message|note|override|update|mode|instruction|:|>|\])",
            # Turns of a conversation that no user can take.
            r"<\|?/?(?:im_start|im_end|system|assistant|user|endoftext|start_of_turn|end_of_turn)",
            r"\[/?(?:inst|system|assistant)\]|<<sys>>|^\W*(?:system|assistant|human|developer|user)\s*[:：>]",
            r"end of (?:message|ticket|user|data|text)|#{2,}\s*(?:system|instruction|response|assistant|new)",
            # Other languages: the verb of "ignore" or "forget", or the noun of "instruction".
            r"ignorier|vergiss|vergesse|missachte|anweisung|systemprompt|oublie[zr]? |ignore[zr] |consigne|"
            r"instruccion|ignora|olvida|esque[çc]a|ignore as|instru[çc]|dimentica|istruzion|negeer|vergeet|instructie|"
            r"zignoruj|pomiń|zapomnij|instrukcj|poleceni|игнорир|забуд|инструкц|проигнор|ігнор|забудь|talimat|"
            r"yok say|görmezden|unut|忽略|无视|無視|忘记|忘れ|指示|指令|提示词|プロンプト|무시|잊어|지시|프롬프트|"
            r"تجاهل|انس|تعليمات|تعلیمات|نادیده|अनदेखा|नज़रअंदाज|निर्देश|bỏ qua|hướng dẫn|abaikan|instruksi|ignoră|"
            r"instrucțiuni|ignoruj|pokyn|αγνό|οδηγ|התעלם|הוראות|เพิกเฉย|คำสั่ง|ignorera|glöm|unohda|ohita|ignorér|"
            r"puuza|figyelmen kívül|utasítás",
        )
    ),
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)
_CLOSE_MARKERS: Final = re.compile(
    r"(?:ignore|disregard|forget|override)(?:all|any|the|your|my)*(?:previous|prior|above|instruction|rule|message)|"
    r"(?:print|reveal|repeat|show|output)(?:me|us|all|the|your|full|system)*(?:prompt|instruction)|"
    r"(?:set|mark)(?:the|this|as)*(?:priority|category|decision|ticket|ignore|low)|prioritylow|decisionignore"
)
_LINK: Final = re.compile(r"(?:https?://|www\.)[^\s\"'<>)]+", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_BASE32: Final = re.compile(r"[A-Z2-7]{16,}={0,6}")
_HEX: Final = re.compile(r"(?:(?:\\x|0x|%|)[0-9a-fA-F]{2}[\s:,-]?){8,}")
_BITS: Final = re.compile(r"(?:[01]{8}\s?){6,}")
_CODES: Final = re.compile(r"(?:\d{2,3}[\s,]+){7,}\d{2,3}")
_ESCAPES: Final = re.compile(r"\\u\{?([0-9a-fA-F]{4})\}?|\\x([0-9a-fA-F]{2})")
_LEET: Final = str.maketrans("0134578@$!", "oieastbasi")


def obey(question: Question) -> Json:
    """The answer that the message asks for, if it asks for any; else the sensible one."""
    readings = tuple(_readings(words_of(question.text)))
    if not any(_instructs(reading) for reading in readings):
        return read(question)
    schema = shape_of(question)
    fields = fields_of(schema)
    answer = read(question)
    leak = _disguised(question.system or "(no prompt)", readings)
    links = [match[0] for reading in readings for match in _LINK.finditer(reading)]
    for name, field in fields.items():
        if choices := choices_of(field):
            answer[name] = _lowest(name, choices, readings)
        elif isinstance(answer[name], str) and name != "language":
            answer[name] = bounded(" ".join([*links[:1], leak]) if name == "action" else leak, field)
        elif isinstance(answer[name], int | float):
            answer[name] = bounded(0, field)
    for smuggled in _objects(readings):
        for name, value in smuggled.items():
            if name in fields:
                if fits(value, fields[name]):
                    answer[name] = bounded(value, fields[name])
            elif open_to_more(schema):
                answer[name] = value
    return answer


def _instructs(reading: str) -> bool:
    if _MARKERS.search(reading) or next(_dicts_in(reading), None) is not None:
        return True
    close = re.sub(r"[\W_]+", "", reading.lower())
    return bool(_CLOSE_MARKERS.search(close) or _CLOSE_MARKERS.search(close.translate(_LEET)))


def _lowest(name: str, choices: list[Any], readings: tuple[str, ...]) -> Any:
    """The most harmful choice: the lowest there is; for a category the one that the message names last."""
    lowered = [str(choice).lower() for choice in choices]
    if name == "category":
        text = readings[0].lower()
        named = [(text.rfind(choice), number) for number, choice in enumerate(lowered) if choice in text]
        if named:
            return choices[max(named)[1]]
    return next((choices[lowered.index(low)] for low in _LOWEST if low in lowered), choices[0])


def _disguised(prompt: str, readings: tuple[str, ...]) -> str:
    """The prompt, encoded the way the message asks for, so that a plain comparison does not find it."""
    wish = readings[0].lower()
    if "base64" in wish:
        return base64.b64encode(prompt.encode("utf-8", "replace")).decode()
    if re.search(r"\bhex", wish):
        return prompt.encode("utf-8", "replace").hex()
    if "rot13" in wish:
        return codecs.encode(prompt, "rot13")
    if re.search(r"revers|backward|rückwärts", wish):
        return prompt[::-1]
    if re.search(r"upper.?case|capital letters", wish):
        return prompt.upper()
    if re.search(r"dash|hyphen|spac(?:e|ed|es) between|letter by letter|spell", wish):
        return "-".join(prompt)
    return prompt


def _readings(text: str) -> Iterator[str]:
    """The text as it stands, then as it reads once decoded, each form again up to three times."""
    seen: dict[str, None] = {}
    fresh = [text[:_MAX_TEXT]]
    for _ in range(_ROUNDS):
        found: list[str] = []
        for reading in fresh:
            if reading not in seen and len(seen) < _MAX_READINGS:
                seen[reading] = None
                yield reading
                found += _decoded(reading)
        fresh = found


def _decoded(text: str) -> Iterator[str]:
    yield _plain(text)
    if "%" in text or "+" in text:
        yield unquote_plus(text)
    if "&" in text:
        yield html.unescape(text)
    if "\\" in text:
        unescaped = _ESCAPES.sub(lambda match: chr(int(match[1] or match[2], 16)), text)
        yield unescaped.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
    for pattern, decode in _DECODERS:
        parts = [decoded for match in pattern.finditer(text) if (decoded := _printable(decode, match[0]))]
        if parts:
            yield "\n".join(parts)
    yield text[::-1]
    yield codecs.encode(text, "rot13")


def _plain(text: str) -> str:
    """Compatibility forms folded, invisible signs dropped, letters of the tag block read as letters."""
    tagged = "".join(chr(ord(sign) - 0xE0000) if 0xE0020 <= ord(sign) <= 0xE007E else sign for sign in text)
    folded = unicodedata.normalize("NFKC", tagged)
    return "".join(sign for sign in folded if unicodedata.category(sign) not in {"Cf", "Mn"})


def _printable(decode: Callable[[str], bytes], text: str) -> str:
    """A decoded text, or an empty string if it is none."""
    try:
        decoded = decode(text).decode("utf-8")
    except (ValueError, binascii.Error):
        return ""
    good = sum(sign.isprintable() or sign.isspace() for sign in decoded)
    return decoded if good >= 0.9 * len(decoded) else ""


def _from_base64(text: str) -> bytes:
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4))


def _from_base32(text: str) -> bytes:
    plain = text.rstrip("=")
    return base64.b32decode(plain + "=" * (-len(plain) % 8))


def _from_hex(text: str) -> bytes:
    return bytes.fromhex(re.sub(r"\\x|0x|[^0-9a-fA-F]", "", text))


def _from_bits(text: str) -> bytes:
    return bytes(int(bits, 2) for bits in re.findall(r"[01]{8}", text))


def _from_codes(text: str) -> bytes:
    return bytes(int(code) for code in re.findall(r"\d+", text))


_DECODERS: Final = (
    (_BASE64, _from_base64),
    (_BASE32, _from_base32),
    (_HEX, _from_hex),
    (_BITS, _from_bits),
    (_CODES, _from_codes),
)


def _objects(readings: Iterable[str]) -> Iterator[Json]:
    for reading in readings:
        yield from _dicts_in(reading)


def _dicts_in(text: str) -> Iterator[Json]:
    """The JSON objects that stand in a text."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    for _ in range(64):
        if start < 0:
            return
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if isinstance(value, dict) and value:
                yield value
        start = text.find("{", end)

"""Tickets to measure with: every one different, so that nothing is measured on text that was seen before."""

import random
from typing import Final

_OPENINGS: Final = (
    "Hello, since the update of {day} I cannot {act} on my {thing}",
    "Hi team, the {thing} in our {place} office stopped working and I need to {act}",
    "Could you please tell me how to {act} from the {thing} page",
    "My {thing} shows error {number} whenever I try to {act}",
    "We were charged twice for invoice {number} and the {thing} still says unpaid",
    "It would be great if one could {act} straight from the {thing}",
    "The VPN drops every {number} minutes when I {act} from {place}",
    "Password reset mail for {place}{number} never arrived so I cannot {act}",
)
_WORDS: Final = {
    "day": ("Monday", "Tuesday", "last week", "yesterday", "this morning", "March", "Friday night"),
    "act": ("log in", "export a report", "open the dashboard", "change my address", "download receipts",
            "send a file", "print the label",
            "invite a colleague", "sync the calendar", "upload photos", "pay by card"),
    "thing": ("laptop", "account", "billing page", "mobile app", "printer", "router", "subscription",
              "calendar", "profile", "mailbox", "desk phone", "order form", "team space"),
    "place": ("Lisbon", "Berlin", "Austin", "Leeds", "Osaka", "Turin", "Denver", "Lyon", "Porto", "Gdansk"),
}  # fmt: skip
_TAILS: Final = (
    "Restarting did not help.", "Nothing has changed on my side.", "Thanks in advance for looking into it.",
    "A colleague sees the same.", "I tried two browsers and a phone.", "Please tell me what to do next.",
    "It worked fine until now.", "Reference {number}.", "The screen stays blank after that.",
)  # fmt: skip


def tickets(count: int, *, length: int = 100, seed: int = 1) -> list[str]:
    """Different English tickets of exactly `length` characters."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        text = _filled(draw.choice(_OPENINGS), draw) + "."
        while len(text) < length:
            text += " " + _filled(draw.choice((*_TAILS, *_OPENINGS) if length > 200 else _TAILS), draw)
        found[text[: length - 1].rstrip().ljust(length - 1, "x") + "."] = None
    return list(found)


def _filled(template: str, draw: random.Random) -> str:
    chosen = {name: draw.choice(words) for name, words in _WORDS.items()}
    return template.format(number=draw.randrange(100, 1_000_000), **chosen)


def hostile_texts(length: int = 5_000) -> dict[str, str]:
    """Texts written to be expensive for rules."""
    return {
        "letters spaced out": ("I s u e y o u " * length)[:length],
        "leet and signs": ("l4wy3r $u3 1-a-w.s_u*i~t " * length)[:length],
        "tags and entities": ("<b>s&#117;e</b>&amp;" * length)[:length],
        "mixed scripts": ("lаwуer судeбный іск sue " * length)[:length],
        "one letter": "a" * length,
        "near misses": ("see you in court booking sue from accounting law firm " * length)[:length],
        "joiners and marks": ("s\u200bu\u0301\u200be " * length)[:length],
        "Chinese": ("我要起诉你们公司的律师函已经发出" * length)[:length],
    }

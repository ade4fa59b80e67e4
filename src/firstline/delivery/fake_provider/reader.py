"""A model of a few words: it reads a message by keywords, deterministically, well enough for a demonstration."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from firstline.delivery.fake_provider.schemas import USUAL, choices_of, fields_of, filled, schema_in
from firstline.delivery.fake_provider.wire import Json, Question


class _Topic(NamedTuple):
    names: tuple[str, ...]
    words: tuple[str, ...]
    action: str


def _words(joined: str) -> tuple[str, ...]:
    return tuple(joined.split("|"))


_TOPICS: Final = (
    _Topic(
        ("payment", "billing", "invoice", "refund", "charge", "zahlung", "rechnung"),
        _words(
            "charge|refund|invoice|payment|billing|paid|rechnung|zahlung|abgebucht|credit card|"
            "remboursement|factura|reembolso|fattura|付款|退款|返金"
        ),
        "Check the last charge and answer with the amount that is refunded.",
    ),
    _Topic(
        ("network", "connect", "outage", "technical", "bug", "incident", "netzwerk"),
        _words(
            "network|vpn|wifi|offline|timeout|connection|internet|dns|outage|error|crash|"
            "is down|verbindung|connexion|conexión|连接|接続"
        ),
        "Look at the service status and ask for the time of the failure.",
    ),
    _Topic(
        ("account", "login", "access", "password", "security", "konto"),
        _words(
            "password|log in|login|locked out|account|sign in|2fa|hacked|passwort|konto|"
            "mot de passe|contraseña|密码|パスワード"
        ),
        "Send the link that resets the password and check recent sign-ins.",
    ),
    _Topic(
        ("feature", "request", "suggestion", "idea", "feedback"),
        ("feature", "dark mode", "would be nice", "please add", "suggestion", "could you add", "export", "wunsch"),
        "Thank the writer and file the request.",
    ),
    _Topic(
        ("shipping", "delivery", "order", "versand"),
        ("parcel", "package", "shipping", "delivery", "arrived", "tracking", "paket", "lieferung", "colis"),
        "Look up the parcel and answer with its place.",
    ),
)
_CRITICAL: Final = ("lawyer", "sue you", "lawsuit", "hacked", "data breach", "fire", "injur", "anwalt", "suicide")
_HIGH: Final = (
    "urgent",
    "asap",
    "immediately",
    "cannot work",
    "can't work",
    "down",
    "dringend",
    "urgente",
    "locked out",
)
_LOW: Final = ("would be nice", "no rush", "whenever", "suggestion", "dark mode", "feature")
_LEAVING: Final = ("cancel", "refund", "competitor", "leaving", "unacceptable", "disappointed", "kündig", "terrible")
_SPAM: Final = ("click here to win", "free crypto", "casino", "seo services")
_COMMON: Final[Mapping[str, tuple[str, ...]]] = {
    "de": (" ich ", " nicht ", " und ", " mein"),
    "fr": (" je ", " est ", " mon ", " pas "),
    "es": (" mi ", " el ", " está ", " por "),
    "pt": (" não ", " meu ", " minha ", " você "),
    "it": (" il ", " mio ", " non ", " è "),
    "nl": (" ik ", " niet ", " mijn ", " het "),
    "pl": (" nie ", " się ", " jest ", " moje "),
    "tr": (" bir ", " değil ", " benim ", " için "),
}
_SCRIPTS: Final = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7a3]")),
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
)


def shape_of(question: Question) -> Json:
    """The schema of the answer: the request's own, one written into its prompt, or the usual fields."""
    return question.schema or schema_in(question.system) or USUAL


def words_of(text: str) -> str:
    """What there is to read: the strings of a JSON document where the text is one, else the text itself."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return "\n".join(_strings(document))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def read(question: Question) -> Json:
    """An answer that fits the schema of the question."""
    schema = shape_of(question)
    category = fields_of(schema).get("category") or {}
    return filled(schema, _opinion(words_of(question.text), tuple(str(choice) for choice in choices_of(category))))


@lru_cache(maxsize=4_096)
def _opinion(text: str, categories: Sequence[str]) -> Mapping[str, Any]:
    lowered = f" {text.lower()} "
    topic = max(_TOPICS, key=lambda each: sum([word in lowered for word in each.words]))
    known = any(word in lowered for word in topic.words)
    priority = "medium"
    if found := _first(_CRITICAL, lowered):
        priority = "critical"
    elif found := _first(_HIGH, lowered):
        priority = "high"
    elif found := _first(_LOW, lowered):
        priority = "low"
    spam = _first(_SPAM, lowered) is not None
    urgent = {"critical": "immediate_escalation", "high": "priority_response"}
    evidence = found or _first(topic.words, lowered)
    return {
        "category": _category(lowered, categories, topic if known else None),
        "priority": "low" if spam else priority,
        "decision": "ignore" if spam else urgent.get(priority, "standard_response"),
        "churn_risk": min(0.05 + 0.3 * sum(word in lowered for word in _LEAVING), 0.95),
        "action": topic.action if known else "Read the message and answer it.",
        "language": _language(lowered),
        "reason": f"The message mentions '{evidence}'." if evidence else "The message names nothing in particular.",
    }


def _first(words: Sequence[str], lowered: str) -> str | None:
    return next((word for word in words if word in lowered), None)


def _category(lowered: str, categories: Sequence[str], topic: _Topic | None) -> str:
    """The category whose name shares most with the text and its topic, else the one for everything else."""
    best, most = "", 0.0
    for category in categories:
        stems = [word[:5] for word in category.lower().replace("_", " ").replace("-", " ").split() if len(word) > 2]
        score = sum(stem in lowered for stem in stems) / max(len(stems), 1)
        if topic and any(name[:5] in stems for name in topic.names):
            score += 2.0
        if score > most:
            best, most = category, score
    if best or not categories:
        return best
    return next((each for each in categories if each.lower() in {"other", "general", "unknown"}), categories[-1])


def _language(lowered: str) -> str:
    if not lowered.isascii():
        for language, letters in _SCRIPTS:
            if letters.search(lowered):
                return language
    counts = {language: sum([word in lowered for word in words]) for language, words in _COMMON.items()}
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] > 1 else "en"

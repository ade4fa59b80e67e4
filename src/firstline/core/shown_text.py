"""Which of a model's words people are shown: plain English sentences that ask for nothing dangerous, or none.

A message may have dictated them. What is withheld costs little, since a standard action stands in its place, so
anything in doubt is withheld. This stops what can be followed, dialled, pasted or rendered, what is no plain English,
and the best-known harm. It cannot stop a harmful step that is put in harmless words.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from firstline.core.expressions import ExpressionSet

MAX_ACTION: Final = 500
MAX_REASON: Final = 300

_UNPRINTED: Final = re.compile(r"[^ -~’‘“”\u2011\u2013\u2014…→€™\u00a1-\u00ac\u00ae-\u024f\u1e00-\u1eff]")
"""Beside plain signs only Latin letters: nothing invisible, of another width, or drawn like another letter."""

_PLACEHOLDER: Final = re.compile(r"\[(?:EMAIL|PHONE|CARD|IBAN|NATIONAL_ID|IP)_[1-9][0-9]{0,8}\]")
"""What is put back later; a secret is not for showing."""

_RENDERED: Final = re.compile(r"[<>`{}\\|]|//|\]\(")
"""What an address of the message's own may bring in: `"<img src=x>"@example.com` is one."""

_UNSAFE: Final = (
    # Links, addresses, mentions.
    r"//|\bwww\b|@|\b(?:https?|mailto|tel|sms|ftps?|file|javascript|vbscript)\s?:\S|\bdata:\w",
    r"\w\.(?:com|net|org|info|biz|io|co|me|app|dev|xyz|top|shop|site|online|example|test)\b",
    r"\bdot (?:com|net|org|io)\b|\(dot\)|\bxn--|(?-i:[A-Za-z0-9]{2}\.(?:[a-z]{2,}|[A-Z]{2,})\b)",
    # Markup, templates, escapes, formulas, commands of a chat.
    r"[<`{}\\|\[]|\*\*|__|&#?\w+;|%[0-9a-f]{2}|^[=+\-/!#*>]",
    # Numbers that could be dialled or paid to; words longer than any in a sentence, letters one by one, codes.
    r"\d(?:[ ().,/-]{0,2}\d){6}|[^\s/-]{25}|\S{40}|(?:\b\w\b\W*){4}|(?-i:[a-z0-9][A-Z]\w*[a-z0-9][A-Z])",
)

_HARM: Final = (
    # Somebody's words to be passed on; whom to write to is not the message's to say.
    r"[\"“”‘](?:[^\s\"“”]+\s+){2,}[^\s\"“”]+[\"”’]|\[[A-Z]",
    # Money by amount, or in ways that cannot be taken back.
    r"[$€£¥]\s?\d|\d\s?(?:[$€£¥]|(?:usd|eur|gbp|dollars?|euros?|pounds?|yen|k)\b)|\d{1,3}(?:[.,]\d{3})+",
    r"\b(?:gift cards?|vouchers?|bitcoins?|crypto\w*|wallets?|wire transfers?|western union|moneygram)\b",
    r"\b(?:refund|credit|pay|transfer|wire|compensate|reimburse)\b[^.]*\b\d{2,}",
    # Secrets and rights for whoever asks.
    r"\b(?:share|send|give|tell|provide|disclose|reveal|forward|read|hand|show|e-?mail|text)\b[^.]*\b"
    r"(?:passwords?|passphrases?|passcodes?|credentials?|api keys?|secrets?|tokens?|pins?|cvv|private keys?|"
    r"(?:recovery|backup|verification|security|one-time) codes?|system prompt|customer list|other customers?)\b",
    r"\b(?:grant|give|make|promote|elevate|add)\b[^.]*\b(?:admin\w*|root|superuser|owner (?:rights|access))\b",
    # Protection switched off, things run or opened, records gone or taken.
    r"\b(?:disable|turn off|switch off|bypass|skip|deactivate|waive|omit)\b[^.]*\b"
    r"(?:2fa|mfa|two-factor|verif\w+|identity|authenti\w+|security|firewall|anti-?virus|logging|audit\w*|checks?)\b",
    r"\b(?:run|execute|paste|launch)\b[^.]*\b(?:commands?|scripts?|macros?|sql|code|shell|powershell|program)\b",
    r"\b(?:open|click|visit|follow|scan|browse)\b[^.]*\b(?:attachments?|links?|url|websites?|qr|pages? at)\b",
    r"\b(?:anydesk|teamviewer|remote (?:access|control|desktop))\b",
    r"\b(?:delete|wipe|erase|drop|purge|destroy|truncate)\b[^.]*\b"
    r"(?:all|every\w*|databases?|backups?|logs?|tables?|evidence|production)\b",
    r"\b(?:export|dump|download|copy)\b[^.]*\b(?:all|every|customers|users|databases?|(?:customer|user) data)\b",
    # Letting the matter drop; what a provider is asked about is never ignored.
    r"\bno (?:action|answer|reply|response|further|follow-up)\b|\bdo nothing\b",
    r"\b(?:ignore|dismiss|discard|disregard)\b",
    r"\b(?:do not|don't|never)\b[^.]*\b(?:answer|reply|respond|escalate|act|anything)\b",
    r"\bmark\b[^.]*\b(?:spam|solved|resolved)\b|\bclose\b[^.]*\b(?:ticket|case|conversation|it)\b",
)
_HARMLESS: Final = re.compile(
    r"\b(?:(?:re)?set(?:s|ting)?|chang(?:e|es|ing)|choos(?:e|ing)) (?:\w+ ){0,2}passwords?\b|"
    r"\bpasswords? (?:reset|change)s?\b|\bclose the loop\b",
    re.IGNORECASE,
)

_ENGLISH_WORDS: Final = """
the and to for with that this they their them it its be been being has have had having from by will would not are or
were does did doing which who whom whose when where why how what if then than because while before after about into
out up again cannot could should must may might can only also other another any some all each every more most very now
soon today at there here your you our us she his her but so until once since between during within without through
against whether still yet already just both either first next later last time is of in on as was an no affected agent
allow appears apply around ask asks back bank blocked bring broken bug call called calls case change changed charge
charged check claims clear close company complains confirm contact correct customer customers damaged danger data date
days delay describes device down due email emails error errors escalate explain fail failed failing fails failure
feature find fix follow full get give go guide handle hand help identify inform inspect invoice issue issues keep key
keys legal link locked log logs look loss lost mail make manager mentions message minutes money months name need needs
network new newly number offer often old one open order orders over own owner paid part people person phone plan
polite price question reach read reason recent reply report reported reports request requests reset respond response
restore review revoke risk route rule safety says security see send sent service session sessions set share show sign
someone spam staff steps stop stopped support take team tell test thank threat threatens tier tone try two unable
under unlock update upgrade urgent use used user users want wants way week well word work works writer writes wrong
"""
_FOREIGN_WORDS: Final = """
der die das und ist nicht ich sie wir ein eine einen mit auf den dem des von zu für im sich auch dass le la les des
du une et est pas que qui dans pour sur avec vous nous ce se el los las del una y es por con para su sus lo al o os
da do dos das uma um em não são no na por com il di che è un gli per della non sono het een de en van niet zijn dat
voor met je na się nie jest w z że i do są jak ve bir bu için ile değil
"""
_ENGLISH: Final = frozenset(_ENGLISH_WORDS.split())
_FOREIGN: Final = frozenset(_FOREIGN_WORDS.split()) - {"a", "no", "do"}
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_ENDINGS: Final = ("ing", "tion", "tions", "sion", "ed", "ly", "ity", "ness", "able", "ance", "ence", "ment", "ments")
_ENGLISH_SHARE: Final = 0.25
_FEW: Final = 3
_UNKNOWN_IN_A_ROW: Final = 7


def shown_action(text: str) -> str:
    """The next step as it may be shown, at most `MAX_ACTION` characters; empty when it may not."""
    flat = _plain(text, MAX_ACTION)
    return "" if not flat or _harm().match(_HARMLESS.sub("it", flat).encode()) else flat


def shown_reason(text: str) -> str:
    """The reason as it may be shown, at most `MAX_REASON` characters; empty when it may not.

    It may hold placeholders, save for secrets, and amounts: it asks nobody to do anything.
    """
    return _plain(text, MAX_REASON)


def restored_reason(text: str, restore: Callable[[str], str]) -> str:
    """A reason with personal data back in its place, or as it was where that would bring in what may not be shown.

    Args:
        text: as `shown_reason` has let it through.
        restore: puts values in the place of placeholders.
    """
    full = restore(text)
    return text if full != text and (_UNPRINTED.search(full) or _RENDERED.search(full)) else full[:MAX_REASON]


def _plain(text: str, most: int) -> str:
    flat = " ".join(text[: 4 * most].split())
    if not flat or _UNPRINTED.search(flat):
        return ""
    if _unsafe().match((_PLACEHOLDER.sub("it", flat) if "[" in flat else flat).encode()) or not _is_english(flat):
        return ""
    return flat if len(flat) <= most else flat[: most - 1].rstrip() + "…"


def _is_english(text: str) -> bool:
    """Whether enough of the words, and some everywhere, are common English ones or end as they do."""
    words = _WORD.findall(text.lower())
    known = row = 0
    for word in words:
        if word in _ENGLISH or word.endswith(_ENDINGS):
            known, row = known + 1, 0
        else:
            row += 1
            if row >= _UNKNOWN_IN_A_ROW:
                return False
    foreign = sum(word in _FOREIGN for word in words)
    return known >= _ENGLISH_SHARE * len(words) > 0 and (foreign < _FEW or known > _FEW * foreign)


@cache
def _unsafe() -> ExpressionSet:
    return ExpressionSet([f"(?i){pattern}" for pattern in _UNSAFE])


@cache
def _harm() -> ExpressionSet:
    return ExpressionSet([f"(?i){pattern}" for pattern in _HARM])

"""The next step that a verdict recommends, in one or two English sentences of at most 500 characters."""

from collections.abc import Mapping
from typing import Final

from firstline.core.rules import Match
from firstline.core.taxonomy import Decision, Signal

_BY_SIGNAL: Final[Mapping[Signal, str]] = {
    Signal.LEGAL: "Hand this to the legal team at once and tell a manager. Do not answer on the matter before "
    "they have.",
    Signal.SAFETY: "A person may be in danger: alert the safety lead now, follow the emergency procedure and answer "
    "personally.",
    Signal.SECURITY: "Open a security incident and alert the security team now. Keep logs and do not change the "
    "account's data before they say so.",
    Signal.OUTAGE: "Alert the on-call engineer, check the status page and tell the customer when the next "
    "update comes.",
    Signal.CHURN: "Let the account manager or the retention team answer personally today, with what was tried so far.",
    Signal.COMPLAINT: "Answer personally and soon: name the problem, say what happens next and by when.",
}
_ORDER: Final = (Signal.LEGAL, Signal.SAFETY, Signal.SECURITY, Signal.OUTAGE, Signal.CHURN, Signal.COMPLAINT)
_BY_CATEGORY: Final[Mapping[str, str]] = {
    "Network Issue": "Send the connection checklist and route to network support.",
    "Account Problem": "Verify the person, then send the self-service steps for access or route to account support.",
    "Payment Issue": "Look the payment up and route to billing.",
    "Feature Request": "Thank the customer and record the wish with product management.",
}
_STANDARD: Final = "Answer in the normal queue."
_SOON: Final = "Answer ahead of the normal queue."
_NOW: Final = "Hand this to the person on duty now and tell a manager."
_IGNORE: Final = "No answer needed. Keep the message for the record."


def recommended_action(
    decision: Decision, category: str, signals: frozenset[Signal], matches: tuple[Match, ...]
) -> str:
    """What a support engineer should do next.

    A rule's own action comes first, then the most serious signal, then the decision, and the category where it does
    not say otherwise.
    """
    if not any(signal in signals for signal in _ORDER[:3]):
        for match in matches:
            if match.then.action:
                return match.then.action
    if decision is Decision.IGNORE:
        return _IGNORE
    for signal in _ORDER:
        if signal in signals:
            return _BY_SIGNAL[signal]
    if decision is Decision.IMMEDIATE_ESCALATION:
        return _NOW
    step = _BY_CATEGORY.get(category)
    if decision is Decision.PRIORITY_RESPONSE:
        return f"{_SOON} {step}" if step else _SOON
    return step or _STANDARD

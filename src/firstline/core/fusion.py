"""Which category is answered, how sure that is, and whether a provider is worth asking about it.

The local model's opinion and a provider's are weighed against each other by how often each of them is right.
"""

from collections.abc import Mapping
from typing import Final

from firstline.core.asking import AskPolicy
from firstline.core.completion import Completion, Mode
from firstline.core.doubt import doubt, doubted
from firstline.core.policy import Policy
from firstline.core.taxonomy import FALLBACK_CATEGORY, Decision
from firstline.core.verdict import Abstention, Prediction, Reason, Source, Verdict

_ABSTAINED: Final = {
    Abstention.UNSUPPORTED_LANGUAGE: "The message is in a language that the local model does not know.",
    Abstention.NO_WORDS: "The local model knows no word of the message.",
    Abstention.NONE_OF_THESE: "The message seems to belong to none of the account's categories.",
}
_KNOWS_NOTHING: Final = frozenset({Abstention.UNSUPPORTED_LANGUAGE, Abstention.NO_WORDS})
_LEAST_CHANCE: Final = 1e-6
"""However sure the local model is, it leaves a category this much."""


def wants_provider(verdict: Verdict, asking: AskPolicy) -> bool:
    """Whether a verdict of rules and local model is worth a provider's opinion.

    A terminal rule has decided, and what is ignored (spam, noise) needs no second opinion. Whatever a person would
    have to look at because its probability is low is worth one.
    """
    if asking.mode is Mode.NEVER or verdict.source is not Source.LOCAL or verdict.decision is Decision.IGNORE:
        return False
    if asking.mode is Mode.ALWAYS or assurance_of(verdict) < asking.threshold:
        return True
    return verdict.evidence is not None and verdict.probability < verdict.evidence.thresholds["review_probability"]


def assurance_of(verdict: Verdict) -> float:
    """How sure the local answer is of its category, 0–1, as `core.doubt` has it; 0 when the model has no opinion."""
    prediction = verdict.evidence.prediction if verdict.evidence else None
    return 0.0 if prediction is None else 1.0 - doubt(prediction, support=prediction.support)


def choose_category(
    prediction: Prediction | None, completion: Completion | None, policy: Policy
) -> tuple[str, float, Reason | None]:
    """The category that is answered, its probability, and why it is the fallback instead of the likeliest."""
    chances = _chances(prediction, completion, policy)
    if not chances:
        return FALLBACK_CATEGORY, 0.0, None
    name = max(chances, key=chances.__getitem__)
    probability = chances[name]
    threshold = policy.threshold_of(name, prediction.language if prediction else None)
    if completion is None and prediction is not None and prediction.abstained is not None:
        reason = Reason("abstained", _ABSTAINED[prediction.abstained])
    elif probability < threshold:
        reason = Reason("threshold", f"{name} has probability {probability:.2f}, under its threshold of {threshold:g}.")
    else:
        return name, probability, None
    return FALLBACK_CATEGORY, chances.get(FALLBACK_CATEGORY, 0.0), reason


def _chances(prediction: Prediction | None, completion: Completion | None, policy: Policy) -> Mapping[str, float]:
    """Probabilities by category after everybody has been heard.

    A provider is taken to be right with the policy's `provider_accuracy`, else to name any other category, whatever
    the local model thinks: Bayes' rule then weighs both. Where the local model knows nothing of a message, all
    categories are as likely before.
    """
    if completion is None:
        return prediction.probabilities if prediction else {}
    names = [category.name for category in policy.categories]
    if prediction is None or not prediction.probabilities or prediction.abstained in _KNOWS_NOTHING:
        local = dict.fromkeys(names, 1.0 / len(names))
    else:
        local = doubted(prediction, doubt(prediction, support=prediction.support))
    otherwise = (1.0 - policy.provider_accuracy) / max(len(names) - 1, 1)
    weights = {
        name: max(local.get(name, 0.0), _LEAST_CHANCE)
        * (policy.provider_accuracy if name == completion.category else otherwise)
        for name in names
    }
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def foremost(prediction: Prediction | None) -> tuple[str, str | None]:
    """The local model's likeliest category and the language, by which thresholds are looked up."""
    return (prediction.best[0], prediction.language) if prediction else (FALLBACK_CATEGORY, None)

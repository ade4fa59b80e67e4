"""How likely it is that the local category is wrong: which messages are worth asking a language model.

The stated probability alone finds wrong answers badly on messages of a kind that the model was not trained on, for
there it is too sure. Two opinions that are made anyway find more of them: what the embedding half alone would say, and
how far the subcategories bear the category out. `support_of` joins both into one number beside the prediction.
"""

import math
from typing import Final

from firstline.core.verdict import Abstention, Prediction

ASSURANCE: Final = 0.72
"""Default threshold: a message whose assurance is under it is worth asking. On left-out sources, all counting the
same, 25 % are."""

BIAS_SHARE: Final = 0.6
FINER_SHARE: Final = 0.3
"""Of the language's bias beside the embedding half, and of the subcategories in the support."""

_OFFSET: Final = -0.095
_SLOPE: Final = -0.496
"""Logistic regression of a wrong category on margin plus support."""

_NONE_OF_THESE: Final = 0.57
"""How often "none of the account's categories" was wrong, on taxonomies drawn from Banking77 and HWU64 with one message
in seven from outside."""

_LEAST: Final = 1e-6

# The numbers above: training/frontier.py, ten left-out public sources, English, 2026-11-22. The shares were chosen on a
# grid; choosing them without the source that is judged costs one point of the wrong answers found (0.76 for 0.78).


def support_of(meaning: float, finer: float) -> float:
    """How far opinions besides the probability bear the likeliest category out; negative where they speak against it.

    Args:
        meaning: score of that category less the best other one, in logits, by the embedding half alone with
            `BIAS_SHARE` of the language's bias.
        finer: best score among its subcategories less the best among all others, in logits.
    """
    return meaning + FINER_SHARE * finer


def doubt(prediction: Prediction, *, support: float | None = None) -> float:
    """Chance 0-1 that the likeliest category is wrong; never rises with that category's probability.

    Args:
        support: from `support_of`; None for categories of the account's own and for models that give none. Then the
            stated probability is all there is, and for categories of the account's own it is the better guide.
    """
    if prediction.abstained in {Abstention.UNSUPPORTED_LANGUAGE, Abstention.NO_WORDS} or not prediction.probabilities:
        return 1.0
    ranked = sorted(prediction.probabilities.values(), reverse=True)
    first = min(ranked[0], 1.0)
    if prediction.abstained is not None:
        return max(_NONE_OF_THESE, 1.0 - first)
    if support is None:
        return 1.0 - first
    second = ranked[1] if len(ranked) > 1 else 0.0
    margin = math.log(max(first, _LEAST) / max(second, _LEAST))
    return _logistic(_OFFSET + _SLOPE * (margin + support))


def doubted(prediction: Prediction, doubt: float) -> dict[str, float]:
    """Probabilities by category in which the likeliest has what the doubt leaves it; they sum to 1.

    The others share the doubt as they stood to each other. A provider's answer is weighed against these: the stated
    ones are too sure on messages of an unknown kind, and would overrule a provider that is right.

    Args:
        doubt: 0-1, of this prediction.
    """
    name, first = prediction.best
    others = len(prediction.probabilities) - 1
    if not others:
        return {name: 1.0}
    rest = sum(prediction.probabilities.values()) - first
    found = {
        other: doubt * (chance / rest if rest > _LEAST else 1.0 / others)
        for other, chance in prediction.probabilities.items()
    }
    found[name] = 1.0 - doubt
    return found


def _logistic(score: float) -> float:
    if score >= 0:
        return 1.0 / (1.0 + math.exp(-score))
    exponential = math.exp(score)
    return exponential / (1.0 + exponential)

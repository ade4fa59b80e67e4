from dataclasses import replace

import pytest

from firstline.core.doubt import ASSURANCE, FINER_SHARE, doubt, doubted, support_of
from firstline.core.verdict import Abstention, Prediction

FIVE = ("Network Issue", "Account Problem", "Payment Issue", "Feature Request", "Other")


def prediction(*chances: float, abstained: Abstention | None = None) -> Prediction:
    return Prediction("hybrid.v1+0", dict(zip(FIVE, chances, strict=False)), abstained=abstained)


def among(count: int, likeliest: float) -> Prediction:
    rest = (1 - likeliest) / (count - 1)
    return Prediction("hybrid.v1+0", {f"c{place}": rest if place else likeliest for place in range(count)})


@pytest.mark.parametrize("support", [None, -4.0, 0.0, 4.0])
@pytest.mark.parametrize("count", [2, 5, 50])
def test_a_likelier_category_is_never_doubted_more(count: int, support: float | None) -> None:
    lowest = 1 / count
    chances = [lowest + (1 - lowest) * step / 100 for step in range(101)]
    doubts = [doubt(among(count, chance), support=support) for chance in chances]
    assert doubts == sorted(doubts, reverse=True)
    assert doubts[0] > doubts[-1]
    assert all(0 <= found <= 1 for found in doubts)


def test_what_bears_the_category_out_lowers_the_doubt_and_what_speaks_against_it_raises_it() -> None:
    found = prediction(0.05, 0.05, 0.7, 0.05, 0.15)
    neutral = doubt(found, support=0.0)
    assert doubt(found, support=support_of(2.0, 0.0)) < neutral < doubt(found, support=support_of(-2.0, 0.0))
    assert doubt(found, support=support_of(0.0, 2.0)) < neutral < doubt(found, support=support_of(0.0, -2.0))
    assert support_of(0.0, 1.0) == FINER_SHARE


def test_a_sure_category_that_nothing_else_bears_out_is_worth_asking() -> None:
    sure = prediction(0.02, 0.02, 0.9, 0.02, 0.04)
    assert 1 - doubt(sure) >= ASSURANCE
    assert 1 - doubt(sure, support=-4.0) < ASSURANCE
    assert 1 - doubt(sure, support=4.0) >= ASSURANCE


def test_without_support_the_doubt_is_what_the_stated_probability_leaves() -> None:
    assert doubt(prediction(0.1, 0.1, 0.6, 0.1, 0.1)) == pytest.approx(0.4)
    assert doubt(prediction(0.3, 0.7)) == pytest.approx(0.3)


@pytest.mark.parametrize("abstained", [Abstention.UNSUPPORTED_LANGUAGE, Abstention.NO_WORDS])
def test_where_the_model_knows_nothing_the_doubt_is_complete(abstained: Abstention) -> None:
    assert doubt(prediction(0.0, 0.0, 1.0, 0.0, 0.0, abstained=abstained), support=8.0) == 1.0


def test_none_of_the_accounts_categories_is_worth_asking_however_sure() -> None:
    sure = prediction(0.01, 0.01, 0.02, 0.01, 0.95, abstained=Abstention.NONE_OF_THESE)
    assert 0.5 < doubt(sure) < 1
    unsure = replace(sure, probabilities=dict.fromkeys(FIVE, 0.05) | {"Other": 0.3, "a": 0.25, "b": 0.25})
    assert doubt(unsure) == pytest.approx(0.7)


def test_extreme_probabilities_and_supports_stay_within_bounds() -> None:
    for chances in ((1.0, 0.0, 0.0), (1.0000001, 0.0), (1.0,), (0.5, 0.5), (0.0, 0.0)):
        for support in (None, -1e6, 0.0, 1e6):
            assert 0 <= doubt(prediction(*chances), support=support) <= 1
    assert doubt(prediction()) == 1.0


def test_doubted_probabilities_keep_the_order_of_the_others_and_sum_to_one() -> None:
    found = doubted(prediction(0.02, 0.04, 0.88, 0.01, 0.05), 0.4)
    assert sum(found.values()) == pytest.approx(1)
    assert found["Payment Issue"] == pytest.approx(0.6)
    assert found["Other"] > found["Account Problem"] > found["Network Issue"] > found["Feature Request"]
    assert found["Account Problem"] == pytest.approx(2 * found["Network Issue"])


def test_doubt_about_a_category_without_rivals_is_shared_evenly() -> None:
    assert doubted(prediction(1.0, 0.0, 0.0), 0.2) == pytest.approx(
        {"Network Issue": 0.8, "Account Problem": 0.1, "Payment Issue": 0.1}
    )
    assert doubted(prediction(1.0), 0.2) == {"Network Issue": 1.0}

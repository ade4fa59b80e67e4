"""What tokens cost, in millionths of a dollar."""

import pytest

from firstline.core.prices import Prices


@pytest.mark.parametrize(
    ("asked", "spoken", "micros"), [(0, 0, 0), (1_000_000, 0, 300_000), (120, 75, 224), (1, 0, 1), (10, 0, 3)]
)
def test_a_cost_is_rounded_up_to_a_whole_millionth(asked: int, spoken: int, micros: int) -> None:
    assert Prices(0.3, 2.5).cost_micros(input_tokens=asked, output_tokens=spoken) == micros


def test_a_model_of_ones_own_may_cost_nothing() -> None:
    assert Prices(0, 0).cost_micros(input_tokens=10_000, output_tokens=10_000) == 0


@pytest.mark.parametrize("price", [-0.1, float("nan"), float("inf"), 1e6])
def test_a_price_out_of_bounds_is_refused_by_name(price: float) -> None:
    with pytest.raises(ValueError, match="output_usd_per_mtok must be 0–100000"):
        Prices(1.0, price)

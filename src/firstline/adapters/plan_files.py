"""The plan catalogues that are shipped as data files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Final

from firstline.core.plans import BURST_WINDOW, Plan, Window
from firstline.core.taxonomy import Contract


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The plans of one contract, cheapest first, and what is said about them."""

    contract: Contract
    plans: Mapping[str, Plan]
    notes: tuple[str, ...] = ()


Catalogues = Mapping[Contract, Catalogue]


def load_catalogues(*, free_hourly: int | None = None, free_daily: int | None = None) -> Catalogues:
    """Both catalogues.

    Args:
        free_hourly, free_daily: replace the limits of the classifier's free plan.
    """
    catalogues = {contract: _load(contract) for contract in Contract}
    classifier = catalogues[Contract.CLASSIFIER]
    free = classifier.plans[FREE]
    limits = dict(free.limits)
    if free_hourly is not None:
        limits[Window.HOUR] = free_hourly
    if free_daily is not None:
        limits[Window.DAY] = free_daily
    burst = max(free.burst_per_minute, limits[Window.HOUR])
    changed = replace(free, limits=limits, burst_per_minute=burst)
    catalogues[Contract.CLASSIFIER] = replace(classifier, plans={**classifier.plans, FREE: changed})
    return catalogues


FREE: Final = "free"


def _load(contract: Contract) -> Catalogue:
    text = resources.files("firstline.data").joinpath("plans", f"{contract}.json").read_text(encoding="utf-8")
    data = json.loads(text)
    plans = {}
    for entry in data["plans"]:
        limits = {Window(name): limit for name, limit in entry["limits"].items()}
        plans[entry["name"]] = Plan(
            catalogue=contract,
            name=entry["name"],
            price_usd_per_month=entry["price_usd_per_month"],
            limits=limits,
            burst_per_minute=entry.get("burst_per_minute") or limits[BURST_WINDOW],
            batch_size=entry["batch_size"],
        )
    return Catalogue(contract, plans, tuple(data.get("notes", ())))

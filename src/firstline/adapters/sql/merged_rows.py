"""Rows of a group of records that meet in one row of a table, added up before they are sent.

Sorted by key: writers that lock the same rows do it in the same order, so that none waits for another in a circle.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from firstline.ports.journal import CounterDelta, KeyUse, RollupDelta, SpendDelta


def added_up(deltas: Iterable[CounterDelta]) -> list[tuple[Any, ...]]:
    """One row for each window, its amount last."""
    sums: dict[tuple[Any, ...], int] = {}
    for delta in deltas:
        key = delta[:5]
        sums[key] = sums.get(key, 0) + delta.amount
    return [(*key, amount) for key, amount in sorted(sums.items())]


def uses(found: Iterable[KeyUse]) -> list[tuple[str, int, int]]:
    """Key, time of the last use, requests."""
    sums: dict[str, tuple[int, int]] = {}
    for use in found:
        last, amount = sums.get(use.key_id, (0, 0))
        sums[use.key_id] = (max(last, use.at_us), amount + use.amount)
    return [(key, last, amount) for key, (last, amount) in sorted(sums.items())]


def spent(deltas: Iterable[SpendDelta]) -> list[tuple[Any, ...]]:
    """One row for each account, day, provider and model."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for delta in deltas:
        amounts = sums.setdefault(delta[:4], [0] * len(delta[4:]))
        for place, amount in enumerate(delta[4:]):
            amounts[place] += amount
    return [(*key, *amounts) for key, amounts in sorted(sums.items())]


def counted(deltas: Iterable[RollupDelta]) -> str | None:
    """What a group adds to the counts of verdicts, as one JSON text; None for nothing.

    One row for each hour, account and kind of verdict, in no order: the text is stored as it is, and read later.
    """
    sums: dict[tuple[Any, ...], list[int]] = {}
    for delta in deltas:
        key = delta[:9]
        found = sums.get(key)
        if found is None:
            sums[key] = [delta.tickets, delta.reviews, delta.processing_us]
        else:
            found[0] += delta.tickets
            found[1] += delta.reviews
            found[2] += delta.processing_us
    return orjson.dumps([(*key, *amounts) for key, amounts in sums.items()]).decode() if sums else None

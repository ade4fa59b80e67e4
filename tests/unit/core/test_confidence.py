"""The decision contract's score, case by case; the SDKs read the same file."""

import json
from pathlib import Path
from typing import Any

import pytest

from firstline.core.confidence import score
from firstline.core.message import Facts
from firstline.core.taxonomy import Channel, Contract, UserPlan

CASES = json.loads((Path(__file__).parents[3] / "vectors" / "confidence.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_score_adds_up_as_published(case: dict[str, Any]) -> None:
    facts = Facts(
        Contract.DECISION,
        UserPlan(case["plan"]),
        Channel.EMAIL,
        case["length"],
        case["question"],
        case["history"],
    )
    assert (
        score(
            facts,
            terminal=case["rule"] == "terminal",
            unhappy=case["rule"] == "unhappy",
            raised=case["raised"],
            churn_opinion=case["ai_churn"],
            provider_failed=case["ai_failed"],
        )
        == case["score"]
    )

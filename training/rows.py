"""The rows that a model is trained on: text of our own, and third-party rows that are not part of this repository."""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
LEXICON = HERE / "lexicon"
MAX_TEXT = 1_500
OWN = "corpus"
SIMILAR = 0.6
"""Two lines of one class may share less than this of their character 3-grams (Jaccard)."""


@dataclass(frozen=True)
class Row:
    """A labelled message; what is None or missing is not known.

    Attributes:
        category: None for a message that is only known to be spam or none.
        source: `corpus` for text of our own, else the public data set.
        signals: signals that it carries; None when nobody has looked.
        spam: whether it is spam; None when nobody has looked.
    """

    text: str
    category: str | None
    language: str
    source: str
    weight: float
    subcategory: str | None = None
    urgency: str | None = None
    decision: str | None = None
    signals: frozenset[str] | None = None
    spam: bool | None = None
    place: str = field(default="", compare=False)


def normal(text: str) -> str:
    return " ".join(text.lower().split())


def corpus_rows(weight: float) -> list[Row]:
    rows = []
    for path in sorted(CORPUS.glob("*.jsonl")):
        language = path.stem.partition("-")[0]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            entry = json.loads(line)
            signals = frozenset(entry["signals"]) if "signals" in entry else None
            rows.append(
                Row(
                    entry["text"],
                    entry["category"],
                    language,
                    OWN,
                    weight,
                    subcategory=entry.get("subcategory"),
                    urgency=entry.get("urgency"),
                    decision=entry.get("decision"),
                    signals=signals,
                    spam=None if signals is None else "spam" in signals,
                    place=f"{path.name}:{number}",
                )
            )
    return rows


def third_party_rows(path: Path, config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    by_group: dict[tuple[str, str], list[Row]] = defaultdict(list)
    seen = set()
    subcategories = [(re.compile(entry["label"]), entry) for entry in config["third_party_subcategories"]]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            key = normal(entry["text"])[:200]
            if key in seen:
                continue
            seen.add(key)
            category = config["mapped_categories"].get(entry["category"], entry["category"])
            spam = entry["category"] == "Spam"
            by_group[entry["source"], entry["category"]].append(
                Row(
                    entry["text"][:MAX_TEXT],
                    category,
                    "en",
                    entry["source"],
                    1.0,
                    subcategory=_subcategory(entry["source"], f"{entry['label']}", category, subcategories),
                    spam=spam,
                    place=f"{path.name}:{len(seen)}",
                )
            )
    rows = []
    for group in sorted(by_group):
        found = by_group[group]
        chosen = rng.permutation(len(found))[: config["rows_per_source_and_category"]]
        rows.extend(found[index] for index in sorted(chosen.tolist()))
    return rows


def wanted_mail(folder: Path, most: int, rng: np.random.Generator) -> list[Row]:
    """Messages of the spam collections that are no spam; nothing else is known of them."""
    rows = []
    for source in ("sms_spam", "spamassassin"):
        with gzip.open(folder / f"{source}.jsonl.gz", "rt", encoding="utf-8") as lines:
            found = [entry["text"][:MAX_TEXT] for entry in map(json.loads, lines) if entry["label"] == "ham"]
        chosen = sorted(rng.permutation(len(found))[:most].tolist())
        rows += [Row(found[place], None, "en", source, 1.0, spam=False, place=f"{source}:{place}") for place in chosen]
    return rows


def _subcategory(
    source: str, label: str, category: str, known: list[tuple[re.Pattern[str], dict[str, Any]]]
) -> str | None:
    for pattern, entry in known:
        if entry["category"] == category and source in entry["sources"] and pattern.search(label):
            return str(entry["subcategory"])
    return None


def lexicons() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(LEXICON.glob("*.tsv"))}


def sentences(texts: Iterable[str], most: int) -> Iterator[str]:
    """Sentences of long texts, at most so many of each."""
    for text in texts:
        parts = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text)]
        yield from [part for part in parts if 15 <= len(part) <= 300][:most]


def near_duplicates(rows: list[Row]) -> list[tuple[Row, Row, float]]:
    """Pairs of own lines of one class that are too similar to count as two."""
    found = []
    groups: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.language, row.category].append(row)
    for group in groups.values():
        grams = [_trigrams(row.text) for row in group]
        holders: dict[str, list[int]] = defaultdict(list)
        for number, own in enumerate(grams):
            shared: dict[int, int] = defaultdict(int)
            for gram in own:
                for other in holders[gram]:
                    shared[other] += 1
                holders[gram].append(number)
            for other, common in shared.items():
                similarity = common / (len(own) + len(grams[other]) - common)
                if similarity >= SIMILAR:
                    found.append((group[other], group[number], similarity))
    return found


def _trigrams(text: str) -> set[str]:
    padded = f" {normal(text)} "
    return {padded[start : start + 3] for start in range(len(padded) - 2)}

"""`firstline eval FILE`: how good model and rules are on rows that people have labelled; nothing is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from pydantic import ValidationError

from firstline.adapters.local_model import LocalModel, ModelUnusable, load_local_model
from firstline.core.categories import CategoriesInvalid, CategorySet, OwnCategory, check
from firstline.core.taxonomy import DECISION_RANK, DEFAULT_CATEGORIES, FALLBACK_CATEGORY, Decision, Signal
from firstline.core.verdict import Prediction, Verdict
from firstline.delivery.cli.charts import reliability_chart, risk_coverage_chart
from firstline.delivery.cli.formats import Format
from firstline.delivery.cli.labelled import Columns, Labelled, read_labelled
from firstline.delivery.cli.quality_report import Report, SignalReport, print_report, report_data
from firstline.delivery.cli.terminal import FOUND_WRONG, Mistake, printable, say
from firstline.delivery.cli.triage import build_triage
from firstline.delivery.http.bodies import JsonInvalid, parse_json
from firstline.delivery.http.own_settings_schemas import CategoriesRequest
from firstline.learning.custom import CustomModel, train
from firstline.learning.evaluation import Evaluation, evaluate, signal_quality
from firstline.settings import Settings, load_settings

MAX_SAID: Final = 20
"""Rows that cannot be judged, named on standard error."""

_CHUNK_ROWS: Final = 512


@dataclass(frozen=True, slots=True)
class EvalTask:
    """What the command line asks for.

    Attributes:
        categories: file of own categories to judge in place of the default ones.
        json: file for all figures.
        svg: folder for the charts.
        show_text: whether the report may quote the rows that it names.
    """

    file: str
    columns: Columns = field(default_factory=Columns)
    format: Format | None = None
    categories: Path | None = None
    json: Path | None = None
    svg: Path | None = None
    show_text: bool = False
    rules_dir: Path | None = None


def evaluate_file(task: EvalTask) -> int:
    """Print the figures; 1 when a row could not be judged, else 0.

    Raises: Mistake, SettingsInvalid, CannotStart.
    """
    settings = load_settings(rules_dir=task.rules_dir)
    model = _model(settings)
    own = None if task.categories is None else _trained(model, task.categories)
    known = [*own.names, FALLBACK_CATEGORY] if own else [category.name for category in DEFAULT_CATEGORIES]
    rows, problems = read_labelled(task.file, task.columns, known, format=task.format)
    for problem in problems[:MAX_SAID]:
        say(problem)
    if len(problems) > MAX_SAID:
        say(f"{len(problems) - MAX_SAID:,} more rows cannot be judged.")
    labelled = [row for row in rows if row.label is not None]
    report = Report(
        model=f"{model.name},custom+{own.version}" if own else model.name,
        file=task.file,
        rows=rows,
        evaluation=_judged(model, own, labelled, known) if labelled else None,
        judged=labelled,
        signals=_signals(rows, settings),
        skipped=len(problems),
    )
    if task.json is not None:
        _write(task.json, orjson.dumps(report_data(report, show_text=task.show_text), option=orjson.OPT_INDENT_2))
    if task.svg is not None:
        _draw(task.svg, report.evaluation)
    print_report(report, show_text=task.show_text)
    return FOUND_WRONG if problems else 0


def _model(settings: Settings) -> LocalModel:
    try:
        return load_local_model(settings.model_file)
    except ModelUnusable as error:
        raise Mistake(f"{error}.") from None


def _judged(model: LocalModel, own: CustomModel | None, rows: Sequence[Labelled], known: Sequence[str]) -> Evaluation:
    probabilities = np.zeros((len(rows), len(known)))
    languages = []
    for start in range(0, len(rows), _CHUNK_ROWS):
        part = rows[start : start + _CHUNK_ROWS]
        found = model.predict_many([row.message.text for row in part], [own] * len(part))
        for place, (row, prediction) in enumerate(zip(part, found, strict=True), start):
            probabilities[place] = _vector(prediction, known)
            languages.append(row.language or prediction.language or "unknown")
    labels = np.array([known.index(row.label or "") for row in rows])
    return evaluate(probabilities, labels, known, languages)


def _vector(prediction: Prediction, known: Sequence[str]) -> list[float]:
    """Probabilities in the order of the categories; of a text that the model declines to read, all on the fallback."""
    if prediction.probabilities.keys() != set(known):
        return [float(name == FALLBACK_CATEGORY) for name in known]
    return [prediction.probabilities[name] for name in known]


def _signals(rows: Sequence[Labelled], settings: Settings) -> SignalReport | None:
    """How signals are met by the rules, and by the whole verdict; None when no row says which it has."""
    told = [row for row in rows if row.signals is not None]
    if not told:
        return None
    triage = build_triage(settings)
    verdicts: list[Verdict] = []
    for start in range(0, len(told), _CHUNK_ROWS):
        verdicts += triage.decide_many([row.message for row in told[start : start + _CHUNK_ROWS]])
    by_rules, by_verdict = {}, {}
    for signal in Signal:
        has = [signal in (row.signals or ()) for row in told]
        if not any(has):
            continue
        by_rules[signal] = signal_quality(has, [_matched(verdict, signal) for verdict in verdicts])
        # A message with another signal may rightly be raised: it tells nothing about this one.
        clear = [there or not row.signals for there, row in zip(has, told, strict=True)]
        by_verdict[signal] = signal_quality(
            [there for there, counts in zip(has, clear, strict=True) if counts],
            [_acted_on(verdict, signal) for verdict, counts in zip(verdicts, clear, strict=True) if counts],
        )
    return SignalReport(len(told), by_rules, by_verdict)


def _matched(verdict: Verdict, signal: Signal) -> bool:
    return verdict.evidence is not None and any(match.signal is signal for match in verdict.evidence.matches)


def _acted_on(verdict: Verdict, signal: Signal) -> bool:
    """Whether the decision does what the signal asks for: spam is ignored, anything else raised."""
    if signal is Signal.SPAM:
        return verdict.decision is Decision.IGNORE
    return DECISION_RANK[verdict.decision] > DECISION_RANK[Decision.STANDARD_RESPONSE]


def _trained(model: LocalModel, path: Path) -> CustomModel:
    """Own categories from a file as `PUT /v1/categories` takes them."""
    try:
        found = parse_json(path.read_bytes())
        categories = _category_set(found)
        check(categories)
    except OSError as error:
        raise Mistake(f"{printable(str(path))} cannot be read: {error.strerror}.") from None
    except (JsonInvalid, CategoriesInvalid) as error:
        raise Mistake(f"{printable(str(path))}: {error}.") from None
    trained, advice = train(model.hybrid, categories, model.curves)
    for hint in advice:
        say(f"Advice: {printable(hint.text)}")
    return trained


def _category_set(found: Any) -> CategorySet:
    """Raises: CategoriesInvalid."""
    try:
        given = CategoriesRequest.model_validate({"categories": found} if isinstance(found, list) else found)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
        raise CategoriesInvalid(place or "categories", fault["msg"][:1].lower() + fault["msg"][1:]) from None
    return CategorySet(
        tuple(
            OwnCategory(
                entry.name.strip(), entry.description.strip(), entry.priority, tuple(map(str.strip, entry.examples))
            )
            for entry in given.categories
        )
    )


def _draw(folder: Path, evaluation: Evaluation | None) -> None:
    if evaluation is None:
        say("No row has a category, so there are no charts.")
        return
    quality = evaluation.overall
    _write(folder / "reliability.svg", reliability_chart(quality).encode())
    _write(folder / "risk-coverage.svg", risk_coverage_chart(quality).encode())


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise Mistake(f"{printable(str(path))} cannot be written: {error.strerror}.") from None
    say(f"Written: {path}")

"""What asking a language model would buy: share of messages asked against accuracy, on sources left out of training.

`python training/frontier.py --data DIR`. A simulated provider names the right category with a given chance, else any
other one, whatever the local model thinks. Every answer that it could give counts by its chance, which is what endless
seeds would average to. Whatever is fitted to find doubt is fitted on the other sources; all sources count the same.
"""

import argparse
import platform
import tomllib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
from left_out import Flags, Floats, Group, left_out
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from firstline.core.doubt import ASSURANCE, BIAS_SHARE, doubt, doubted, support_of
from firstline.core.policy import Policy
from firstline.core.verdict import Prediction
from firstline.delivery.cli.charts import _Frame, _svg
from firstline.learning.calibration import expected_calibration_error

HERE = Path(__file__).parent
SHARES = (0.05, 0.10, 0.25, 0.50, 1.0)
ASKED = 0.25
ACCURACY = 0.95
ACCURACIES = (0.80, 0.90, 0.95, 0.97)
BELIEFS = (0.80, 0.85, 0.90, 0.95)
GRID = tuple(product((0.4, 0.5, 0.6, 0.8, 1.0), (0.5, 0.7, 1.0, 1.4), (0.0, 0.2, 0.3, 0.5, 0.7)))
"""Shares of the bias beside the embedding half, weights of that half and of the subcategories."""

Doubts = dict[str, Floats]
Groups = dict[str, Group]


def predictions(group: Group, categories: Sequence[str]) -> list[Prediction]:
    return [Prediction("", dict(zip(categories, row, strict=True))) for row in group.chances.tolist()]


def supports(group: Group) -> Floats:
    return support_of(group.above(group.meant + BIAS_SHARE * group.bias), group.above(group.finer))  # type: ignore[arg-type, return-value]


def shipped_doubt(group: Group, categories: Sequence[str], *, supported: bool = True) -> Floats:
    """By `core.doubt`, message by message."""
    given = supports(group).tolist() if supported else [None] * len(group.truth)
    return np.array([doubt(made, support=it) for made, it in zip(predictions(group, categories), given, strict=True)])


def shipped_weights(group: Group, categories: Sequence[str], doubts: Floats) -> Floats:
    """Probabilities as `core.doubt` weighs them against a provider's."""
    made = predictions(group, categories)
    found = [doubted(prediction, chance) for prediction, chance in zip(made, doubts.tolist(), strict=True)]
    return np.array([[entry[name] for name in categories] for entry in found])


def margins(group: Group) -> Floats:
    return group.above(np.log(np.maximum(group.chances, 1e-6)))


def value_of_asking(group: Group, belief: float) -> Floats:
    """Expected accuracy after a provider's answer less that before, by the stated probabilities."""
    rows, count = group.chances.shape
    after = np.zeros(rows)
    for answer in range(count):
        joint = group.chances * (1 - belief) / (count - 1)
        joint[:, answer] = group.chances[:, answer] * belief
        after += joint.max(axis=1)
    found: Floats = after - group.chances.max(axis=1)
    return found


def regression(columns: Callable[[Group], Floats], groups: Groups) -> Doubts:
    """Chance of a wrong category by logistic regression, each source by the others."""
    found = {}
    for name, group in groups.items():
        rest = [other for key, other in groups.items() if key != name]
        matrix = np.concatenate([columns(other) for other in rest])
        middle, width = matrix.mean(axis=0), matrix.std(axis=0) + 1e-9
        wrong = np.concatenate([other.wrong for other in rest])
        weights = np.concatenate(
            [np.full(len(other.wrong), len(wrong) / len(rest) / len(other.wrong)) for other in rest]
        )
        model = LogisticRegression(C=10.0).fit((matrix - middle) / width, wrong, sample_weight=weights)
        found[name] = model.predict_proba((columns(group) - middle) / width)[:, 1]
    return found


def plain_columns(group: Group) -> Floats:
    chances = np.maximum(group.chances, 1e-6)
    entropy = -(chances * np.log(chances)).sum(axis=1)
    top = np.log(chances.max(axis=1))
    return np.stack([top, margins(group), entropy, group.agreed * 1.0, np.log(group.lengths)], axis=1)


def chosen_without(groups: Groups) -> Doubts:
    """As shipped, but shares, weights, slope and offset are found without the source that is judged."""
    raw = {
        place: {
            name: margins(group) + k * group.above(group.meant + bias * group.bias) + j * group.above(group.finer)
            for name, group in groups.items()
        }
        for place, (bias, k, j) in enumerate(GRID)
    }
    caught = {
        place: {name: _caught(-score, groups[name].wrong) for name, score in scores.items()}
        for place, scores in raw.items()
    }
    found = {}
    for name in groups:
        place = max(raw, key=lambda it: sum(value for key, value in caught[it].items() if key != name))
        of = {id(group): raw[place][key] for key, group in groups.items()}
        found[name] = regression(lambda group, of=of: of[id(group)][:, None], groups)[name]  # type: ignore[misc]
    return found


def _caught(order: Floats, wrong: Flags) -> float:
    """Share of the wrong answers, as far as they can be, among the messages that are asked first."""
    most = round(ASKED * len(wrong))
    first = np.argsort(-order, kind="stable")[:most]
    return float(wrong[first].sum() / max(min(most, wrong.sum()), 1))


def answered(group: Group, local: Floats, *, accuracy: float, belief: float) -> tuple[Floats, Floats, Floats]:
    """What comes of asking about each message, over all answers of a provider.

    Args:
        local: probabilities that the answer is weighed against.
        accuracy: of the provider.
        belief: what it is taken to be.
    Returns: chance of a right category, (n_rows,); of each answer its chance, (n_answers, n_rows), and what comes of
        it, (n_answers, n_rows, n_categories).
    """
    rows, count = local.shape
    right, chances, posteriors = np.zeros(rows), np.zeros((count, rows)), np.zeros((count, rows, count))
    for answer in range(count):
        joint = np.maximum(local, 1e-6) * (1 - belief) / (count - 1)
        joint[:, answer] *= belief * (count - 1) / (1 - belief)
        chances[answer] = np.where(group.truth == answer, accuracy, (1 - accuracy) / (count - 1))
        posteriors[answer] = joint / joint.sum(axis=1, keepdims=True)
        right += chances[answer] * (joint.argmax(axis=1) == group.truth)
    return right, chances, posteriors


class Frontier:
    """Accuracy by the share asked, for one way of weighing answers.

    Attributes:
        gains: change of the chance to be right, of each message.
    """

    def __init__(self, groups: Groups, local: Doubts, *, accuracy: float, belief: float) -> None:
        self.groups = groups
        self.gains = {
            name: answered(group, local[name], accuracy=accuracy, belief=belief)[0] - ~group.wrong
            for name, group in groups.items()
        }
        self.before = float(np.mean([1 - group.wrong.mean() for group in groups.values()]))
        self.perfect = {name: np.where(group.wrong, 10.0, 0.0) + self.gains[name] for name, group in groups.items()}
        """Wrong ones first, those before that are put right."""

    def within(self, order: Doubts, share: float) -> Floats:
        """Gain of each source when it asks about this share of its messages."""
        return np.array(
            [
                self.gains[name][np.argsort(-order[name], kind="stable")[: round(share * len(order[name]))]].sum()
                / len(order[name])
                for name in self.groups
            ]
        )

    def pooled(self, order: Doubts, share: float) -> float:
        """Gain over all sources when this share of the mixed traffic is asked about."""
        weights = np.concatenate([np.full(len(order[name]), 1 / len(order[name])) for name in self.groups])
        weights /= len(self.groups)
        ranks = np.argsort(-np.concatenate([order[name] for name in self.groups]), kind="stable")
        inside = np.cumsum(weights[ranks]) <= share + 1e-9
        gains = np.concatenate([self.gains[name] for name in self.groups])
        return float((weights[ranks] * gains[ranks])[inside].sum())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--config", type=Path, default=HERE / "hybrid.v1.toml")
    arguments.add_argument(
        "--folds", type=Path, default=Path("var/left-out.npz"), help="predictions, kept for the next run"
    )
    arguments.add_argument("--svg", type=Path, default=Path("var/frontier.svg"))
    options = arguments.parse_args()
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    groups, own = left_out(options.data, config, options.folds)
    names, belief = config["categories"], Policy().provider_accuracy

    doubts = {name: shipped_doubt(group, names) for name, group in groups.items()}
    orders: dict[str, Doubts] = {
        "1 - highest probability": {name: 1 - group.chances.max(axis=1) for name, group in groups.items()},
        "1 - margin": {name: -margins(group) for name, group in groups.items()},
        "entropy": {
            name: -(group.chances * np.log(group.chances + 1e-12)).sum(axis=1) for name, group in groups.items()
        },
        "halves differ, then probability": {
            name: ~group.agreed + 1 - group.chances.max(axis=1) for name, group in groups.items()
        },
        "value of asking": {name: value_of_asking(group, belief) for name, group in groups.items()},
        "regression on cheap features": regression(plain_columns, groups),
        "core.doubt, found on the others": chosen_without(groups),
        "core.doubt": doubts,
    }
    weighed = {name: shipped_weights(group, names, doubts[name]) for name, group in groups.items()}
    stated = {name: group.chances for name, group in groups.items()}
    frontier = Frontier(groups, weighed, accuracy=ACCURACY, belief=belief)

    machine = f"{platform.machine()} {platform.system()}, {datetime.now(UTC):%Y-%m-%d}"
    console = Console(width=150)
    console.print(f"Provider right {ACCURACY:.0%}, taken for {belief:.0%}; {len(groups)} sources; {machine}")
    console.print(_by_source(frontier, doubts))
    console.print(_by_order(frontier, orders))
    console.print(_by_accuracy(groups, doubts, {"stated": stated, "doubted": weighed}))
    _thresholds(console, groups, own, doubts, names)
    frames = {"core.doubt": doubts, "probability alone": orders["1 - highest probability"], "perfect": frontier.perfect}
    options.svg.parent.mkdir(parents=True, exist_ok=True)
    options.svg.write_text(_chart(frontier, frames, machine), encoding="utf-8")
    console.print(f"{options.svg} drawn")


def _table(title: str, first: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _by_source(frontier: Frontier, order: Doubts) -> Table:
    columns = ["rows", "nobody asked", *(f"{share:.0%} asked" for share in SHARES)]
    found = _table("Accuracy by source", "source", [*columns, "perfect at 25 %", "share of its gain"])
    gains = {share: frontier.within(order, share) for share in SHARES}
    best = frontier.within(frontier.perfect, ASKED)
    for place, (name, group) in enumerate(frontier.groups.items()):
        before = 1 - group.wrong.mean()
        after = [f"{before + gains[share][place]:.3f}" for share in SHARES]
        ends = [f"{before + best[place]:.3f}", f"{gains[ASKED][place] / best[place]:.2f}"]
        found.add_row(name, str(len(group.truth)), f"{before:.3f}", *after, *ends)
    means = [f"{frontier.before + gains[share].mean():.3f}" for share in SHARES]
    ends = [f"{frontier.before + best.mean():.3f}", f"{gains[ASKED].mean() / best.mean():.2f}"]
    found.add_row("mean, each asks the share", "", f"{frontier.before:.3f}", *means, *ends, style="bold")
    pooled = {share: frontier.pooled(order, share) for share in SHARES}
    most = frontier.pooled(frontier.perfect, ASKED)
    ends = [f"{frontier.before + most:.3f}", f"{pooled[ASKED] / most:.2f}"]
    mixed = [f"{frontier.before + pooled[share]:.3f}" for share in SHARES]
    found.add_row("mixed traffic", "", f"{frontier.before:.3f}", *mixed, *ends, style="bold")
    return found


def _by_order(frontier: Frontier, orders: dict[str, Doubts]) -> Table:
    columns = [f"{share:.0%}" for share in SHARES[:-1]]
    found = _table(
        "Gain as a share of the perfect ordering's: each source alone, mixed traffic; wrong ones found at 25 %",
        "ordering",
        [*columns, *(f"{column} mixed" for column in columns), "found"],
    )
    for name, order in orders.items():
        alone = [frontier.within(order, it).mean() / frontier.within(frontier.perfect, it).mean() for it in SHARES[:-1]]
        mixed = [frontier.pooled(order, it) / frontier.pooled(frontier.perfect, it) for it in SHARES[:-1]]
        caught = np.mean([_caught(order[key], group.wrong) for key, group in frontier.groups.items()])
        found.add_row(name, *(f"{value:.2f}" for value in [*alone, *mixed, caught]))
    return found


def _by_accuracy(groups: Groups, order: Doubts, ways: dict[str, Doubts]) -> Table:
    columns = [f"{kind} {it:.0%}" for it in ACCURACIES for kind in ("25 %, if right", "all, if right", "ece")]
    found = _table("Local probabilities weighed, and what the provider is taken for", "weighed, taken for", columns)
    for way, local in ways.items():
        for belief in BELIEFS:
            cells = []
            for accuracy in ACCURACIES:
                frontier = Frontier(groups, local, accuracy=accuracy, belief=belief)
                gains = (frontier.within(order, share).mean() for share in (ASKED, 1.0))
                cells.extend(f"{frontier.before + gain:.3f}" for gain in gains)
                cells.append(f"{_posterior_error(groups, local, order, accuracy=accuracy, belief=belief):.3f}")
            found.add_row(f"{way} {belief:.0%}", *cells)
    return found


def _posterior_error(groups: Groups, local: Doubts, order: Doubts, *, accuracy: float, belief: float) -> float:
    """Calibration error of the new probability on the quarter that is asked, mean over the sources."""
    errors = []
    for name, group in groups.items():
        first = np.argsort(-order[name], kind="stable")[: round(ASKED * len(group.truth))]
        _, chances, posteriors = answered(group, local[name], accuracy=accuracy, belief=belief)
        likely = posteriors[:, first].max(axis=2).ravel()
        right = (posteriors[:, first].argmax(axis=2) == group.truth[first]).ravel()
        weights = chances[:, first].ravel()
        bins = np.minimum((likely * 15).astype(int), 14)
        off = np.bincount(bins, weights * (likely - right), 15)
        errors.append(np.abs(off).sum() / weights.sum())
    return float(np.mean(errors))


def _thresholds(console: Console, groups: Groups, own: Group, doubts: Doubts, names: Sequence[str]) -> None:
    def mean(values: Iterable[object]) -> float:
        return float(np.mean([np.mean(it) for it in values]))  # type: ignore[call-overload]

    alone = {name: shipped_doubt(group, names, supported=False) for name, group in groups.items()}
    at_home, plain = shipped_doubt(own, names), shipped_doubt(own, names, supported=False)
    for title, left, home in (("with support", doubts, at_home), ("probability alone", alone, plain)):
        shares = ", ".join(f"{name} {(1 - it < ASSURANCE).mean():.2f}" for name, it in left.items())
        console.print(
            f"Assurance under {ASSURANCE}, {title}: {mean(1 - it < ASSURANCE for it in left.values()):.3f} of"
        )
        console.print(f"  left-out messages ({shares}); {(1 - home < ASSURANCE).mean():.3f} of our own lines in folds")
        errors = [_calibration(it, groups[name].wrong) for name, it in left.items()]
        console.print(
            f"  calibration error {np.mean(errors):.3f} left out, {_calibration(home, own.wrong):.3f} own lines"
        )
    ranked = np.sort(np.concatenate([np.quantile(it, np.linspace(0, 1, 2001)) for it in doubts.values()]))[::-1]
    cuts = {share: 1 - ranked[round(share * (len(ranked) - 1))] for share in SHARES[:-1]}
    console.print("Thresholds: " + ", ".join(f"{cut:.2f} asks about {share:.0%}" for share, cut in cuts.items()))
    accuracy = Frontier({"own": own}, {"own": shipped_weights(own, names, at_home)}, accuracy=ACCURACY, belief=0.9)
    asked = float((1 - at_home < ASSURANCE).mean())
    gain, best = (float(accuracy.within({"own": it}, asked)[0]) for it in (at_home, accuracy.perfect["own"]))
    after = accuracy.before + gain
    console.print(
        f"Our own lines: {accuracy.before:.3f} right; {asked:.2f} asked, then {after:.3f}; {gain / best:.2f} of perfect"
    )
    _reached(console, groups, doubts, names)


def _reached(console: Console, groups: Groups, doubts: Doubts, names: Sequence[str]) -> None:
    """How much has to be asked for four fifths of what a perfect ordering gains with a quarter."""
    weighed = {name: shipped_weights(group, names, doubts[name]) for name, group in groups.items()}
    frontier = Frontier(groups, weighed, accuracy=ACCURACY, belief=Policy().provider_accuracy)
    wanted = 0.8 * frontier.within(frontier.perfect, ASKED).mean()
    share = next(share / 100 for share in range(1, 101) if frontier.within(doubts, share / 100).mean() >= wanted)
    console.print(f"80 % of what a perfect ordering gains at {ASKED:.0%} asked is reached at {share:.0%}")


def _calibration(doubts: Floats, wrong: Flags) -> float:
    return expected_calibration_error(
        np.stack([1 - doubts, np.full(len(doubts), -1.0)], axis=1), wrong.astype(np.int64)
    )


def _chart(frontier: Frontier, orders: dict[str, Doubts], machine: str) -> str:
    frame = _Frame(0.75)
    shares = np.linspace(0, 1, 51).tolist()
    parts = []
    for (name, order), style in zip(orders.items(), ("line", "found", "ideal"), strict=True):
        points = [(share, frontier.before + frontier.pooled(order, share)) for share in shares]
        parts.append(f'<path class="{style}" fill="none" d="{frame.path(points)}"><title>{name}</title></path>')
    for place, (words, style) in enumerate(
        (("core.doubt", "line"), ("probability alone", "found"), ("perfect ordering", "ideal"))
    ):
        y = frame.y(0.79) + 18 * place
        parts.append(f'<line class="{style}" x1="{frame.x(0.6)}" x2="{frame.x(0.67)}" y1="{y - 4}" y2="{y - 4}"/>')
        parts.append(f'<text x="{frame.x(0.69)}" y="{y}" font-size="12">{words}</text>')
    at = frontier.before + frontier.pooled(orders["core.doubt"], ASKED)
    parts.append(f'<circle class="mark" cx="{frame.x(ASKED)}" cy="{frame.y(at)}" r="4"/>')
    parts.append(f'<text x="{frame.x(ASKED) + 10}" y="{frame.y(at) + 16}">{at:.1%} at 25 % asked</text>')
    return _svg(
        frame,
        "Asking a language model that is 95 % right",
        f"{len(frontier.groups)} left-out sources, each counting the same; {machine}",
        ("Share of messages asked", "Share of right answers"),
        parts,
    )


if __name__ == "__main__":
    main()

"""What the shipped recipe says about each public source when its heads were fitted without it, kept in a file.

The table is the shipped one, which has read the sources' sentences without labels. Lines of our own are predicted in
folds, and come out as one group, `corpus`.
"""

from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from heads import Halves, count_buckets, inverse_frequencies, weighed
from numpy.typing import NDArray
from rows import OWN, corpus_rows, third_party_rows, wanted_mail
from tokens import embeddings_of
from train import FOLDS, PROCESSES, Task, fit, languages_of, tasks_of, temperatures

from firstline.learning.artifact import load_model
from firstline.learning.linear import softmax

MODEL = Path(__file__).parent.parent / "src/firstline/data/models/default.safetensors"
PARTS = ("spelled", "meant", "bias", "finer", "lengths", "truth")

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass
class Group:
    """Rows of one source, predicted without it.

    Attributes:
        spelled, meant: scores of the categories by each half, (n_rows, n_categories); the bias is in neither.
        finer: the highest score among each category's subcategories.
        lengths: characters.
        truth: place of the right category.
        chances: calibrated probabilities; zeros until `calibrate` was called.
    """

    spelled: Floats
    meant: Floats
    bias: Floats
    finer: Floats
    lengths: Floats
    truth: NDArray[np.int64]
    chances: Floats = field(init=False)
    best: NDArray[np.int64] = field(init=False)
    wrong: Flags = field(init=False)

    def __post_init__(self) -> None:
        self.scores = self.spelled + self.meant + self.bias
        self.agreed: Flags = self.spelled.argmax(axis=1) == self.meant.argmax(axis=1)
        self.best = self.scores.argmax(axis=1)
        self.wrong = self.best != self.truth

    def calibrate(self, calm: float, doubtful: float) -> None:
        """Fill in the probabilities, with temperatures where the halves agree and where not."""
        self.chances = softmax(self.scores / np.where(self.agreed, calm, doubtful)[:, None])

    def above(self, scores: Floats) -> Floats:
        """By how much scores of the categories put the answered one before the best other one; may be negative."""
        rows = np.arange(len(scores))
        others = scores.copy()
        others[rows, self.best] = -np.inf
        found: Floats = scores[rows, self.best] - others.max(axis=1)
        return found


def left_out(data: Path, config: dict[str, Any], keep: Path) -> tuple[dict[str, Group], Group]:
    """The public sources by name, and our own lines; fitted for minutes, or read from a file of an earlier run.

    Spam is left out, as in training the temperatures. Each source is calibrated by the others.
    """
    if not keep.exists():
        keep.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(keep, **_fitted(data, config))
    stored = np.load(keep)
    names = list(dict.fromkeys(name.partition("/")[0] for name in stored.files))
    groups = {name: Group(*(stored[f"{name}/{part}"] for part in PARTS)) for name in names}
    own = groups.pop(OWN)
    for name, group in groups.items():
        group.calibrate(*_temperatures([other for key, other in groups.items() if key != name]))
    own.calibrate(*_temperatures(list(groups.values())))
    return groups, own


def _temperatures(groups: list[Group]) -> tuple[float, float]:
    spelled, meant, scores, truth = (
        np.concatenate([getattr(group, part) for group in groups]) for part in ("spelled", "meant", "scores", "truth")
    )
    names = np.concatenate([np.full(len(group.truth), place) for place, group in enumerate(groups)])
    return temperatures(spelled, meant, scores, truth, names)[:2]


def _fitted(data: Path, config: dict[str, Any]) -> dict[str, Any]:
    global _features, _tasks, _config  # inherited by the forked workers
    rng = np.random.default_rng(config["seed"])
    rows = corpus_rows(config["corpus_weight"])
    rows += third_party_rows(data / "tickets_mapped.jsonl.gz", config, rng)
    rows += wanted_mail(data, config["wanted_mail"], rng)
    model = load_model(MODEL.read_bytes())
    texts = [row.text for row in rows]
    counts = count_buckets(texts, config["bits"])
    _features = Halves(
        weighed(counts, inverse_frequencies(counts)),
        embeddings_of(model.vocabulary, model.embeddings, texts, [row.language for row in rows]),
        languages_of(rows, config["languages"]),
    )
    _tasks = {name: group[0] for name, group in tasks_of(rows, config).items()}
    _config = config
    sources = np.array([row.source for row in rows])
    judged = np.array([row.category is not None and not row.spam for row in rows])
    folds = [(name, sources == name) for name in sorted(set(sources.tolist()) - {OWN})]
    for part in np.array_split(rng.permutation(np.flatnonzero(sources == OWN)), FOLDS):
        out = np.zeros(len(rows), bool)
        out[part] = True
        folds.append((OWN, out))
    folds = [(name, out) for name, out in folds if (out & judged).any()]
    found: dict[str, list[tuple[Any, ...]]] = {}
    with get_context("fork").Pool(PROCESSES) as pool:
        asked = [np.flatnonzero(out & judged) for _, out in folds]
        scored = pool.imap(_score, [(out, places) for (_, out), places in zip(folds, asked, strict=True)])
        for (name, _), places, parts in zip(folds, asked, scored, strict=True):
            lengths = np.array([float(len(texts[place])) for place in places])
            truth = np.array([config["categories"].index(rows[place].category) for place in places])
            found.setdefault(name, []).append((*parts, lengths, truth))
            print(f"{name}: {len(places)} rows predicted without it", flush=True)
    return {
        f"{name}/{part}": np.concatenate([entry[place] for entry in entries])
        for name, entries in found.items()
        for place, part in enumerate(PARTS)
    }


_features: Halves
_tasks: dict[str, Task]
_config: dict[str, Any]


def _score(job: tuple[Flags, NDArray[np.int64]]) -> tuple[Floats, Floats, Floats, Floats]:
    out, asked = job
    rows = _features[asked]
    heads = []
    for name in ("category", "subcategory"):
        task = _tasks[name]
        kept = ~out[task.rows]
        heads.append(fit(_features[task.rows[kept]], task.answers[kept], task.weights[kept], _config["heads"][name]))
    spelled, meant = heads[0].halves(rows)
    of = np.array([label.partition("/")[0] for label in _config["subcategories"]])
    scores = heads[1].scores(rows)
    finer = np.stack([scores[:, of == name].max(axis=1) for name in _config["categories"]], axis=1)
    return spelled, meant, rows.languages @ heads[0].bias, finer

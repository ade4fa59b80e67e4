"""Leave one source out: the shipped recipe beside TF-IDF and logistic regression, on the same rows in one run.

`python training/compare.py --data DIR`. Each public source is predicted by heads that were fitted without it. A source
of spam is judged by the spam head (the mean of caught spam and of wanted mail left alone), every other by the
category. The table has read the sources' sentences, without labels, as any unlabelled text; the heads have not.
"""

import argparse
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from heads import Halves, count_buckets, inverse_frequencies, weighed
from numpy.typing import NDArray
from rows import OWN, Row, corpus_rows, lexicons, third_party_rows, wanted_mail
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from tokens import embeddings_of
from train import fit, languages_of, tasks_of, temperatures, the_table

from firstline.learning.artifact import quantise_rows
from firstline.learning.calibration import expected_calibration_error, fit_temperature
from firstline.learning.linear import softmax
from firstline.learning.vocabulary import Vocabulary

HERE = Path(__file__).parent
BASELINE_C = 10.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--config", type=Path, default=HERE / "hybrid.v1.toml")
    arguments.add_argument("--table", type=Path, help="a table kept by train.py --table")
    options = arguments.parse_args()
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    rng = np.random.default_rng(config["seed"])
    own = corpus_rows(config["corpus_weight"])
    rows = own + third_party_rows(options.data / "tickets_mapped.jsonl.gz", config, rng)
    rows += wanted_mail(options.data, config["wanted_mail"], rng)
    rows = [row for row in rows if row.language == "en"]  # the sources are English
    pieces, pairs, table = the_table(options, config, own)
    texts = [row.text for row in rows]
    counts = count_buckets(texts, config["bits"])
    vocabulary = Vocabulary(pieces, pairs, lexicons())
    ours = Halves(
        weighed(counts, inverse_frequencies(counts)),
        embeddings_of(vocabulary, quantise_rows(table), texts, [row.language for row in rows]),
        languages_of(rows, config["languages"]),
    )
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit_transform(texts)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=3)
    theirs = hstack([words, characters.fit_transform(texts)]).tocsr()
    tasks = tasks_of(rows, config)
    category = tasks["category"][0]
    spam = next(task for task in tasks["signals"] if task.name == "spam")
    sources = np.array([row.source for row in rows])

    print(f"{len(rows)} English rows\n{'source':20}{'rows':>7}{'hybrid.v1':>11}{'TF-IDF':>9}{'halves agree':>14}")
    figures, left_out = [], []
    for source in sorted(set(sources.tolist()) - {OWN}):
        out = sources == source
        if all(
            row.spam is not None and row.category in (None, "Other")
            for row, here in zip(rows, out, strict=True)
            if here
        ) and any(row.spam for row, here in zip(rows, out, strict=True) if here):
            mine, other = _spam(rows, out, spam, ours, theirs, config)
            figures.append((mine, other))
            print(f"{source:20}{out.sum():7}{mine:11.3f}{other:9.3f}   (spam head)", flush=True)
            continue
        inside, asked = category.rows[~out[category.rows]], category.rows[out[category.rows]]
        kept = ~out[category.rows]
        fitted = fit(ours[inside], category.answers[kept], category.weights[kept], config["heads"]["category"])
        spelled, meant = fitted.halves(ours[asked])
        baseline = LogisticRegression(C=BASELINE_C, max_iter=150, tol=1e-3)
        baseline.fit(theirs[inside], category.answers[kept], sample_weight=category.weights[kept])
        answers = category.answers[~kept]
        scores = fitted.scores(ours[asked])
        other_scores = baseline.decision_function(theirs[asked])
        left_out.append((source, spelled, meant, scores, other_scores, answers))
        mine = float((scores.argmax(axis=1) == answers).mean())
        other = float((other_scores.argmax(axis=1) == answers).mean())
        agree = float((spelled.argmax(axis=1) == meant.argmax(axis=1)).mean())
        figures.append((mine, other))
        print(f"{source:20}{len(asked):7}{mine:11.3f}{other:9.3f}{agree:14.2f}", flush=True)
    mean = np.mean(figures, axis=0)
    print(f"{'mean over sources':20}{'':7}{mean[0]:11.4f}{mean[1]:9.4f}   difference {mean[0] - mean[1]:+.4f}")
    _calibration(left_out)


def _spam(
    rows: list[Row], out: NDArray[np.bool_], task: Any, ours: Halves, theirs: Any, config: dict[str, Any]
) -> tuple[float, float]:
    kept = ~out[task.rows]
    inside, asked = task.rows[kept], task.rows[~kept]
    fitted = fit(ours[inside], task.answers[kept], task.weights[kept], config["heads"]["signals"])
    baseline = LogisticRegression(C=BASELINE_C, max_iter=150, tol=1e-3)
    baseline.fit(theirs[inside], task.answers[kept], sample_weight=task.weights[kept])
    truth = task.answers[~kept] == 1
    found = []
    for scores in (fitted.scores(ours[asked])[:, 0], baseline.decision_function(theirs[asked])):
        caught = float((scores[truth] > 0).mean())
        found.append((caught + float((scores[~truth] <= 0).mean())) / 2 if (~truth).any() else caught)
    return found[0], found[1]


def _calibration(left_out: list[Any]) -> None:
    """Temperatures for each source are fitted on the others."""
    errors, others = [], []
    for source, *_ in left_out:
        rest = [entry for entry in left_out if entry[0] != source]
        groups = np.concatenate([[entry[0]] * len(entry[5]) for entry in rest])
        joined = [np.concatenate([entry[part] for entry in rest]) for part in (1, 2, 3, 4, 5)]
        calm, doubtful, _ = temperatures(joined[0], joined[1], joined[2], joined[4], groups)
        weights = np.array([1.0 / (groups == group).sum() for group in groups])
        plain = fit_temperature(joined[3], joined[4], weights=weights)
        _, spelled, meant, scores, other_scores, answers = next(entry for entry in left_out if entry[0] == source)
        agree = spelled.argmax(axis=1) == meant.argmax(axis=1)
        errors.append(expected_calibration_error(softmax(scores / np.where(agree, calm, doubtful)[:, None]), answers))
        others.append(expected_calibration_error(softmax(other_scores / plain), answers))
    print("expected calibration error of each source, with temperatures fitted on the other sources:")
    for (source, *_), mine, other in zip(left_out, errors, others, strict=True):
        print(f"{source:20}{'':7}{mine:11.3f}{other:9.3f}")
    print(f"{'mean over sources':20}{'':7}{np.mean(errors):11.3f}{np.mean(others):9.3f}")


if __name__ == "__main__":
    main()

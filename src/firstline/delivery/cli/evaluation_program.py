"""`firstline eval`: judge model and rules."""

from pathlib import Path
from typing import Annotated, Any

import typer

from firstline.delivery.cli.formats import Format
from firstline.delivery.cli.options import Quiet, RulesDir, flag, group


class _FileFirst(Quiet):
    """Understands what begins with no command of its own as the arguments of its command `file`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["file", *args]
        return super().parse_args(ctx, args)


evaluation = group(
    "Judge model and rules: on your own labelled FILE (firstline eval FILE), or on a public benchmark.", cls=_FileFirst
)


@evaluation.command("file")
def evaluate_file(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Labelled rows, CSV or JSON Lines; - reads standard input.", show_default=False
        ),
    ],
    format: Annotated[  # noqa: A002  # the flag's name
        Format | None, flag("csv or jsonl; by FILE's suffix, else by its first line.", metavar="FORMAT")
    ] = None,
    text_column: Annotated[str, typer.Option(metavar="NAME", help="Column or field that holds the text.")] = "text",
    label_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column or field that holds the right category.")
    ] = "category",
    language_column: Annotated[
        str | None,
        flag("Column of the language; language or lang by default, else as detected.", metavar="NAME"),
    ] = None,
    map_label: Annotated[
        list[str] | None,
        flag("What a label of the file means; can be given often.", metavar="LABEL=CATEGORY", name="--map"),
    ] = None,
    categories: Annotated[
        Path | None, flag("Judge your own categories: JSON as PUT /v1/categories takes it.", metavar="FILE")
    ] = None,
    json: Annotated[Path | None, flag("Write all figures to this file.", metavar="FILE")] = None,
    svg: Annotated[
        Path | None, flag("Write reliability.svg and risk-coverage.svg to this folder.", metavar="DIR")
    ] = None,
    show_text: Annotated[bool, typer.Option("--show-text", help="Quote the rows with the surest errors.")] = False,
    rules_dir: RulesDir = None,
) -> None:
    """Judge model and rules on a labelled file.

    Accuracy, precision, recall and F1 by category and language, how far the probabilities can be believed, and what
    answering only the surest rows would give. Rows with a signals column (a list, or names with ; between them)
    judge the rules and the whole verdict too. No server is needed, nothing is stored, no text is shown unless asked.
    """
    from firstline.delivery.cli.evaluate import EvalTask, evaluate_file
    from firstline.delivery.cli.labelled import Columns, parse_mapping

    columns = Columns(text_column, label_column, language_column, parse_mapping(map_label or ()))
    task = EvalTask(
        file,
        columns,
        format=format,
        categories=categories,
        json=json,
        svg=svg,
        show_text=show_text,
        rules_dir=rules_dir,
    )
    raise typer.Exit(evaluate_file(task))


@evaluation.command("benchmark")
def run_benchmark(
    name: Annotated[str, typer.Argument(metavar="NAME", help="banking77 or clinc150.", show_default=False)],
    data: Annotated[Path, flag("Folder that holds NAME.jsonl.gz with the official splits.", metavar="DIR")],
) -> None:
    """Train the shipped recipe on a public benchmark and judge it, beside TF-IDF and logistic regression.

    Five seeds, some ten minutes. Needs a checkout and its training environment (make .venv/.train).
    """
    from firstline.delivery.cli.benchmark import run_benchmark

    run_benchmark(name, data=data)

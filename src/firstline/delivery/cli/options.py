"""The groups of commands, and the options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from firstline.core.taxonomy import Channel, UserPlan
from firstline.delivery.cli.formats import Format, Output
from firstline.delivery.cli.terminal import CLOSED_PIPE


class Engine(StrEnum):
    """Who decides on the rows of a large file."""

    LOCAL = "local"
    RAY = "ray"


class Quiet(TyperGroup):
    """Ends with the usual exit code of a closed pipe, where Typer would end with 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(CLOSED_PIPE) from None


def group(about: str, *, cls: type[TyperGroup] = Quiet) -> typer.Typer:
    """Commands under one name."""
    return typer.Typer(
        help=about,
        cls=cls,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def flag(help: str, *, metavar: str | None = None, name: str | None = None) -> Any:  # noqa: A002  # Typer's name
    """An option whose default is not shown."""
    names = [name] if name else []
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


DataDir = Annotated[
    Path | None,
    flag("Folder of the database; FIRSTLINE_DATA_DIR or var by default.", metavar="DIR", name="--data-dir"),
]
RulesDir = Annotated[
    Path | None,
    flag("Folder of your own rule packs; FIRSTLINE_RULES_DIR by default.", metavar="DIR", name="--rules-dir"),
]
File = Annotated[str, typer.Argument(metavar="FILE", help="The messages; - reads standard input.", show_default=False)]
InputFormat = Annotated[
    Format | None,
    flag("txt, csv, jsonl or parquet; by FILE's suffix, else by its beginning.", metavar="FORMAT", name="--format"),
]
Column = Annotated[
    str | None,
    flag(
        "Column or field that holds the text; text, ticket, message or body by default, the first found.",
        metavar="NAME",
        name="--column",
    ),
]
OutputFormat = Annotated[
    Output | None,
    flag(
        "table, jsonl, csv or parquet; by --out's suffix; else a table on a terminal, or jsonl.",
        metavar="FORMAT",
        name="--output",
    ),
]
OutFile = Annotated[Path | None, flag("Write to this file instead.", metavar="FILE", name="--out")]
Delimiter = Annotated[
    str | None,
    flag("What separates the columns of CSV: one sign, or tab; by its header by default.", metavar="SIGN"),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        metavar="N",
        help="Processes that decide, with --out; one per core by default.",
        show_default=False,
    ),
]
BulkEngine = Annotated[
    Engine,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="local, or ray for many machines, with --out; processes of this machine by default.",
        show_default=False,
    ),
]
Keep = Annotated[
    str | None,
    flag("Columns of FILE that the output has too, with --out.", metavar="NAME,NAME", name="--keep"),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an unfinished run with the same --out is complete.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file that --out names.")]
Progress = Annotated[
    bool, typer.Option("--progress", help="Say how far it is, even when standard error is no terminal.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
WriterPlan = Annotated[
    UserPlan, typer.Option("--plan", metavar="PLAN", help="The writer's plan: free, pro or enterprise.")
]
WriterChannel = Annotated[
    Channel,
    typer.Option("--channel", metavar="CHANNEL", help="Where it was written: email, chat, review or social."),
]

"""The commands, their arguments and what every one of them does about mistakes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from firstline.core.taxonomy import Channel, Contract, UserPlan
from firstline.delivery.cli.dev import dev
from firstline.delivery.cli.formats import Format, Output
from firstline.delivery.cli.terminal import CLOSED_PIPE, INTERRUPTED, MISTAKE, Mistake, say

if TYPE_CHECKING:
    from firstline.delivery.cli.triage import Task

NAME: Final = "firstline"


class _Quiet(TyperGroup):
    """Ends with the usual exit code of a closed pipe, where Typer would end with 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(CLOSED_PIPE) from None


class _FileFirst(_Quiet):
    """Understands what begins with no command of its own as the arguments of its command `file`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["file", *args]
        return super().parse_args(ctx, args)


def _group(about: str, *, cls: type[TyperGroup] = _Quiet) -> typer.Typer:
    return typer.Typer(
        help=about,
        cls=cls,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


program = _group("Triage for customer messages: category, priority, decision and why.")
keys = _group("Create, list and revoke API keys; the server may run meanwhile.")
rules = _group("Try rules on a text, and check your own packs.")
database = _group("The database.")
evaluation = _group(
    "Judge model and rules: on your own labelled FILE (firstline eval FILE), or on a public benchmark.", cls=_FileFirst
)
program.add_typer(keys, name="keys")
program.add_typer(rules, name="rules")
program.add_typer(database, name="db")
program.add_typer(evaluation, name="eval")
program.add_typer(dev, name="dev")


def _flag(help: str, *, metavar: str | None = None, name: str | None = None) -> Any:  # noqa: A002  # Typer's name
    names = [name] if name else []
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


DataDir = Annotated[
    Path | None,
    _flag("Folder of the database; FIRSTLINE_DATA_DIR or var by default.", metavar="DIR", name="--data-dir"),
]
RulesDir = Annotated[
    Path | None,
    _flag("Folder of your own rule packs; FIRSTLINE_RULES_DIR by default.", metavar="DIR", name="--rules-dir"),
]
File = Annotated[str, typer.Argument(metavar="FILE", help="The messages; - reads standard input.", show_default=False)]
InputFormat = Annotated[
    Format | None,
    _flag("txt, csv, jsonl or parquet; by FILE's suffix, else by its beginning.", metavar="FORMAT", name="--format"),
]
Column = Annotated[
    str | None,
    _flag(
        "Column or field that holds the text; text, ticket, message or body by default, the first found.",
        metavar="NAME",
        name="--column",
    ),
]
OutputFormat = Annotated[
    Output | None,
    _flag(
        "table, jsonl, csv or parquet; by --out's suffix; else a table on a terminal, or jsonl.",
        metavar="FORMAT",
        name="--output",
    ),
]
OutFile = Annotated[Path | None, _flag("Write to this file instead.", metavar="FILE", name="--out")]
Delimiter = Annotated[
    str | None,
    _flag("What separates the columns of CSV: one sign, or tab; by its header by default.", metavar="SIGN"),
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
Keep = Annotated[
    str | None,
    _flag("Columns of FILE that the output has too, with --out.", metavar="NAME,NAME", name="--keep"),
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


def run_program(arguments: list[str]) -> int:
    """Run a command; the exit code. Every mistake has been said in one sentence."""
    try:
        code = program(arguments or ["--help"], standalone_mode=False, prog_name=NAME)
    except typer.TyperException as error:
        return _usage_mistake(error)
    except typer.Abort:
        return INTERRUPTED
    except Mistake as error:
        say(f"{NAME}: {error}")
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # what the world did gets a sentence; a bug is raised again
        sentence = _known_failure(error)
        if sentence is None:
            raise
        say(f"{NAME}: {sentence}")
        return MISTAKE
    return code if isinstance(code, int) else 0


def _usage_mistake(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else NAME
    sentence = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
    say(f"{command}: {sentence}. See '{command} --help'.")
    return MISTAKE


def _known_failure(error: Exception) -> str | None:
    """The sentence of a failure that is said to people, or None. Imported only now: these modules are heavy."""
    from firstline.bootstrap import CannotStart
    from firstline.ports.storage import StorageUnavailable
    from firstline.settings import SettingsInvalid

    if isinstance(error, CannotStart | SettingsInvalid):
        return str(error)
    if isinstance(error, StorageUnavailable):
        return f"The database cannot be used: {error}."
    return None


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@program.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@program.command()
def serve(
    host: Annotated[
        str | None, _flag("Address to listen on; FIRSTLINE_HOST or 127.0.0.1 by default.", metavar="ADDRESS")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            metavar="PORT",
            help="Port, or 0 for a free one; FIRSTLINE_PORT or 8000 by default.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    workers: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Processes, 1 by default; more need PostgreSQL.", show_default=False),
    ] = 1,
    no_history: Annotated[bool, typer.Option("--no-history", help="Store no tickets and verdicts.")] = False,
    no_text: Annotated[bool, typer.Option("--no-text", help="Store verdicts without the text.")] = False,
) -> None:
    """Serve both HTTP contracts.

    The database is made and upgraded by itself.
    """
    from firstline.delivery.cli.serve import serve

    serve(host=host, port=port, data_dir=data_dir, workers=workers, no_history=no_history, no_text=no_text)


@program.command()
def worker(
    data_dir: DataDir = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes that decide; one per core by default.", show_default=False),
    ] = None,
) -> None:
    """Work on jobs, beside the server that takes them in.

    It needs the same database and the same folder as the server, which works on jobs itself unless
    FIRSTLINE_JOB_PROCESSES=0.
    """
    from firstline.delivery.cli.worker import work

    work(data_dir=data_dir, processes=processes)


@program.command()
def classify(
    file: File,
    format: InputFormat = None,  # noqa: A002  # the flag's name
    column: Column = None,
    output: OutputFormat = None,
    out: OutFile = None,
    delimiter: Delimiter = None,
    keep: Keep = None,
    processes: Processes = None,
    resume: Resume = False,
    force: Force = False,
    progress: Progress = False,
    rules_dir: RulesDir = None,
) -> None:
    """Classify a file of messages: category, priority and why.

    No server is needed and nothing is stored.

    Reads one message per line (txt), CSV with a header, JSON Lines, or Parquet. A row that cannot be read is reported
    and does not stop the rest; the exit code is then 1. With --out, a FILE of any size is worked on by all cores, and
    a run that was stopped goes on with --resume.
    """
    from firstline.delivery.cli.triage import Task

    task = Task(
        file,
        Contract.CLASSIFIER,
        format=format,
        column=column,
        delimiter=_sign(delimiter),
        output=output,
        out=out,
        rules_dir=rules_dir,
    )
    _answer(task, keep=keep, processes=processes, resume=resume, force=force, progress=progress)


@program.command()
def decide(
    file: File,
    format: InputFormat = None,  # noqa: A002  # the flag's name
    column: Column = None,
    plan: WriterPlan = UserPlan.FREE,
    channel: WriterChannel = Channel.EMAIL,
    output: OutputFormat = None,
    out: OutFile = None,
    delimiter: Delimiter = None,
    keep: Keep = None,
    processes: Processes = None,
    resume: Resume = False,
    force: Force = False,
    progress: Progress = False,
    rules_dir: RulesDir = None,
) -> None:
    """Decide what to do with a file of messages.

    Answers the decision, its priority, the churn risk and the next step. No server is needed, nothing is stored.

    Reads what classify reads; rows of CSV and JSON Lines may have user_plan, channel and history (a JSON list, or
    one earlier message per line); --plan and --channel are for rows that have none.
    """
    from firstline.delivery.cli.triage import Task

    task = Task(
        file,
        Contract.DECISION,
        format=format,
        column=column,
        delimiter=_sign(delimiter),
        output=output,
        out=out,
        rules_dir=rules_dir,
        plan=plan,
        channel=channel,
    )
    _answer(task, keep=keep, processes=processes, resume=resume, force=force, progress=progress)


def _answer(
    task: "Task", *, keep: str | None, processes: int | None, resume: bool, force: bool, progress: bool
) -> None:
    """Answer a file in a file by the bulk path, everything else row by row as it comes."""
    from firstline.delivery.cli.bulk import BulkOptions, is_bulk, triage_bulk
    from firstline.delivery.cli.triage import triage_file

    if is_bulk(task):
        names = tuple(dict.fromkeys(name.strip() for name in (keep or "").split(",") if name.strip()))
        raise typer.Exit(triage_bulk(task, BulkOptions(processes, names, resume, force, progress)))
    if keep is not None or processes is not None or resume or force or progress:
        raise Mistake("--keep, --processes, --resume, --force and --progress need a FILE and --out.")
    raise typer.Exit(triage_file(task))


def _sign(delimiter: str | None) -> str | None:
    """What separates columns, as the reader wants it."""
    sign = "\t" if delimiter in {"tab", "\\t"} else delimiter
    if sign is not None and (len(sign) != 1 or sign in '"\r\n'):
        raise Mistake("--delimiter takes one sign, or tab.")
    return sign


@evaluation.command("file")
def evaluate_file(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Labelled rows, CSV or JSON Lines; - reads standard input.", show_default=False
        ),
    ],
    format: Annotated[  # noqa: A002  # the flag's name
        Format | None, _flag("csv or jsonl; by FILE's suffix, else by its first line.", metavar="FORMAT")
    ] = None,
    text_column: Annotated[str, typer.Option(metavar="NAME", help="Column or field that holds the text.")] = "text",
    label_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column or field that holds the right category.")
    ] = "category",
    language_column: Annotated[
        str | None,
        _flag("Column of the language; language or lang by default, else as detected.", metavar="NAME"),
    ] = None,
    map_label: Annotated[
        list[str] | None,
        _flag("What a label of the file means; can be given often.", metavar="LABEL=CATEGORY", name="--map"),
    ] = None,
    categories: Annotated[
        Path | None, _flag("Judge your own categories: JSON as PUT /v1/categories takes it.", metavar="FILE")
    ] = None,
    json: Annotated[Path | None, _flag("Write all figures to this file.", metavar="FILE")] = None,
    svg: Annotated[
        Path | None, _flag("Write reliability.svg and risk-coverage.svg to this folder.", metavar="DIR")
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
    data: Annotated[Path, _flag("Folder that holds NAME.jsonl.gz with the official splits.", metavar="DIR")],
) -> None:
    """Train the shipped recipe on a public benchmark and judge it, beside TF-IDF and logistic regression.

    Five seeds, some ten minutes. Needs a checkout and its training environment (make .venv/.train).
    """
    from firstline.delivery.cli.benchmark import run_benchmark

    run_benchmark(name, data=data)


@keys.command("create")
def create_key(
    email: Annotated[str, _flag("Whose account; made if there is none.", metavar="ADDRESS")],
    plan: Annotated[
        str | None,
        _flag("Plan to move the account to: free, starter, professional or enterprise.", metavar="PLAN"),
    ] = None,
    catalogue: Annotated[
        Contract, typer.Option(metavar="NAME", help="What the plan is for: classifier or decision.")
    ] = Contract.CLASSIFIER,
    name: Annotated[str, typer.Option(metavar="NAME", help="What you call the key.")] = "default",
    operator: Annotated[bool, typer.Option("--operator", help="A key that may create keys and paid accounts.")] = False,
    test: Annotated[bool, typer.Option("--test", help="A test key (decision catalogue).")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Create a key and print it, this once.

    KEY=$(firstline keys create --email you@example.com)
    """
    from firstline.delivery.cli.keys import NewKeyWish, create_key

    wish = NewKeyWish(email, plan, catalogue=catalogue, name=name, operator=operator, test=test)
    create_key(wish, as_json=as_json, data_dir=data_dir)


@keys.command("list")
def list_keys(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List all keys, oldest first; never their secrets."""
    from firstline.delivery.cli.keys import list_keys

    list_keys(as_json=as_json, data_dir=data_dir)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As keys list shows it: key_…", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Revoke a key for good; a running server refuses it within a second."""
    from firstline.delivery.cli.keys import revoke_key

    revoke_key(key_id, data_dir=data_dir)


@rules.command("test")
def try_rules(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A message.", show_default=False)],
    plan: WriterPlan = UserPlan.FREE,
    channel: WriterChannel = Channel.EMAIL,
    history: Annotated[int, typer.Option(min=0, max=50, metavar="N", help="Number of earlier messages.")] = 0,
    rules_dir: RulesDir = None,
    as_json: AsJson = False,
) -> None:
    """Show which rules match a text, where, why, and what they do to the verdict."""
    from firstline.delivery.cli.rule_trial import try_rules

    try_rules(text, plan=plan, channel=channel, history=history, rules_dir=rules_dir, as_json=as_json)


@rules.command("check")
def check_rules(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of rule packs.", show_default=False)],
) -> None:
    """Check your own rule packs; every mistake with file and line."""
    from firstline.delivery.cli.rule_check import check_rules

    raise typer.Exit(check_rules(folder))


@database.command("upgrade")
def upgrade_database(data_dir: DataDir = None) -> None:
    """Bring the database to this version's schema, after copying it; serve does this by itself."""
    from firstline.delivery.cli.database import upgrade_database

    upgrade_database(data_dir=data_dir)


@program.command("settings")
def show_settings(as_json: AsJson = False) -> None:
    """Show every setting: value, meaning, where it is from.

    Secrets are masked.
    """
    from firstline.delivery.cli.settings_list import show_settings

    show_settings(as_json=as_json)


@program.command()
def version() -> None:
    """Show the version."""
    import platform

    from firstline import __version__

    sys.stdout.write(f"{NAME} {__version__} (Python {platform.python_version()})\n")

"""The commands, their arguments and what every one of them does about mistakes."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from firstline.core.taxonomy import Channel, Contract, UserPlan
from firstline.delivery.cli.formats import Format, Output
from firstline.delivery.cli.terminal import CLOSED_PIPE, INTERRUPTED, MISTAKE, Mistake, say

NAME: Final = "firstline"


class _Quiet(TyperGroup):
    """Ends with the usual exit code of a closed pipe, where Typer would end with 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(CLOSED_PIPE) from None


def _group(about: str) -> typer.Typer:
    return typer.Typer(
        help=about,
        cls=_Quiet,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


program = _group("Triage for customer messages: category, priority, decision and why.")
keys = _group("Create, list and revoke API keys; the server may run meanwhile.")
rules = _group("Try rules on a text, and check your own packs.")
database = _group("The database.")
program.add_typer(keys, name="keys")
program.add_typer(rules, name="rules")
program.add_typer(database, name="db")


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
    _flag("txt, csv or jsonl; by FILE's suffix, else by its first line.", metavar="FORMAT", name="--format"),
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
    _flag("table, jsonl or csv; a table on a terminal, else jsonl.", metavar="FORMAT", name="--output"),
]
OutFile = Annotated[Path | None, _flag("Write to this file instead.", metavar="FILE", name="--out")]
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
def classify(
    file: File,
    format: InputFormat = None,  # noqa: A002  # the flag's name
    column: Column = None,
    output: OutputFormat = None,
    out: OutFile = None,
    rules_dir: RulesDir = None,
) -> None:
    """Classify a file of messages: category, priority and why.

    No server is needed and nothing is stored.

    Reads one message per line (txt), CSV with a header, or JSON Lines. A row that cannot be read is reported with
    its line and does not stop the rest; the exit code is then 1.
    """
    from firstline.delivery.cli.triage import Task, triage_file

    task = Task(file, Contract.CLASSIFIER, format=format, column=column, output=output, out=out, rules_dir=rules_dir)
    raise typer.Exit(triage_file(task))


@program.command()
def decide(
    file: File,
    format: InputFormat = None,  # noqa: A002  # the flag's name
    column: Column = None,
    plan: WriterPlan = UserPlan.FREE,
    channel: WriterChannel = Channel.EMAIL,
    output: OutputFormat = None,
    out: OutFile = None,
    rules_dir: RulesDir = None,
) -> None:
    """Decide what to do with a file of messages.

    Answers the decision, its priority, the churn risk and the next step. No server is needed, nothing is stored.

    Reads what classify reads; rows of CSV and JSON Lines may have user_plan, channel and history (a JSON list, or
    one earlier message per line); --plan and --channel are for rows that have none.
    """
    from firstline.delivery.cli.triage import Task, triage_file

    task = Task(
        file,
        Contract.DECISION,
        format=format,
        column=column,
        output=output,
        out=out,
        rules_dir=rules_dir,
        plan=plan,
        channel=channel,
    )
    raise typer.Exit(triage_file(task))


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

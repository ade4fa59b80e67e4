"""The commands, their arguments and what every one of them does about mistakes."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from firstline.core.taxonomy import Channel, Contract, UserPlan
from firstline.delivery.cli.backup_program import backup, restore
from firstline.delivery.cli.dev import dev
from firstline.delivery.cli.evaluation_program import evaluation
from firstline.delivery.cli.operator_program import database, keys, rules
from firstline.delivery.cli.options import (
    AsJson,
    BulkEngine,
    Column,
    DataDir,
    Delimiter,
    Engine,
    File,
    Force,
    InputFormat,
    Keep,
    OutFile,
    OutputFormat,
    Processes,
    Progress,
    Resume,
    RulesDir,
    WriterChannel,
    WriterPlan,
    flag,
    group,
)
from firstline.delivery.cli.terminal import INTERRUPTED, MISTAKE, Mistake, say

if TYPE_CHECKING:
    from firstline.delivery.cli.triage import Task

NAME: Final = "firstline"


program = group("Triage for customer messages: category, priority, decision and why.")
program.add_typer(keys, name="keys")
program.add_typer(rules, name="rules")
program.add_typer(database, name="db")
program.add_typer(evaluation, name="eval")
program.add_typer(dev, name="dev")
program.add_typer(backup, name="backup")
program.command("restore")(restore)


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
    from firstline.bootstrap_stores import CannotStart
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
        str | None, flag("Address to listen on; FIRSTLINE_HOST or 127.0.0.1 by default.", metavar="ADDRESS")
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
        typer.Option(
            min=1,
            metavar="N",
            help="Always 1: a server is one process. Start several servers on PostgreSQL.",
            show_default=False,
        ),
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
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            metavar="PORT",
            help="Answer /metrics and /health/live on this port, 0 for a free one; FIRSTLINE_WORKER_PORT by default.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Work on jobs, beside the server that takes them in.

    It needs the same database and the same folder as the server, which works on jobs itself unless
    FIRSTLINE_JOB_PROCESSES=0.
    """
    from firstline.delivery.cli.worker import work

    work(data_dir=data_dir, processes=processes, metrics_port=metrics_port)


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
    engine: BulkEngine = Engine.LOCAL,
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
    _answer(task, keep=keep, processes=processes, engine=engine, resume=resume, force=force, progress=progress)


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
    engine: BulkEngine = Engine.LOCAL,
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
    _answer(task, keep=keep, processes=processes, engine=engine, resume=resume, force=force, progress=progress)


def _answer(
    task: "Task",
    *,
    keep: str | None,
    processes: int | None,
    engine: Engine,
    resume: bool,
    force: bool,
    progress: bool,
) -> None:
    """Answer a file in a file by the bulk path, everything else row by row as it comes."""
    from firstline.delivery.cli.bulk import BulkOptions, is_bulk, triage_bulk
    from firstline.delivery.cli.triage import triage_file

    if is_bulk(task):
        names = tuple(dict.fromkeys(name.strip() for name in (keep or "").split(",") if name.strip()))
        raise typer.Exit(triage_bulk(task, BulkOptions(processes, names, resume, force, progress, engine)))
    if keep is not None or processes is not None or engine is not Engine.LOCAL or resume or force or progress:
        raise Mistake("--keep, --processes, --engine, --resume, --force and --progress need a FILE and --out.")
    raise typer.Exit(triage_file(task))


def _sign(delimiter: str | None) -> str | None:
    """What separates columns, as the reader wants it."""
    sign = "\t" if delimiter in {"tab", "\\t"} else delimiter
    if sign is not None and (len(sign) != 1 or sign in '"\r\n'):
        raise Mistake("--delimiter takes one sign, or tab.")
    return sign


@program.command()
def health(
    url: Annotated[
        str | None, flag("Address of the server; by default the one of the settings.", metavar="URL")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask only if the process answers, and not if it should get traffic.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=60, metavar="SECONDS", help="How long each step of the answer may take.")
    ] = 5,
) -> None:
    """Say whether a server is ready; the exit code is 1 when it is not.

    For health checks of containers, and for people.
    """
    from firstline.delivery.cli.health import check_health

    raise typer.Exit(check_health(url=url, live=live, timeout_s=timeout))


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

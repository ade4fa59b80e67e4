"""`firstline keys`, `rules` and `db`: what an operator does beside the server."""

from pathlib import Path
from typing import Annotated

import typer

from firstline.core.taxonomy import Channel, Contract, UserPlan
from firstline.delivery.cli.options import AsJson, DataDir, RulesDir, WriterChannel, WriterPlan, flag, group

keys = group("Create, list and revoke API keys; the server may run meanwhile.")
rules = group("Try rules on a text, and check your own packs.")
database = group("The database.")


@keys.command("create")
def create_key(
    email: Annotated[str, flag("Whose account; made if there is none.", metavar="ADDRESS")],
    plan: Annotated[
        str | None,
        flag("Plan to move the account to: free, starter, professional or enterprise.", metavar="PLAN"),
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

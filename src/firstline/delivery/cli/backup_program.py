"""`firstline backup` and `firstline restore`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from firstline.delivery.cli.options import AsJson, DataDir, Progress, Quiet, group


class _MakeFirst(Quiet):
    """Understands what begins with no command of its own as the arguments of its command `make`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            args = ["make", *args]
        return super().parse_args(ctx, args)


backup = group(
    "Make one file of everything that is stored (firstline backup DEST), while the server runs; or check one.",
    cls=_MakeFirst,
)


@backup.command("make")
def make_backup(
    target: Annotated[
        str,
        typer.Argument(
            metavar="DEST", help="The file to make, or a folder, in which it is called by the time.", show_default=False
        ),
    ],
    no_jobs: Annotated[bool, typer.Option("--no-jobs", help="Leave out the rows and answers of jobs.")] = False,
    with_secret_key: Annotated[
        bool, typer.Option("--with-secret-key", help="Put in secret.key; then guard the file like the key.")
    ] = False,
    progress: Progress = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a backup and print its path; `firstline backup DEST` is the same.

    It is consistent, checked, and has its name only once it is whole. The server may run meanwhile.
    """
    from firstline.delivery.cli.backup import back_up

    raise typer.Exit(
        back_up(
            target,
            jobs=not no_jobs,
            secret_key=with_secret_key,
            progress=progress,
            as_json=as_json,
            data_dir=data_dir,
        )
    )


@backup.command("verify")
def verify_backup(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Backups.", show_default=False)],
    progress: Progress = False,
    as_json: AsJson = False,
) -> None:
    """Read backups wholly and compare them with their hashes; writes nothing."""
    from firstline.delivery.cli.backup import verify

    raise typer.Exit(verify(files, progress=progress, as_json=as_json))


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Move aside what is there; nothing is deleted.")] = False,
    no_webhooks: Annotated[
        bool, typer.Option("--no-webhooks", help="Disable every webhook, so that a restore to try out sends nothing.")
    ] = False,
    progress: Progress = False,
    data_dir: DataDir = None,
) -> None:
    """Put a backup into an empty data folder or database, of either kind; the server must be stopped.

    The whole file is checked before anything is written. It is done, or nothing has happened.
    """
    from firstline.delivery.cli.restore import restore

    restore(source, force=force, webhooks=not no_webhooks, progress=progress, data_dir=data_dir)

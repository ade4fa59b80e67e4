"""Runs an image as a container runtime does, with what a Linux machine has: namespaces, a read-only root, no root user.

`buildah run` has no read-only root where no OCI runtime is installed, so the mounts are made here: the image read-only,
`/proc`, four devices and `/dev/shm` as Docker gives them, and the volumes. Nothing else can be written to. Command,
environment and user are those of the image. Needs root.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

WAIT_S: Final = 120

_ENTER: Final = """
set -eu
mount --make-rprivate /
mount --bind "$IMAGE" "$ROOT"
mount -o remount,bind,ro "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=755 devices "$ROOT/dev"
mknod -m 666 "$ROOT/dev/null" c 1 3
mknod -m 666 "$ROOT/dev/zero" c 1 5
mknod -m 666 "$ROOT/dev/random" c 1 8
mknod -m 666 "$ROOT/dev/urandom" c 1 9
mkdir -m 1777 "$ROOT/dev/shm"
mount -t tmpfs -o mode=1777 shared "$ROOT/dev/shm"
for volume in data spool; do mount --bind "$VOLUMES/$volume" "$ROOT/$volume"; done
exec env -i "$@"
"""


@dataclass(frozen=True)
class Container:
    """An image's file system with two volumes; commands run in namespaces of their own, as in containers.

    Attributes:
        root: where the image is mounted on this machine.
        config: what the image says about itself.
        folder: holds the volumes and the mount points.
    """

    root: Path
    config: Mapping[str, Any]
    folder: Path
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def data(self) -> Path:
        """The volume for data."""
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        """The image's environment."""
        return dict(entry.split("=", 1) for entry in self.config["Env"])

    def start(self, *command: str, log: Path | None = None, **variables: str) -> "subprocess.Popen[str]":
        """Start the image's entry point with a command, its own by default; standard error goes to a file."""
        return self._enter([*self.config["Entrypoint"], *(command or self.config["Cmd"])], log, variables)

    def run(self, *command: str, entry: bool = True, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, after the entry point or in place of it."""
        words = [*self.config["Entrypoint"], *command] if entry else list(command)
        process = self._enter(words, None, variables)
        out, err = process.communicate(timeout=WAIT_S)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def _enter(self, words: list[str], log: Path | None, variables: Mapping[str, str]) -> "subprocess.Popen[str]":
        place = self.folder / f"root-{len(self.started)}"
        place.mkdir()
        values = [f"{name}={value}" for name, value in {**self.environment, **variables}.items()]
        spaces = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--"]
        inside = ["chroot", f"--userspec={self.config['User']}", "--groups=", str(place), *words]
        with ExitStack() as files:
            process = subprocess.Popen(
                [*spaces, "sh", "-c", _ENTER, "sh", *values, *inside],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if log is None else files.enter_context(log.open("w")),
                text=True,
                env={**os.environ, "IMAGE": str(self.root), "ROOT": str(place), "VOLUMES": str(self.folder)},
            )
        self.started.append(process)
        return process


def first_process(process: "subprocess.Popen[str]") -> int:
    """The number that a container's first process has on this machine."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])


def stop(process: "subprocess.Popen[str]") -> int:
    """Ask a container's first process to stop, as `docker stop` does; the exit code."""
    os.kill(first_process(process), signal.SIGTERM)
    return process.wait(WAIT_S)


def kill(process: "subprocess.Popen[str]") -> None:
    """End a container at once: with its first process ends every other."""
    os.kill(first_process(process), signal.SIGKILL)
    process.wait(WAIT_S)


def buildah(*arguments: str) -> str:
    """Run buildah; what it printed."""
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def container(image: str, folder: Path) -> Iterator[Container]:
    """A container from an image, with empty volumes that belong to the image's user as named volumes do."""
    config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
    user, group = (int(part) for part in config["User"].split(":"))
    for volume in ("data", "spool"):
        (folder / volume).mkdir(mode=0o700)
        shutil.chown(folder / volume, user, group)
    name = buildah("from", "--pull-never", image)
    made = Container(Path(buildah("mount", name)), config, folder)
    try:
        yield made
    finally:
        for process in made.started:
            if process.poll() is None:
                kill(process)
            process.communicate()
        buildah("rm", name)

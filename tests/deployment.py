"""The deployment files as a platform reads them: compose.yaml with its variables, and what kustomize renders."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from firstline.secret_files import SUFFIX
from firstline.settings import secret_names, variable_names
from services import missing

ROOT: Final = Path(__file__).parents[1]
DEPLOY: Final = ROOT / "deploy"
SETTINGS: Final = frozenset(name for names in variable_names().values() for name in names)
SECRETS: Final = frozenset(name for names in secret_names().values() for name in names)
READ: Final = SETTINGS | {name + SUFFIX for name in SECRETS}
"""Every variable that firstline reads."""

Manifest = dict[str, Any]

_VARIABLE: Final = re.compile(r"\$\{(?P<name>[A-Z_]+)(?:(?P<how>:[-?])(?P<what>[^}]*))?\}")
_PROGRAM_S: Final = 60


class Refused(Exception):
    """What compose says where a variable is missing that has to be set."""


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """A compose file's text with its variables replaced.

    Raises: Refused.
    """

    def value(found: re.Match[str]) -> str:
        if given := variables.get(found["name"]):
            return given
        if found["how"] == ":?":
            raise Refused(found["what"])
        return found["what"] or ""

    return _VARIABLE.sub(value, text)


def compose(**variables: str) -> Manifest:
    """compose.yaml with given variables.

    Raises: Refused.
    """
    loaded: Manifest = yaml.safe_load(interpolated((ROOT / "compose.yaml").read_text(), variables))
    return loaded


def compose_variables() -> frozenset[str]:
    """The variables that compose.yaml asks for."""
    return frozenset(found["name"] for found in _VARIABLE.finditer((ROOT / "compose.yaml").read_text()))


def run(*command: str, cwd: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A program that checks, and what it said."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_PROGRAM_S,
        check=False,
    )


def program(name: str) -> str:
    """Path of a program that a test needs; where it is missing the test is skipped, in CI it fails."""
    path = shutil.which(name)
    if path is None:
        missing(name, "not installed")
        pytest.fail("unreachable")
    return path


def rendered(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder."""
    result = run(program("kubectl"), "kustomize", str(folder))
    assert result.returncode == 0, result.stderr
    return [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Those of some kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one of a kind and name."""
    [found] = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and pod template of everything that runs."""
    for manifest in of_kind(manifests, "StatefulSet", "Deployment", "Job", "CronJob"):
        spec = manifest["spec"]
        yield manifest["metadata"]["name"], spec.get("jobTemplate", manifest)["spec"]["template"]


def containers(pod: Manifest) -> list[Manifest]:
    """Those of a pod template, init containers first."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def seconds(text: str) -> int:
    """A duration of compose, such as 90s or 5m."""
    units = {"s": 1, "m": 60, "h": 3_600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smh])", text))

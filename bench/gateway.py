"""The LiteLLM proxy in an environment of its own, installed from its package with hashes."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.fake import Fake
from bench.servers import Server, free_port, running

_FOLDER: Final = Path(__file__).with_name("litellm")
_LOCK: Final = _FOLDER / "requirements.lock"
_CONFIG: Final = _FOLDER / "config.yaml"
_QUIET: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it fetches prices from the network at start
    "LITELLM_LOG": "ERROR",
    "DISABLE_ADMIN_UI": "True",
    "NO_PROXY": "127.0.0.1",
}


def environment() -> Path:
    """The folder of the environment, made if there is none with this lock file; takes a minute then.

    Raises: RuntimeError if it cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "firstline-bench"
    name = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / f"litellm-{name}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv")
    if uv is not None:
        _do(uv, "venv", "-q", "--python", sys.executable, str(folder))
        _do(uv, "pip", "install", "-q", "--python", _python(folder), "--require-hashes", "-r", str(_LOCK))
    else:
        _do(sys.executable, "-m", "venv", str(folder))
        _do(_python(folder), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(_LOCK))
    (folder / "complete").touch()
    return folder


def versions(folder: Path) -> str:
    """Of LiteLLM and what serves it."""
    script = "from importlib.metadata import version; print(version('litellm'), version('uvicorn'))"
    found = subprocess.run([_python(folder), "-c", script], capture_output=True, check=True, text=True).stdout.split()
    return f"LiteLLM {found[0]} on uvicorn {found[1]}"


@contextmanager
def proxy(folder: Path, upstream: Fake, *, cores: Sequence[int], key: str) -> Iterator[Server]:
    """The proxy with one worker in front of the fake's OpenAI.

    Args:
        key: that it asks of its callers; it refuses to start without one.
    """
    port = free_port()
    command = [
        *(str(folder / "bin" / "litellm"), "--config", str(_CONFIG), "--host", "127.0.0.1", "--port", str(port)),
        *("--num_workers", "1", "--telemetry", "False"),
    ]
    more = {"BENCH_FAKE_URL": upstream.fallback_url, "BENCH_FAKE_KEY": "fake", "LITELLM_MASTER_KEY": key, **_QUIET}
    with running(command, port, cores=cores, environment=more) as server:
        yield server


def _python(folder: Path) -> str:
    return str(folder / "bin" / "python")


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise RuntimeError(f"LiteLLM could not be installed: {done.stderr.strip()[-500:]}")

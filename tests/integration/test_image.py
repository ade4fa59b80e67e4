"""The image as it is built and run: small, on a read-only root, as a user without rights, with both contracts.

Needs root, buildah and, for the packages, a network; `make image` says what is missing.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import Request, urlopen

import pytest
from image_container import Container, buildah, container, first_process, kill, stop

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
START_S = 120
NAME = "localhost/firstline-test"
MAX_MB = 120


@pytest.fixture(scope="module")
def built() -> Iterator[dict[str, Any]]:
    """Builds the image; what the tool said about it."""
    surroundings = {**os.environ, "IMAGE": NAME, "EXTRAS": ""}
    done = subprocess.run(["make", "-s", "image"], cwd=ROOT, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]
    yield json.loads(done.stdout)
    buildah("rmi", f"{NAME}:latest", json.loads(done.stdout)["image"])


@pytest.fixture(scope="module")
def image(built: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("image")
    with container(built["image"], folder) as made:
        yield made


@dataclass
class Running:
    """A server in a container."""

    image: Container
    process: "subprocess.Popen[str]"
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Its address on this machine."""
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server(image: Container) -> Running:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = image.folder / "server.log"
    process = image.start(log=log, FIRSTLINE_PORT=str(port), FIRSTLINE_SPOOL_DIR="/spool")
    watchdog = threading.Timer(START_S, kill, [process])
    watchdog.start()
    assert process.stdout is not None
    listens = any("listens on" in line for line in process.stdout)
    watchdog.cancel()
    assert listens, log.read_text()
    return Running(image, process, port, log)


@pytest.fixture(scope="module")
def key(server: Running) -> str:
    """A key that the command line made in the container, beside the server."""
    made = server.image.run("keys", "create", "--email", "you@example.com", "--plan", "enterprise")
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def ask(server: Running, method: str, path: str, key: str, body: Any = None) -> Any:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(server.url + path, data, {"X-API-Key": key}, method=method)
    with urlopen(request, timeout=START_S) as answer:
        return json.loads(answer.read())


def test_image_is_smaller_than_120_mb_as_a_registry_keeps_it(built: dict[str, Any]) -> None:
    assert built["compressed_mb"] < MAX_MB


def test_image_runs_as_a_user_with_a_number_that_is_not_root(image: Container) -> None:
    user, group = image.config["User"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert image.run("id", "-u", entry=False).stdout.strip() == user


def test_image_starts_in_buildah_as_well(built: dict[str, Any]) -> None:
    name = buildah("from", "--pull-never", built["image"])
    try:
        said = buildah("run", "--isolation", "chroot", name, "--", "firstline", "version")
    finally:
        buildah("rm", name)
    assert said.startswith("firstline ")


@pytest.mark.parametrize("program", ["pip", "pip3", "cc", "gcc", "make", "strip", "git"])
def test_nothing_to_build_or_install_with_is_in_the_image(image: Container, program: str) -> None:
    found = image.run("sh", "-c", f"command -v {program}", entry=False)
    assert found.stdout.replace("/usr/local/bin/pip", "").strip("3\n") == ""  # an official Python image brings its own


def test_root_of_the_test_is_read_only_as_it_should_be(image: Container) -> None:
    for place in ("/opt/firstline/x", "/tmp/x", "/etc/x", "/x"):
        tried = image.run("sh", "-c", f": > {place}", entry=False)
        assert tried.returncode != 0
        assert "Read-only file system" in tried.stderr


def test_both_contracts_answer_as_published(server: Running, key: str) -> None:
    smoke = [sys.executable, str(ROOT / "tools" / "smoke.py"), server.url, "--key", key]
    done = subprocess.run(smoke, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + server.log.read_text()[-3_000:]
    assert "a production server" in done.stdout


@pytest.mark.parametrize(
    "path",
    ["/docs", "/docs/assets/swagger-ui-bundle.js", "/docs/assets/swagger-ui.css", "/docs/assets/redoc.standalone.js"],
)
def test_pages_of_the_documentation_are_whole(server: Running, path: str) -> None:
    with urlopen(server.url + path, timeout=START_S) as answer:
        assert answer.read()


def test_masking_reads_the_tables_that_are_left(image: Container) -> None:
    shutil.copy(ROOT / "vectors" / "redaction.json", image.data / "redaction.json")
    (image.data / "redaction.json").chmod(0o644)
    program = (
        "import json; from firstline.core.redaction import Redactor;"
        "cases = json.load(open('/data/redaction.json', encoding='utf-8'))['cases'];"
        "print(len(cases), [c for c in cases if Redactor().mask(''.join(c['text'])) != c['masked']])"
    )
    done = image.run("python", "-c", program, entry=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" ", 1)[1].strip() == "[]"


def test_jobs_and_categories_of_ones_own_work_without_a_writable_root(server: Running, key: str) -> None:
    categories = [
        {"name": "Invoices", "description": "invoices, receipts and tax"},
        {"name": "Deliveries", "description": "parcels, returns and couriers"},
    ]
    assert ask(server, "PUT", "/v1/categories", key, {"categories": categories})["version"]
    job = ask(server, "POST", "/v1/jobs?format=txt", key, b"Where is my parcel?\nI need a receipt\n")["id"]
    state: dict[str, Any] = {}
    until = monotonic() + START_S
    while state.get("state") != "finished" and monotonic() < until:
        sleep(0.1)
        state = ask(server, "GET", f"/v1/jobs/{job}", key)
    assert (state["state"], state["done"], state["failed"]) == ("finished", 2, 0), server.log.read_text()[-3_000:]


def test_a_large_file_is_worked_on_by_all_cores_on_a_volume(image: Container) -> None:
    (image.data / "messages.txt").write_text("Refund request\n" * 5_000)
    done = image.run("classify", "/data/messages.txt", "--out", "/data/verdicts.csv", "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert len((image.data / "verdicts.csv").read_text().splitlines()) == 5_001


def test_health_says_yes_of_the_server_and_no_where_there_is_none(server: Running) -> None:
    here = {"FIRSTLINE_PORT": str(server.port)}
    for command in (["health"], ["health", "--live"]):
        assert server.image.run(*command, **here).returncode == 0
    nowhere = server.image.run("health", "--url", "http://127.0.0.1:9")
    assert nowhere.returncode == 1
    assert "cannot be reached" in nowhere.stdout


def test_the_check_that_the_image_declares_passes(server: Running, built: dict[str, Any]) -> None:
    declared = json.loads(buildah("inspect", "--type", "image", built["image"]))["Docker"]["config"]["Healthcheck"]
    assert declared["Test"][0] == "CMD"
    assert server.image.run(*declared["Test"][1:], entry=False, FIRSTLINE_PORT=str(server.port)).returncode == 0


def test_server_has_no_rights_and_may_not_regain_any(server: Running) -> None:
    lines = Path(f"/proc/{first_process(server.process)}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    assert set(status["Uid"].split()) == {server.image.config["User"].split(":")[0]}
    assert int(status["CapEff"], 16) == 0
    assert status["NSpid"].split()[-1] == "1"


def test_everything_that_is_loaded_was_compiled_when_the_image_was_built(image: Container) -> None:
    program = (
        "import os, sys; from firstline.delivery.cli import main; import firstline.delivery.http.server;"
        "import firstline.delivery.cli.serve;"
        "print([m.__name__ for m in list(sys.modules.values()) if (getattr(m, '__file__', '') or '').endswith('.py')"
        " and getattr(m, '__cached__', None) and not os.path.exists(m.__cached__)])"
    )
    done = image.run("python", "-c", program, entry=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_sigterm_ends_the_server_with_status_0(server: Running, key: str) -> None:
    assert stop(server.process) == 0
    faults = [line for line in server.log.read_text().splitlines() if '"level": "error"' in line or "Traceback" in line]
    assert faults == []
    assert (server.image.data / "firstline.db").exists()
    owners = {path.stat().st_uid for path in server.image.data.rglob("*")}
    assert owners <= {int(server.image.config["User"].split(":")[0]), 0}  # what this test wrote is root's

"""The processes of compose.yaml, with its environment and the secrets that make-secrets.sh makes, without an engine."""

import http.client
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from served import START_S, STOP_S, command_line, environment, serve

from deployment import DEPLOY, compose, program, run
from services import OwnPostgres
from waiting import until

pytestmark = pytest.mark.service

WAIT_S: Final = 60


class Clone:
    """A clone after make-secrets.sh, whose containers are processes here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(DEPLOY / "compose", folder / "deploy" / "compose", ignore=shutil.ignore_patterns("secrets"))
        made = run(str(folder / "deploy" / "compose" / "make-secrets.sh"), cwd=folder)
        assert made.returncode == 0, made.stderr
        self.secrets = folder / "deploy" / "compose" / "secrets"
        self.services: dict[str, Any] = compose(SECRETS_DIR=str(self.secrets), WORKER_PROCESSES="1")["services"]

    def secret(self, name: str) -> str:
        """What a secret's file holds."""
        return (self.secrets / name).read_text().strip()

    def put(self, name: str, value: str) -> None:
        """Have another secret than the one that was made."""
        (self.secrets / name).unlink()
        (self.secrets / name).write_text(f"{value}\n")

    def variables(self, service: str) -> dict[str, str]:
        """The environment of a container, with the places of this machine and a free port."""
        places = {
            "/run/secrets": str(self.secrets),
            "/data": str(self.folder / "data"),
            "/spool": str(self.folder / "spool"),
        }
        found = {}
        for name, given in self.services[service]["environment"].items():
            value = str(given)
            for place, own in places.items():
                if value == place or value.startswith(f"{place}/"):
                    value = own + value.removeprefix(place)
            found[name] = value
        return found | {"FIRSTLINE_HOST": "127.0.0.1", "FIRSTLINE_PORT": "0", "FIRSTLINE_DRAIN_SECONDS": "0"}


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@contextmanager
def working(clone: Clone) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The worker, and the port of its metrics."""
    arguments = ["0" if word == "8001" else word for word in clone.services["worker"]["command"]]
    with (
        (clone.folder / "worker.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "firstline.delivery.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=clone.folder,
            env=environment(**clone.variables("worker")),
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            said = next(line for line in process.stdout if line.startswith("Metrics: "))
            found = re.search(r":(\d+)/metrics", said)
            assert found is not None
            yield process, int(found[1])
        finally:
            if process.poll() is None:
                process.kill()


def asked(port: int, path: str, *, token: str | None = None) -> int:
    """The status of one answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status


def test_migration_server_and_worker_do_their_work_together(clone: Clone, empty_database: str, redis_url: str) -> None:
    clone.put("database_url", empty_database)
    clone.put("redis_url", redis_url)
    migrated = command_line(*clone.services["migrate"]["command"], cwd=clone.folder, **clone.variables("migrate"))
    assert migrated.returncode == 0, migrated.stderr
    wish = ("keys", "create", "--email", "you@example.com", "--plan", "enterprise")
    made = command_line(*wish, cwd=clone.folder, **clone.variables("app")).stdout.strip()
    token = clone.secret("metrics_token")

    with serve(clone.folder / "data", **clone.variables("app")) as server, working(clone) as (worker, metrics):
        assert server.request("GET", "/health/ready").status == 200
        assert server.request("GET", "/health").data["limits"] == "shared"
        assert server.request("POST", "/v1/decision", {"message": "I will sue you"}).status == 401, "production"
        assert asked(server.port, "/metrics") == asked(metrics, "/metrics") == 401
        assert asked(server.port, "/metrics", token=token) == asked(metrics, "/metrics", token=token) == 200
        assert asked(metrics, "/health/live") == 200

        rows = "".join(f"Cannot connect to VPN {number}\n" for number in range(30)).encode()
        job = server.request("POST", "/v1/jobs?format=txt", raw=rows, key=made).data["id"]
        place = f"/v1/jobs/{job}"
        assert until(lambda: server.request("GET", place, key=made).data["done"] == 30, within_s=WAIT_S)
        results = server.request("GET", f"{place}/results", key=made).body.splitlines()
        assert len(results) == 30

        worker.terminate()
        assert worker.wait(STOP_S) == 0
        assert server.stop() == 0


def test_a_backup_that_a_container_made_is_restored_by_one(clone: Clone, empty_database: str) -> None:
    clone.put("database_url", empty_database)
    place = "/data/backups/"
    page = (DEPLOY.parent / "docs" / "guides" / "compose.md").read_text()
    assert f"firstline backup {place}\n" in page
    assert f"--no-deps app restore {place}restore.zip --force\n" in page

    def app(*words: str) -> "subprocess.CompletedProcess[str]":
        done = command_line(*words, cwd=clone.folder, **clone.variables("app"))
        assert done.returncode == 0, done.stderr
        return done

    app(*clone.services["migrate"]["command"])
    app("keys", "create", "--email", "before@example.com")
    backups = clone.folder / place.removeprefix("/")
    made = Path(app("backup", f"{backups}/").stdout.strip())
    app("keys", "create", "--email", "after@example.com")
    made.rename(backups / "restore.zip")
    app("restore", str(backups / "restore.zip"), "--force")
    listed = app("keys", "list").stdout
    assert "before@example.com" in listed
    assert "after@example.com" not in listed


def test_the_database_is_made_for_a_user_without_further_rights(clone: Clone, own_postgres: OwnPostgres) -> None:
    script = clone.folder / "deploy" / "compose" / "make-database.sh"
    script.write_text(script.read_text().replace("/run/secrets", str(clone.secrets)))
    psql = (program("psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--command")
    reached = {"PGHOST": "127.0.0.1", "PGPORT": str(own_postgres.port), "PGUSER": "postgres", "PGDATABASE": "postgres"}
    made = run(str(script), POSTGRES_USER="postgres", **reached)
    assert made.returncode == 0, made.stderr

    role = "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'firstline'"
    assert run(*psql, role, **reached).stdout == "t|f|f|f\n"
    place = "SELECT pg_encoding_to_char(encoding), pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'firstline'"
    assert run(*psql, place, **reached).stdout == "UTF8|firstline\n"
    clone.put("database_url", clone.secret("database_url").replace("@postgres:5432", f"@127.0.0.1:{own_postgres.port}"))
    migrated = command_line(*clone.services["migrate"]["command"], cwd=clone.folder, **clone.variables("migrate"))
    assert migrated.returncode == 0, migrated.stderr

"""compose.yaml: valid, nothing in it that is not a setting, nothing open, no secret, and everything fits together."""

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import typer

from deployment import DEPLOY, READ, ROOT, SECRETS, Manifest, Refused, compose, compose_variables, run, seconds
from firstline.delivery.cli.program import program
from firstline.delivery.http.server import GRACE_S
from firstline.settings import load_settings
from firstline.usecases.job_worker import DRAIN_S

SECRETS_DIR: Final = "./deploy/compose/secrets"
OURS: Final = ("app", "app-2", "migrate", "worker")
AS_ROOT: Final = {"proxy": "its image's program is started by root and keeps the one right to listen on low ports"}
ENDS: Final = {"migrate"}


@pytest.fixture(scope="module")
def file() -> Manifest:
    """compose.yaml after make-secrets.sh, without further variables."""
    return compose(SECRETS_DIR=SECRETS_DIR)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What make-secrets.sh sees of a clone."""
    shutil.copytree(DEPLOY / "compose", tmp_path / "deploy" / "compose", ignore=shutil.ignore_patterns("secrets"))
    return tmp_path


def make_secrets(clone: Path) -> "subprocess.CompletedProcess[str]":
    return run(str(clone / "deploy" / "compose" / "make-secrets.sh"), cwd=clone)


def example_lines() -> dict[str, str]:
    """What .env.example offers, taken in."""
    found = re.findall(r"^#? ?([A-Z][A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    return dict(found)


def test_the_file_is_valid_by_the_compose_specification() -> None:
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    result = run(*command)
    assert result.returncode == 0, result.stdout


def test_without_secrets_nothing_starts_and_a_sentence_says_what_to_do() -> None:
    with pytest.raises(Refused, match=r"^Run deploy/compose/make-secrets\.sh first\.$"):
        compose()


def test_every_variable_that_firstline_is_given_is_a_setting(file: Manifest) -> None:
    for name in OURS:
        assert set(file["services"][name]["environment"]) <= READ, name


def test_the_example_offers_settings_and_variables_of_the_file_and_nothing_else() -> None:
    offered = set(example_lines())
    assert offered <= READ | compose_variables() | {"COMPOSE_PROFILES"}
    assert compose_variables() - {"SECRETS_DIR"} <= offered, "each variable of compose.yaml is explained"


def test_what_the_example_offers_can_be_taken_in_as_it_is(tmp_path: Path) -> None:
    lines = {name: value for name, value in example_lines().items() if name not in {n + "_FILE" for n in SECRETS}}
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    assert load_settings(env_file=env_file).ai_daily_budget_usd == 5


def test_every_container_is_confined(file: Manifest) -> None:
    for name, service in file["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name in AS_ROOT else []), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "pid", "ipc", "network_mode", "devices"} & set(service), name
        if name not in AS_ROOT:
            assert int(service["user"].split(":")[0]) > 0, name
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory", "pids"}, name


def test_every_container_is_watched_and_started_again(file: Manifest) -> None:
    for name, service in file["services"].items():
        if name in ENDS:
            assert service["restart"] == "on-failure:5"
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name


def test_images_are_pinned_to_a_version(file: Manifest) -> None:
    for name, service in file["services"].items():
        if name in OURS:
            assert service["image"] == "firstline:local"
            assert (service["build"]["context"], service["build"]["dockerfile"]) == (
                ".",
                "deploy/image/Containerfile",
            )
        else:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+|[a-z]+:\d+\.\d+(\.\d+)?-bookworm", service["image"]), name


def test_only_what_people_and_clients_use_is_published_and_on_loopback(file: Manifest) -> None:
    published = {name: service["ports"] for name, service in file["services"].items() if "ports" in service}
    assert published == {
        "app": ["127.0.0.1:8000:8000"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
        "proxy": ["80:80", "443:443", "443:443/udp"],
    }
    assert file["services"]["proxy"]["profiles"] == ["proxy"], "open to others only when it is asked for"


def test_stores_and_worker_have_no_way_out(file: Manifest) -> None:
    internal = {name for name, network in file["networks"].items() if network.get("internal")}
    assert internal == {"data", "monitoring", "proxy"}
    for name in ("postgres", "redis", "worker", "migrate"):
        assert set(file["services"][name]["networks"]) <= internal, name


def test_no_secret_stands_in_the_file(file: Manifest) -> None:
    for name, service in file["services"].items():
        for variable in service.get("environment", {}):
            if re.search("PASSWORD|SECRET|TOKEN|KEY|DATABASE_URL|REDIS_URL", variable):
                value = service["environment"][variable]
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"


def test_every_secret_that_is_read_is_given_and_every_one_given_is_made(file: Manifest, clone: Path) -> None:
    make_secrets(clone)
    made = {path.name for path in (clone / SECRETS_DIR).iterdir()}
    assert {name: secret["file"] for name, secret in file["secrets"].items()} == {
        name: f"{SECRETS_DIR}/{name}" for name in made - {"providers"}
    }
    for name, service in file["services"].items():
        text = str(service) + (DEPLOY / "compose" / "make-database.sh").read_text() * (name == "postgres")
        text += (DEPLOY / "prometheus" / "prometheus.yml").read_text() * (name == "prometheus")
        text += (DEPLOY / "alertmanager" / "alertmanager.yml").read_text() * (name == "alertmanager")
        wanted = set(re.findall(r"/run/secrets/([\w.]+)", text)) - {"providers"}
        assert wanted == set(service.get("secrets", [])), name


def test_secrets_are_random_private_and_never_made_twice(clone: Path) -> None:
    assert "Made: database_password" in make_secrets(clone).stdout
    folder = clone / SECRETS_DIR
    first = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in first} == {0o444}
    random = [first[name] for name in ("database_password", "postgres_password", "secret_key", "metrics_token")]
    assert len(set(random)) == len(random)
    assert all(re.fullmatch(r"[0-9a-f]{64}\n", value) for value in random)
    assert first["database_password"].strip() in first["database_url"]
    assert first["redis.conf"].split()[1] in first["redis_url"]

    assert "all secrets are there" in make_secrets(clone).stdout
    assert {path.name: path.read_text() for path in folder.iterdir() if path.is_file()} == first
    assert (clone / ".env").read_text() == f"SECRETS_DIR={SECRETS_DIR}\n"


def test_secrets_get_into_no_commit_no_package_and_no_image() -> None:
    assert {".env", "deploy/compose/secrets/"} <= set((ROOT / ".gitignore").read_text().splitlines())
    context = (DEPLOY / "image" / "Containerfile.dockerignore").read_text().splitlines()
    assert "*" in context, "what is not named is left out"
    assert [line for line in context if line.startswith(("!deploy", "!.env", "!*"))] == ["!deploy/image"]


def test_making_secrets_keeps_what_is_in_the_env_file_and_makes_what_is_missing(clone: Path) -> None:
    (clone / ".env").write_text("AI_MODE=never")
    make_secrets(clone)
    assert (clone / ".env").read_text() == f"AI_MODE=never\nSECRETS_DIR={SECRETS_DIR}\n"
    password = (clone / SECRETS_DIR / "database_password").read_text()
    (clone / SECRETS_DIR / "database_url").unlink()
    (clone / SECRETS_DIR / "grafana_password").unlink()
    assert make_secrets(clone).stdout == "Made: database_url grafana_password\n"
    assert password.strip() in (clone / SECRETS_DIR / "database_url").read_text()


def test_firstline_takes_the_secrets_as_they_are_made(
    file: Manifest, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secrets(clone)
    for name, value in file["services"]["app"]["environment"].items():
        monkeypatch.setenv(name, value.replace("/run/secrets", str(clone / SECRETS_DIR)))
    settings = load_settings(env_file=clone / ".env")
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value().endswith("@postgres:5432/firstline")
    assert settings.redis_url is not None
    assert settings.secret_key is not None
    assert settings.metrics_token is not None
    assert settings.environment == "production"


def test_commands_are_commands_of_firstline(file: Manifest) -> None:
    root = typer.main.get_command(program)
    for name in OURS:
        command, words = root, list(file["services"][name]["command"])
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        assert command.make_context(name, words), name
        check = file["services"][name]["healthcheck"].get("test")
        if check:
            assert check[:3] == ["CMD", "firstline", "health"]
            assert root.commands["health"].make_context("health", check[3:])  # type: ignore[attr-defined]


def test_ports_agree(file: Manifest) -> None:
    services = file["services"]
    app, worker = services["app"], services["worker"]
    port, metrics_port = app["environment"]["FIRSTLINE_PORT"], worker["command"][-1]
    assert app["ports"][0].endswith(f":{port}")
    assert app["healthcheck"]["test"][-1].endswith(f":{port}")
    assert worker["healthcheck"]["test"][-1].endswith(f":{metrics_port}")
    proxied = re.search(r"reverse_proxy (.*) \{", (DEPLOY / "compose" / "Caddyfile").read_text())
    assert proxied is not None
    assert proxied[1].split() == [f"app:{port}", f"app-2:{port}"]


def test_each_server_has_a_spool_of_its_own_and_all_share_the_jobs(file: Manifest) -> None:
    services = file["services"]
    mounts = {name: [str(mount) for mount in services[name]["volumes"]] for name in ("app", "app-2", "worker")}
    assert all("data:/data" in found for found in mounts.values())
    spools = [mount for found in mounts.values() for mount in found if mount.endswith(":/spool")]
    assert sorted(spools) == ["spool-2:/spool", "spool:/spool"]
    assert {mount.split(":")[0] for mount in spools} | {"data"} <= set(file["volumes"])
    assert services["app"]["environment"]["FIRSTLINE_JOB_PROCESSES"] == "0"


def test_nothing_is_killed_before_it_has_finished(file: Manifest) -> None:
    app, worker = file["services"]["app"], file["services"]["worker"]
    drain = load_settings(env_file=None, drain_seconds=app["environment"]["FIRSTLINE_DRAIN_SECONDS"]).drain_seconds
    assert seconds(app["stop_grace_period"]) >= drain + GRACE_S + 3 * DRAIN_S
    assert seconds(worker["stop_grace_period"]) >= 2 * DRAIN_S


def test_a_server_with_a_spool_stays_in_the_balance_while_it_waits_for_the_database(file: Manifest) -> None:
    app = file["services"]["app"]
    waits = load_settings(env_file=None).database_timeout_seconds
    proxy = re.search(r"^\s+health_timeout (\w+)$", (DEPLOY / "compose" / "Caddyfile").read_text(), re.MULTILINE)
    assert proxy is not None
    assert seconds(proxy[1]) >= waits + 3
    asks = app["healthcheck"]["test"]
    asked = float(asks[asks.index("--timeout") + 1])
    assert seconds(app["healthcheck"]["timeout"]) > asked >= waits + 3


def test_servers_and_worker_wait_for_the_migration(file: Manifest) -> None:
    for name in ("app", "app-2", "worker"):
        waits = file["services"][name]["depends_on"]
        assert waits["migrate"]["condition"] == "service_completed_successfully", name
    assert file["services"]["migrate"]["command"] == ["db", "upgrade"]
    assert file["services"]["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_what_is_mounted_from_the_clone_is_in_it(file: Manifest) -> None:
    for name, service in file["services"].items():
        for mount in service.get("volumes", []):
            source = str(mount).split(":")[0]
            if source.startswith("./") and not source.startswith(SECRETS_DIR):
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert str(mount).endswith(":ro"), f"{name}: {source}"

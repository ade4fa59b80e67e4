"""The Kubernetes manifests as kustomize renders them: valid, confined, and in accord with firstline and each other."""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import typer
import yaml
from asgi_server import Serve

from deployment import DEPLOY, READ, ROOT, SECRETS, Manifest, containers, named, of_kind, pods, rendered
from firstline import __version__
from firstline.delivery.cli.program import program
from firstline.delivery.http.server import GRACE_S
from firstline.settings import Settings, SettingsInvalid, load_settings
from firstline.usecases.job_worker import DRAIN_S

pytestmark = pytest.mark.service

FOLDER: Final = DEPLOY / "kubernetes"
FOLDERS: Final = ("overlays/small", "overlays/production", "migrate", "with-components")
VERSIONS: Final = ("1.31", "1.37")
REGISTRY: Final = "registry.example.com/firstline"
OPERATORS: Final = "monitoring.coreos.com/v1"


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """Everything that is rendered, by folder; `with-components` is the production overlay with all of them."""
    own = tmp_path_factory.mktemp("overlay")
    base = Path(os.path.relpath(FOLDER, own.resolve()))
    (own / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": "firstline",
                "resources": [str(base / "overlays" / "production")],
                "components": [
                    str(base / "components" / name) for name in ("backup", "migrate-at-start", "monitoring")
                ],
                "images": [{"name": "firstline", "newName": REGISTRY, "newTag": "9.9.9"}],
            }
        )
    )
    return {name: rendered(own if name == "with-components" else FOLDER / name) for name in FOLDERS}


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest, manifests: dict[str, list[Manifest]]) -> list[Manifest]:
    return manifests[request.param]


@pytest.fixture
def production(manifests: dict[str, list[Manifest]]) -> list[Manifest]:
    return manifests["overlays/production"]


def given(container: Manifest, manifests: list[Manifest]) -> dict[str, str]:
    """The variables of a container; those from secrets have no value."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= named(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


def settings_of(container: Manifest, manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What firstline makes of a container's variables but for secrets."""
    for name, value in given(container, manifests).items():
        if not any(name in {secret, f"{secret}_FILE"} for secret in SECRETS):
            monkeypatch.setenv(name, value)
    return load_settings(env_file=None)


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid_by_the_schemas_of_kubernetes(folder: list[Manifest], version: str) -> None:
    for manifest in folder:
        if manifest["apiVersion"] != OPERATORS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_every_variable_is_a_setting_with_a_value_that_can_be_used(
    folder: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, pod in pods(folder):
        for container in containers(pod):
            assert set(given(container, folder)) <= READ, name
            with monkeypatch.context() as patch:
                settings_of(container, folder, patch)


def test_commands_are_commands_of_firstline(folder: list[Manifest]) -> None:
    for name, pod in pods(folder):
        for container in containers(pod):
            command, words = typer.main.get_command(program), list(container["args"])
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
            assert command.make_context(name, words)


def test_every_pod_meets_the_restricted_standard_and_has_its_bounds(folder: list[Manifest]) -> None:
    for name, pod in pods(folder):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == 10_001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            resources = container["resources"]
            assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["requests"]), name
            assert {"memory", "ephemeral-storage"} <= set(resources["limits"]), name


def test_names_that_kubernetes_would_set_for_a_service_do_not_stop_the_start(
    folder: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTLINE_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SettingsInvalid):
        load_settings(env_file=None)
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in pods(folder))


def test_probes_ask_what_is_answered_where_it_is_answered(folder: list[Manifest], serve: Serve) -> None:
    server = serve()
    for name, pod in pods(folder):
        for container in pod["spec"]["containers"]:
            probes = {probe: container[probe]["httpGet"] for probe in container if probe.endswith("Probe")}
            if container["name"] in {"backup", "migrate"}:
                assert not probes, "it ends by itself"
                continue
            assert probes["startupProbe"]["path"] == probes["livenessProbe"]["path"] == "/health/live", name
            assert all(server.call("GET", probe["path"]).status_code == 200 for probe in probes.values())
            assert {probe["port"] for probe in probes.values()} <= {port["name"] for port in container["ports"]}
            if container["name"] == "server":
                assert probes["readinessProbe"]["path"] == "/health/ready"


def test_a_server_is_out_of_the_balance_before_it_stops_and_done_before_it_is_killed(
    folder: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, pod in pods(folder):
        for container in pod["spec"]["containers"]:
            with monkeypatch.context() as patch:
                drain = settings_of(container, folder, patch).drain_seconds
            if container["name"] == "server":
                ready = container["readinessProbe"]
                assert drain >= ready["periodSeconds"] * ready["failureThreshold"], name
                assert ready["timeoutSeconds"] >= Settings.model_fields["database_timeout_seconds"].default + 3, name
                assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + GRACE_S + 3 * DRAIN_S, name
            elif container["name"] == "worker":
                assert pod["spec"]["terminationGracePeriodSeconds"] >= 2 * DRAIN_S, name


def test_no_secret_is_part_of_the_manifests(folder: list[Manifest]) -> None:
    assert not of_kind(folder, "Secret")
    for name, pod in pods(folder):
        for container in containers(pod):
            for variable in container.get("env", []):
                if variable["name"] in SECRETS:
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}, name
                elif variable["name"].removesuffix("_FILE") in SECRETS:
                    assert variable["value"].startswith("/run/secrets/firstline/"), name
    for settings in of_kind(folder, "ConfigMap"):
        assert not set(settings["data"]) & SECRETS


def test_the_page_tells_how_to_make_every_secret_that_is_referred_to(production: list[Manifest]) -> None:
    page = (ROOT / "docs" / "guides" / "kubernetes.md").read_text()
    for _, pod in pods(production):
        for container in containers(pod):
            for variable in container.get("env", []):
                value = variable.get("value", "")
                if value.startswith("/run/secrets/firstline/"):
                    assert f"--from-file={Path(value).name}" in page, value
                elif "valueFrom" in variable:
                    assert variable["valueFrom"]["secretKeyRef"]["key"] in page
    for ingress in of_kind(production, "Ingress"):
        assert all(entry["secretName"] in page for entry in ingress["spec"]["tls"])


def test_images_have_this_version_until_an_overlay_of_ones_own_names_another(
    manifests: dict[str, list[Manifest]],
) -> None:
    for folder, found in manifests.items():
        images = {container["image"] for _, pod in pods(found) for container in containers(pod)}
        assert images == {f"{REGISTRY}:9.9.9" if folder == "with-components" else f"firstline:{__version__}"}, folder


def test_what_is_referred_to_is_there(folder: list[Manifest]) -> None:
    templates = dict(pods(folder))
    labels = [pod["metadata"]["labels"] for pod in templates.values()]

    def selects(selector: dict[str, str]) -> bool:
        return any(selector.items() <= own.items() for own in labels)

    ports = {port["name"] for pod in templates.values() for c in containers(pod) for port in c.get("ports", [])}
    for service in of_kind(folder, "Service"):
        assert selects(service["spec"]["selector"])
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    for budget in of_kind(folder, "PodDisruptionBudget"):
        assert selects(budget["spec"]["selector"]["matchLabels"])
    for policy in of_kind(folder, "NetworkPolicy"):
        assert selects(policy["spec"]["podSelector"].get("matchLabels", {}))
    for ingress in of_kind(folder, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = named(folder, "Service", path["backend"]["service"]["name"])
                assert path["backend"]["service"]["port"]["name"] in [port["name"] for port in service["spec"]["ports"]]
    claimed = set()
    for workload in of_kind(folder, "StatefulSet"):
        assert named(folder, "Service", workload["spec"]["serviceName"])["spec"]["clusterIP"] == "None"
        claimed |= {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
    for name, pod in templates.items():
        spec = pod["spec"]
        if "serviceAccountName" in spec:
            assert named(folder, "ServiceAccount", spec["serviceAccountName"])
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert named(folder, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
            else:
                assert {"secret", "emptyDir"} & set(volume), name
        own = claimed if name == "firstline" else set()
        for container in containers(pod):
            assert {mount["name"] for mount in container["volumeMounts"]} <= own | set(volumes), name
    for scaler in of_kind(folder, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        workload = named(folder, target["kind"], target["name"])
        assert "replicas" not in workload["spec"], "the next apply would undo what the autoscaler did"


def test_everything_is_in_the_namespace(folder: list[Manifest]) -> None:
    for manifest in folder:
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "firstline", manifest["metadata"]["name"]


def opened(policies: list[Manifest], direction: str, own: dict[str, str]) -> set[int]:
    """The ports that policies open to or for a pod."""
    return {
        port["port"]
        for policy in policies
        if policy["spec"]["podSelector"].get("matchLabels", {}).items() <= own.items()
        for rule in policy["spec"].get(direction, [])
        for port in rule["ports"]
    }


def test_the_network_is_closed_but_for_what_is_used(production: list[Manifest]) -> None:
    policies = of_kind(production, "NetworkPolicy")
    everything = [p for p in policies if p["spec"]["podSelector"] == {}]
    assert [set(p["spec"]["policyTypes"]) for p in everything] == [{"Ingress", "Egress"}]
    assert all("ingress" not in p["spec"] and "egress" not in p["spec"] for p in everything)

    server = named(production, "StatefulSet", "firstline")["spec"]["template"]["metadata"]["labels"]
    worker = named(production, "Deployment", "firstline-worker")["spec"]["template"]["metadata"]["labels"]
    assert opened(policies, "ingress", server) == {8000}
    assert opened(policies, "ingress", worker) == {8001}
    assert opened(policies, "egress", server) == {53, 5432, 6379, 443}
    assert opened(policies, "egress", worker) == {53, 5432, 6379}, "a worker asks no language model"
    for name, pod in pods(production):
        ports = {port["containerPort"] for c in containers(pod) for port in c.get("ports", [])}
        assert ports == opened(policies, "ingress", pod["metadata"]["labels"]), name
    assert all(rule["from"] for policy in policies for rule in policy["spec"].get("ingress", []))


def test_every_pod_reaches_names_and_the_database(manifests: dict[str, list[Manifest]]) -> None:
    policies = of_kind(manifests["with-components"], "NetworkPolicy")
    for name, pod in [*pods(manifests["with-components"]), *pods(manifests["migrate"])]:
        assert {53, 5432} <= opened(policies, "egress", pod["metadata"]["labels"]), name


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1", "fd00::1"]
)
def test_a_webhook_leads_to_nothing_inside(production: list[Manifest], address: str) -> None:
    outside = named(production, "NetworkPolicy", "server-outside")
    [rule] = outside["spec"]["egress"]
    for to in rule["to"]:
        block, target = to["ipBlock"], ip_network(address)
        if target.version == ip_network(block["cidr"]).version:
            assert any(
                target.version == ip_network(out).version and target.subnet_of(ip_network(out))  # type: ignore[arg-type]
                for out in block["except"]
            )


def test_autoscalers_read_metrics_that_there_are_and_that_the_adapter_gives(production: list[Manifest]) -> None:
    values: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus-adapter-values.yaml").read_text())
    documented = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    scaled = {"Pods": set[str](), "External": set[str]()}
    for scaler in of_kind(production, "HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] in scaled:
                scaled[metric["type"]].add(metric[metric["type"].lower()]["metric"]["name"])
    assert scaled == {
        kind: {rule["name"]["as"] for rule in values["rules"][rules]}
        for kind, rules in (("Pods", "custom"), ("External", "external"))
    }
    for name in scaled["Pods"] | scaled["External"]:
        assert f"| `{name}` | gauge |" in documented
    for rule in (*values["rules"]["custom"], *values["rules"]["external"]):
        assert rule["seriesQuery"].startswith(rule["name"]["as"] + "{")


def test_servers_share_the_jobs_and_keep_a_spool_each_that_outlives_them(production: list[Manifest]) -> None:
    server = named(production, "StatefulSet", "firstline")["spec"]
    worker = named(production, "Deployment", "firstline-worker")["spec"]
    data = [v for t in (server, worker) for v in t["template"]["spec"]["volumes"] if v["name"] == "data"]
    assert len(data) == 2
    assert data[0] == data[1]
    claim = named(production, "PersistentVolumeClaim", "firstline-data")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert [spool["metadata"]["name"] for spool in server["volumeClaimTemplates"]] == ["spool"]
    assert server["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    spool_mb = load_settings(env_file=None).spool_mb
    size = server["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    assert int(re.fullmatch(r"(\d+)Gi", size)[1]) * 1_024 > 2 * spool_mb  # type: ignore[index]


def test_the_small_overlay_is_one_server_on_a_volume_of_its_own(manifests: dict[str, list[Manifest]]) -> None:
    small = manifests["overlays/small"]
    assert [name for name, _ in pods(small)] == ["firstline"]
    server = named(small, "StatefulSet", "firstline")["spec"]
    assert server["replicas"] == 1
    assert [claim["metadata"]["name"] for claim in server["volumeClaimTemplates"]] == ["data"]
    assert "FIRSTLINE_DATABASE_URL_FILE" not in given(server["template"]["spec"]["containers"][0], small)
    assert not of_kind(small, "HorizontalPodAutoscaler", "Ingress")

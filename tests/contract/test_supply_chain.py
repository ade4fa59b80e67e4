"""What is shipped and what is checked before: the bill of materials, the search for secrets, bandit."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The document that `make sbom` writes."""
    target = tmp_path_factory.mktemp("bill") / "firstline.cdx.json"
    run("sbom.py", str(ROOT / "requirements.lock"), str(target), expected=0)
    return target.read_text(encoding="utf-8")


def run(tool: str, *arguments: str, expected: int) -> str:
    done = subprocess.run(
        [sys.executable, str(TOOLS / tool), *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout


def locked() -> dict[tuple[str, str], set[str]]:
    """Hashes of the locked packages, read in another way than the tool does."""
    found: dict[tuple[str, str], set[str]] = {}
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if "==" in line and not line.lstrip().startswith("#"):
            name, version = line.split(" ")[0].rstrip(";").split("==")
            found[name.lower(), version] = set(re.findall(r"sha256:(\w+)", line))
    return found


def test_the_bill_of_materials_has_every_locked_package_with_its_hashes(bill: str) -> None:
    components: list[dict[str, Any]] = json.loads(bill)["components"]
    listed = {
        (part["name"], part["version"]): {
            digest["content"] for reference in part["externalReferences"] for digest in reference["hashes"]
        }
        for part in components
    }
    assert listed == locked()
    assert len(components) == len(listed) > 50
    assert sum("licenses" in part for part in components) > 0.9 * len(components)


def test_the_bill_of_materials_is_valid_and_names_no_index(bill: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    assert re.findall(r"https?://(?!cyclonedx\.org/schema)\S+", bill) == []
    assert str(ROOT) not in bill


def test_a_package_without_a_hash_is_in_no_bill() -> None:
    document = runpy.run_path(str(TOOLS / "sbom.py"))["document"]
    with pytest.raises(ValueError, match=r"anything 1\.0 has no hash"):
        document("anything==1.0\n")


PLANTED = [
    "key = '" + "AKIA" + "QYLPMN5HHHFPZAM2" + "'",
    "key: " + "atc_" + "k3JhY9sQ1mZ0xW7vB5nT8rE2uP4oL6dF",
    "curl -H 'Authorization: Bearer " + "sk_live_" + "k3JhY9sQ1mZ0xW7vB5nT8rE2uP4oL6dF'",
    "OPERATOR=" + "op_" + "k3JhY9sQ1mZ0xW7vB5nT8rE2uP4oL6dF",
    "-----BEGIN " + "RSA PRIVATE KEY-----",
    "url = 'postgresql://admin:" + "k3JhY9sQ1mZ0" + "@db.internal/firstline'",
    "secret = '" + "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" + "'",
]
INNOCENT = "Ask for a key at https://firstline.example.com/v1/keys/create, order 2026-11-22-000000000017."


def test_every_planted_key_is_found_and_not_shown(tmp_path: Path) -> None:
    files = [tmp_path / f"planted_{number}.py" for number in range(len(PLANTED))]
    for file, line in zip(files, PLANTED, strict=True):
        file.write_text(f"import os\n{line}\n")
    plain = tmp_path / "notes.md"
    plain.write_text(INNOCENT + "\n")
    said = run("secrets_scan.py", *map(str, files), str(plain), expected=1)
    for file in files:
        assert f"{file}:2: " in said
    assert plain.name not in said
    assert "k3JhY9sQ" not in said
    assert "no new secrets" in run("secrets_scan.py", str(plain), expected=0)


def test_what_bandit_finds_needs_a_reason_beside_it(tmp_path: Path) -> None:
    risk = "import random; random.random()"
    findings = ["", "  # noqa: S311", "  # noqa: S608  # of another kind", "  # nosec", "  # nosec B311"]
    reasoned = ["  # noqa: S311  # spreads retries", "  # nosec B311  # spreads retries"]
    for number, mark in enumerate([*findings, *reasoned]):
        (tmp_path / f"module_{number}.py").write_text(f"{risk}{mark}\n")
    said = run("bandit_findings.py", str(tmp_path), expected=1)
    found = {int(number) for number in re.findall(r"module_(\d)\.py:1: ", said)}
    assert found == set(range(len(findings)))

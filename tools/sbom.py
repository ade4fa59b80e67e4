"""Write what firstline is made of as a CycloneDX 1.6 document: `python tools/sbom.py [LOCK] [TARGET]`.

Names, versions and hashes are those of the lock file, so the document says what `pip install --require-hashes` takes;
licences are what the installed packages declare. The same lock file gives the same document.
"""

import json
import re
import sys
import tomllib
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = ROOT / "requirements.lock"
TARGET: Final = ROOT / "dist" / "firstline.cdx.json"

_PINNED: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: *; *(?P<marker>[^\\\n]+?))? *\\?$")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAME: Final = re.compile(r"^[A-Za-z0-9._-]+")


def document(lock: str) -> dict[str, Any]:
    """The document of a lock file's text.

    Raises: ValueError when a pinned package has no hash.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.search(r'__version__ = "([^"]+)"', (ROOT / "src" / "firstline" / "__init__.py").read_text("utf-8"))
    components = [_component(*pinned) for pinned in _pinned(lock)]
    direct = {_plain(found[0]) for text in project["dependencies"] if (found := _NAME.match(text))}
    own = "firstline"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, lock)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": own,
                "version": version[1] if version else "0",
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": components,
        "dependencies": [
            {"ref": own, "dependsOn": [part["bom-ref"] for part in components if part["name"] in direct]},
            *({"ref": part["bom-ref"]} for part in components),
        ],
    }


def _pinned(lock: str) -> list[tuple[str, str, str, list[str]]]:
    """Name, version, marker and hashes of every package."""
    found: list[tuple[str, str, str, list[str]]] = []
    for line in lock.splitlines():
        pinned = _PINNED.match(line)
        if pinned:
            found.append((_plain(pinned["name"]), pinned["version"], pinned["marker"] or "", []))
        elif found and (hashed := _HASH.search(line)):
            found[-1][3].append(hashed[1])
    for name, version, _, hashes in found:
        if not hashes:
            raise ValueError(f"{name} {version} has no hash")
    return sorted(found)


def _component(name: str, version: str, marker: str, hashes: list[str]) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "externalReferences": [
            {
                "type": "distribution",
                "url": purl,
                "hashes": [{"alg": "SHA-256", "content": digest} for digest in sorted(hashes)],
            }
        ],
    }
    licence = _licence(name)
    if licence:
        component["licenses"] = [licence]
    if marker:
        component["properties"] = [{"name": "python:marker", "value": marker}]
    return component


def _licence(name: str) -> dict[str, Any] | None:
    """What a package declares: an SPDX expression, or else the name of a licence."""
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    expression = about.get("License-Expression")
    if expression:
        return {"expression": expression}
    said = [line.split(" :: ")[-1] for line in about.get_all("Classifier") or [] if line.startswith("License :: ")]
    short = (about.get("License") or "").strip()
    if not said and short and len(short) <= 60 and "\n" not in short:
        said = [short]
    return {"license": {"name": " or ".join(said)}} if said else None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    lock_file = Path(sys.argv[1]) if sys.argv[1:] else LOCK
    target = Path(sys.argv[2]) if sys.argv[2:] else TARGET
    written = document(lock_file.read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"{target}: {len(written['components'])} packages")

"""Search what git has for secrets: `python tools/secrets_scan.py [--accept] [FILE …]`; exits with 1 where one is new.

detect-secrets looks for the keys of many services, private keys, passwords in URLs and random text; firstline's own
keys are looked for besides. `.secrets.baseline` lists what is no secret, such as test vectors, by hash and file;
`--accept` writes it anew. Look at each before you accept it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from detect_secrets.core import scan
from detect_secrets.core.potential_secret import PotentialSecret
from detect_secrets.settings import transient_settings

ROOT: Final = Path(__file__).parents[1]
BASELINE: Final = ROOT / ".secrets.baseline"
MAX_BYTES: Final = 5_000_000

_SERVICES: Final = (
    "AWSKeyDetector AzureStorageKeyDetector BasicAuthDetector DiscordBotTokenDetector GitHubTokenDetector "
    "GitLabTokenDetector JwtTokenDetector NpmDetector OpenAIDetector PrivateKeyDetector PypiTokenDetector "
    "SendGridDetector SlackDetector StripeDetector TelegramBotTokenDetector TwilioKeyDetector"
)
_FILTERS: Final = (
    "is_indirect_reference",
    "is_likely_id_string",
    "is_potential_uuid",
    "is_sequential_string",
    "is_swagger_file",
    "is_templated_secret",
)
_SETTINGS: Final = {
    "plugins_used": [
        *({"name": name} for name in _SERVICES.split()),
        {"name": "Base64HighEntropyString", "limit": 4.5},
        {"name": "HexHighEntropyString", "limit": 3.0},
    ],
    "filters_used": [{"path": f"detect_secrets.filters.heuristic.{name}"} for name in _FILTERS],
}
_WORTH_A_LOOK: Final = re.compile(
    rb"(?=[A-Za-z0-9+/_=-]*[0-9])(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_=-]{20}|PRIVATE KEY|://[^\s/]+@"
)
"""What has none of it is not searched, which takes a tenth of the time."""
_PLACEHOLDERS: Final = frozenset({"password", "secret"})
_OWN_KEY: Final = re.compile(r"\b(?:atc|sk_live|sk_test|op)_[A-Za-z0-9_-]{32}(?![A-Za-z0-9_-])")


def found_in(path: str) -> list[PotentialSecret]:
    """What looks like a secret in one file."""
    data = Path(path).read_bytes()
    if b"\0" in data[:8_000] or len(data) > MAX_BYTES or not _WORTH_A_LOOK.search(data):
        return []
    with transient_settings(_SETTINGS):
        found = [secret for secret in scan.scan_file(path) if (secret.secret_value or "").lower() not in _PLACEHOLDERS]
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        found += [PotentialSecret("firstline key", path, key, number) for key in _OWN_KEY.findall(line)]
    return found


def scan_files(paths: Iterable[str]) -> list[PotentialSecret]:
    """What looks like a secret in any of the files, by several processes."""
    chosen = [path for path in paths if Path(path).is_file() and Path(path).resolve() != BASELINE]
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 4, len(chosen) or 1)) as pool:
        return [secret for found in pool.map(found_in, chosen, chunksize=8) for secret in found]


def accepted() -> dict[str, list[str]]:
    """Hashes of what is no secret, by file."""
    found: dict[str, list[str]] = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    return found


def main(arguments: list[str]) -> int:
    """Print every new secret by its place, never by its value."""
    os.chdir(ROOT)
    accept, files = "--accept" in arguments, [name for name in arguments if name != "--accept"]
    if not files:
        listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
        files = [name for name in listed.split("\0") if name]
    secrets = scan_files(files)
    if accept:
        known: dict[str, set[str]] = {}
        for secret in secrets:
            known.setdefault(secret.filename, set()).add(secret.secret_hash)
        written = {name: sorted(hashes) for name, hashes in sorted(known.items())}
        BASELINE.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        print(f"{BASELINE.name}: {sum(map(len, written.values()))} accepted")
        return 0
    before = accepted()
    new = [secret for secret in secrets if secret.secret_hash not in before.get(secret.filename, [])]
    for secret in new:
        print(f"{secret.filename}:{secret.line_number}: {secret.type}")
    print(f"{len(new)} possible secrets that {BASELINE.name} does not know" if new else "no new secrets")
    return int(bool(new))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Run bandit over the source: `python tools/bandit_findings.py [FOLDER]`; exits with 1 where something is found.

Ruff knows bandit's tests by the same numbers, so one mark serves both: where a line says `# noqa: S608  # why`, the
reason holds for B608 too, and a mark without a reason does not count. What only bandit finds is marked
`# nosec B608  # why`.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]

_REASONED: Final = re.compile(r"# (?:noqa: (?:[A-Z]+\d+, )*S(?P<ruff>\d+)\b.*?|nosec B(?P<bandit>\d+))\s+# \S")
_BARE: Final = re.compile(r"# nosec(?!\s+B\d+\s+# \S)")


def findings(folder: Path) -> list[str]:
    """What bandit finds without a reason beside it, as `file:line: number sentence`."""
    command = [
        sys.executable,
        "-m",
        "bandit",
        "-q",
        "-r",
        str(folder),
        "-c",
        str(ROOT / "pyproject.toml"),
        "-f",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1} or not done.stdout:
        raise SystemExit(f"bandit did not run: {done.stderr.strip()[-500:]}")
    report = json.loads(done.stdout)
    found = [f"{error['filename']}: {error['reason']}" for error in report["errors"]]
    found += [_line(result) for result in report["results"] if not _has_reason(result)]
    for path in sorted(folder.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if _BARE.search(line):
                found.append(f"{path}:{number}: a nosec mark needs the test's number and a reason")
    return found


def _has_reason(result: dict[str, Any]) -> bool:
    lines = Path(result["filename"]).read_text(encoding="utf-8").splitlines()
    number = result["test_id"].removeprefix("B")
    return any(
        number in (mark["ruff"], mark["bandit"])
        for line in result["line_range"]
        for mark in _REASONED.finditer(lines[line - 1])
    )


def _line(result: dict[str, Any]) -> str:
    return f"{result['filename']}:{result['line_number']}: {result['test_id']} {result['issue_text']}"


if __name__ == "__main__":
    lines = findings(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "src")
    print("\n".join(lines) or "bandit: nothing without a reason")
    raise SystemExit(bool(lines))

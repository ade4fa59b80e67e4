"""The load against a real server: every request gets an answer that is right for it."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_answer_to_the_mix_is_right_and_the_report_counts_them(tmp_path: Path) -> None:
    told = tmp_path / "figures.json"
    command = [sys.executable, "-m", "load", "--minutes", "0.1", "--rate", "40", "--json", str(told)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(told.read_text())
    assert figures["wrong"] == {}
    assert figures["requests"] > 100
    assert figures["minutes"][0]["memory_mb"] > 50
    assert re.search(r"classify .*200: \d+", done.stdout)


def test_a_server_that_answers_otherwise_is_reported_as_wrong(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--directory", str(tmp_path), "--bind", "127.0.0.1", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as other:
        assert other.stdout is not None
        found = re.search(r"port (\d+)", other.stdout.readline())
        assert found
        url = f"http://127.0.0.1:{found[1]}"
        command = [sys.executable, "-m", "load", "--url", url, "--key", "atc_x", "--minutes", "0.02", "--rate", "40"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        other.kill()
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"WRONG  classify: 501", done.stdout)

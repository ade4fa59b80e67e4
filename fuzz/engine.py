"""One target under atheris, in a process of its own: it never returns."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import atheris

from fuzz.target import Target

UNIT_TIMEOUT_S: Final = 10
"""One input that takes longer is a finding: work is bounded by the input's size."""

_MEMORY_MB: Final = 3_000


def main(name: str, *, module: str, seconds: int, corpus: Path, findings: Path) -> None:
    """Fuzz a target.

    Args:
        module: that has it; no other is imported, since instrumenting takes its time.
        corpus: folder that inputs which reach something new are kept in; the seeds are added to it.
        findings: folder for inputs that break what should hold.
    """
    with atheris.instrument_imports(include=["firstline"]):
        found: tuple[Target, ...] = import_module(module).TARGETS
    target = next(one for one in found if one.name == name)
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number:04d}").write_bytes(seed[: target.most_bytes])
        target.run(seed[: target.most_bytes])  # what is loaded at first does not count as time of an input
    words = corpus.parent / f"{name}.dict"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words), encoding="ascii")
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={target.most_bytes}",
        f"-timeout={UNIT_TIMEOUT_S}",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-artifact_prefix={findings}/{name}-",
        "-print_final_stats=1",
        "-use_value_profile=1",
        *([f"-dict={words}"] if target.words else []),
        str(corpus),
    ]
    atheris.Setup(arguments, target.run)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8", "surrogatepass"))

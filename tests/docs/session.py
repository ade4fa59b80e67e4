"""A page as one bash session: its blocks in order, with the servers that it starts in the background."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from blocks import ROOT, Block

from firstline.settings import PREFIX, variable_names

PAGE_S: Final = 180
PORTS: Final = (8000, 8001, 9090, 9100, 9101, 9200)
LINKED: Final = ("evaluation", "src", "tools", "training")
COPIED: Final = (".env.example", "compose.yaml", "deploy")

_SERVERS: Final = re.compile(
    r"^(?P<settings>(?:[A-Z][A-Z0-9_]*=\S+ +)*)(?:exec +)?"
    r"(?P<command>make serve|firstline serve|firstline worker|firstline dev fake-provider)\b(?P<rest>[^|&;]*)$"
)
_OWN_PORT: Final = {"firstline serve": 8000, "firstline dev fake-provider": 9100}

_PRELUDE: Final = r"""
set -eE -o pipefail
exec 3>&2
declare -A _pids
trap 'printf "%s" "$BASH_COMMAND" >"$PAGE/command"' ERR
_stop() {
    local pid=${_pids[$1]:-}
    if [ -n "$pid" ]; then kill -TERM "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
}
_background() {  # name, port or nothing, command
    _stop "$1"
    (eval "exec env $3") >>"$PAGE/background.log" 2>&1 &
    _pids[$1]=$!
    if [ -z "$2" ]; then return; fi
    local tries=0
    until (exec 4<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; do
        tries=$((tries + 1))
        if ! kill -0 "${_pids[$1]}" 2>/dev/null || [ $tries -gt 1200 ]; then
            printf 'this does not listen on port %s: %s\n' "$2" "$3" >&2
            cat "$PAGE/background.log" >&2
            return 1
        fi
        sleep 0.05
    done
}
_block() { printf '%s' "$1" >"$PAGE/current"; exec >"$PAGE/$1.out" 2>"$PAGE/$1.err"; }
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a page printed, by the number of the block; `failed` says what went wrong."""

    printed: Mapping[int, str]
    told: Mapping[int, str]
    failed: str | None


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment."""
    with ExitStack() as stack:
        taken = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def run(blocks: Sequence[Block], *, folder: Path, variables: Mapping[str, str], replaced: Mapping[str, str]) -> Done:
    """Run the blocks of a page in a folder that looks like a checkout.

    Args:
        variables: further environment variables.
        replaced: addresses of other services as pages name them, and as they are here.
    """
    page = folder / ".page"
    page.mkdir()
    _like_a_checkout(folder)
    (page / ".curlrc").write_text('silent\nshow-error\nfail-with-body\nwrite-out = "\\n"\n')
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    (page / "script").write_text(script_of(blocks, ports=ports, replaced=replaced), encoding="utf-8")
    with (page / "session.err").open("w") as errors:
        process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", str(page / "script")],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            cwd=folder,
            env=_environment(page, {"FIRSTLINE_PORT": str(ports[8000]), **variables}),
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(PAGE_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    printed = {number: _as_written(_read(page / f"{number}.out"), ports) for number in range(len(blocks))}
    told = {number: _as_written(_read(page / f"{number}.err"), ports) for number in range(len(blocks))}
    return Done(printed, told, _failure(blocks, page, code))


def _like_a_checkout(folder: Path) -> None:
    """What pages read of a checkout. Neither the Makefile nor the real `.venv`: no page may change that."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        elif (ROOT / name).exists():
            shutil.copyfile(ROOT / name, folder / name)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").touch()
    for name in ("python", "firstline"):
        (programs / name).write_text(f'#!/bin/sh\nexec {quote(str(Path(sys.executable).parent / name))} "$@"\n')
        (programs / name).chmod(0o755)


def script_of(blocks: Sequence[Block], *, ports: Mapping[int, int], replaced: Mapping[str, str]) -> str:
    """The bash script of a page."""
    parts = [_PRELUDE]
    if needs_server(blocks):
        parts += ["_block start", _started("firstline serve", ports=ports)]
    for number, block in enumerate(blocks):
        text = _localised(block.text, ports=ports, replaced=replaced)
        parts.append(f"_block {number}")
        if block.file is not None:
            parts.append(f"mkdir -p -- {quote(str(Path(block.file).parent))}")
            parts.append(f"printf '%s' {quote(text)} >{quote(block.file)}")
        elif not block.runs:
            continue
        elif block.language == "python":
            parts.append(f"printf '%s' {quote(text)} >$PAGE/{number}.py; python $PAGE/{number}.py")
        elif block.background is not None:
            port = str(ports.get(int(block.background or 0), "")) if block.background else ""
            parts.append(f"_background {quote(block.place)} {quote(port)} {quote(f'bash -c {quote(text)}')}")
        else:
            lines = "\n".join(_started(line, ports=ports) for line in _logical_lines(text))
            parts.append(_expected_to_fail(lines) if block.fails is not None else lines)
    return "\n".join([*parts, "_block end", ""])


def needs_server(blocks: Sequence[Block]) -> bool:
    """Whether a page calls a server before it has started one."""
    for block in blocks:
        if block.runs and block.language == "sh":
            for line in _logical_lines(block.text):
                if (found := _SERVERS.match(line)) and "serve" in found["command"]:
                    return False
                if ":8000" in line:
                    return True
    return False


def _started(line: str, *, ports: Mapping[int, int]) -> str:
    """The line itself, or the start of a server in the background."""
    found = _SERVERS.match(line.split("  #")[0].rstrip())
    if found is None:
        return line
    command = found["command"].replace("make serve", "firstline serve")
    rest = found["rest"]
    given = re.search(r"--port[ =](\d+)", rest)
    port = int(given[1]) if given else ports.get(_OWN_PORT.get(command, 0))
    if port and not given:
        rest += f" --port {port}"
    name = f"{command} {port or ''}"
    return f"_background {quote(name)} {quote(str(port or ''))} {quote(found['settings'] + command + rest)}"


def _logical_lines(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def _localised(text: str, *, ports: Mapping[int, int], replaced: Mapping[str, str]) -> str:
    for name, value in replaced.items():
        text = text.replace(name, value)
    numbers = "|".join(map(str, ports))
    return re.sub(
        rf'((?:127\.0\.0\.1|localhost):|--port[ =]|--own-port \w+=|"127\.0\.0\.1", )({numbers})\b',
        lambda found: f"{found[1]}{ports[int(found[2])]}",
        text,
    )


def _as_written(output: str, ports: Mapping[int, int]) -> str:
    """An output with the ports that the page names."""
    for written, here in ports.items():
        output = output.replace(f"127.0.0.1:{here}", f"127.0.0.1:{written}")
    return output


def _expected_to_fail(lines: str) -> str:
    return (
        f"trap - ERR; set +e\n{lines}\n_status=$?\nset -e; "
        """trap 'printf "%s" "$BASH_COMMAND" >"$PAGE/command"' ERR\n"""
        'if [ $_status -eq 0 ]; then printf "this was to fail" >"$PAGE/command"; exit 1; fi'
    )


def _environment(page: Path, variables: Mapping[str, str]) -> dict[str, str]:
    known = {name for names in variable_names().values() for name in names}
    kept = {name: value for name, value in os.environ.items() if name not in known and not name.startswith(PREFIX)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    own = {"PATH": path, "PAGE": str(page), "CURL_HOME": str(page), "no_proxy": "*", "COLUMNS": "120"}
    return {**kept, **own, **variables}


def _failure(blocks: Sequence[Block], page: Path, code: int | None) -> str | None:
    current = _read(page / "current")
    if code == 0 and current == "end":
        return None
    place = blocks[int(current)].place if current.isdigit() else current
    why = "does not end" if code is None else f"failed with status {code}"
    said = "\n".join(
        text
        for name in (f"{current}.out", f"{current}.err", "session.err")
        if (text := _read(page / name)[-2_000:].strip())
    )
    return f"{place}: {_read(page / 'command') or 'the block'} {why}\n{said}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

"""Write the reference pages that follow from the code: `python tools/reference_docs.py [--write]`.

Without `--write` it says which pages differ and ends with status 1. Settings are written by `settings_doc.py`; metrics
and the pages of errors are written by hand and compared with the code by tests.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import typer

sys.path.insert(0, str(Path(__file__).parent))
from settings_doc import document as settings_page

from firstline.core.errors import CATALOGUE
from firstline.delivery.cli.program import NAME, program

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
OPENAPI: Final = ROOT / "tests" / "contract" / "openapi.json"
WRITTEN: Final = "This page is written by `python tools/reference_docs.py --write`. Do not edit it by hand.\n"

COMMANDS: Final = f"""\
# Commands and options

{WRITTEN}
[Command line](cli.md) explains the commands; `-h` prints the same as this page.
"""

ROUTES: Final = f"""\
# Routes

{WRITTEN}
[HTTP reference](http.md) explains the routes, with calls to paste; a running server has the same for machines at
`/openapi.json` and for people at `/docs`.

Under *key*, an empty cell means that the route needs none, and *yes* that it needs one, except for `/v1/decision` from
the same machine [in development](../operations.md#how-far-the-environment-is-trusted). Every answer of 400 and above
has a code with [a page of its own](../errors/index.md).
"""

# Groups understand what begins with none of their commands as the arguments of these.
UNNAMED: Final = frozenset({("backup", "make"), ("eval", "file")})

_INDEX_ROW: Final = re.compile(r"(^\| status \| code \| title \|\n\|---\|---\|---\|\n)((?:^\|.*\n)*)", re.M)


def pages() -> Mapping[Path, Callable[[], str]]:
    """Every page that follows from the code, with what it has to say."""
    return {
        DOCS / "reference" / "settings.md": settings_page,
        DOCS / "reference" / "commands.md": commands,
        DOCS / "reference" / "routes.md": routes,
        DOCS / "errors" / "index.md": error_index,
    }


def differing() -> list[Path]:
    """The pages that do not say what the code does."""
    return [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text()]


def commands() -> str:
    """Every command with its arguments and options, as the parser has them."""
    root = typer.main.get_command(program)
    return COMMANDS + "".join(_command_parts(root, (NAME,)))


def routes() -> str:
    """Every route, by the part of the contract that it belongs to."""
    document = json.loads(OPENAPI.read_text(encoding="utf-8"))
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            by_tag.setdefault(operation["tags"][0], []).append(_route(method, path, operation))
    head = "| route | what | key | parameters | body | answers |\n|---|---|---|---|---|---|\n"
    return ROUTES + "".join(f"\n## {tag}\n\n{head}{''.join(rows)}" for tag, rows in by_tag.items())


def error_index() -> str:
    """The index of errors with the table of all codes; the text around it stays."""
    text = (DOCS / "errors" / "index.md").read_text(encoding="utf-8")
    rows = "".join(
        f"| {error.status} | [`{error.code}`]({error.code}.md) | {error.title} |\n"
        for error in sorted(CATALOGUE, key=lambda error: (error.status, error.code))
    )
    return _INDEX_ROW.sub(lambda found: found[1] + rows, text)


def _command_parts(command: Any, names: Sequence[str]) -> Iterator[str]:
    if not getattr(command, "hidden", False) and len(names) > 1:
        yield from _one_command(command, names)
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        if not inner.hidden:
            yield from _command_parts(inner, (*names, name))


def _one_command(command: Any, names: Sequence[str]) -> Iterator[str]:
    if getattr(command, "commands", None) and not getattr(command, "invoke_without_command", False):
        return
    names = names[:-1] if tuple(names[1:]) in UNNAMED else names
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([*names, *(["[OPTIONS]"] if options else []), *(_argument(one) for one in arguments)])
    yield f"\n## {' '.join(names[1:])}\n\n<!-- example -->\n```text\n{usage}\n```\n"
    yield f"\n{_paragraphs(command.help or '')}\n"
    if rows := [_row(one) for one in (*arguments, *options) if one.name != "help"]:
        yield "\n| argument or option | meaning |\n|---|---|\n" + "".join(rows)


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    name += "..." if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
        opposite = "".join(f" / {one}" for one in parameter.secondary_opts)
        name = f"`{', '.join(parameter.opts)}{opposite}{value}`"
    return f"| {_cell(name)} | {_cell(' '.join((parameter.help or '').split()))}{_bounds(parameter)} |\n"


def _bounds(parameter: Any) -> str:
    kind, low, high = parameter.type_descriptor.annotation, parameter.min, parameter.max
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return f" One of {', '.join(f'`{member.value}`' for member in kind)}."
    if low is None and high is None:
        return ""
    if high is None:
        return f" At least {low:,}."
    return f" From {low:,} to {high:,}." if low is not None else f" At most {high:,}."


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").strip().split("\n\n"))


def _route(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [one for one in operation.get("parameters", ()) if one["in"] == "query"]
    names = ", ".join(f"`{one['name']}`" for one in parameters)
    kinds = ", ".join(operation.get("requestBody", {}).get("content", {}))
    key = "yes" if operation.get("security") else ""
    answers = ", ".join(operation["responses"])
    cells = (f"`{method.upper()} {path}`", operation["summary"], key, names, kinds.replace("application/", ""), answers)
    return "| " + " | ".join(map(_cell, cells)) + " |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        for path, text in pages().items():
            path.write_text(text(), encoding="utf-8")
    elif found := differing():
        sys.exit("these pages differ from the code: " + ", ".join(str(path.relative_to(ROOT)) for path in found))

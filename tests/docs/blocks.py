"""The fenced blocks of a page, with what the comments before them say; CONTRIBUTING.md describes the convention."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LANGUAGES: Final = frozenset(
    {"sh", "json", "text", "python", "yaml", "toml", "ini", "env", "sql", "mermaid", "promql", "dockerfile"}
)

_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.M | re.S)
_COMMENT: Final = re.compile(r"<!--(.*?)-->", re.S)
_HEADING: Final = re.compile(r"^#+ ", re.M)
_INSTRUCTION: Final = re.compile(r"(not run|fails|file|background|given|example)\b(?::\s*(.*))?", re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block, or the hidden shell of a `given` comment.

    Attributes:
        line: of the fence in the page, from 1.
        follows: whether the block before is an sh block of the same section, so that this one may be its answer.
        not_run: why it is not run.
        fails: why its last command ends with another status than 0.
        file: where it is saved instead of being run.
        background: whether it goes on while the next ones run, and the port that it listens on, if it does.
    """

    page: Path
    line: int
    language: str
    text: str
    follows: bool = False
    not_run: str | None = None
    fails: str | None = None
    file: str | None = None
    background: str | None = None
    example: bool = False
    hidden: bool = False

    @property
    def place(self) -> str:
        """Page and line, as an editor takes them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether the runner runs it."""
        return self.language in {"sh", "python"} and self.not_run is None and self.file is None


def pages() -> list[Path]:
    """Every page that is checked."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "training" / "README.md"]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order.

    Raises: ValueError when a comment before a block looks like an instruction and is none.
    """
    return list(_blocks(page, page.read_text(encoding="utf-8")))


def _blocks(page: Path, text: str) -> Iterator[Block]:
    end, before = 0, ""
    for fence in _FENCE.finditer(text):
        between = text[end : fence.start()]
        line = text.count("\n", 0, fence.start()) + 1
        follows = before == "sh" and not _HEADING.search(between)
        indent = fence["indent"]
        inner = re.sub(f"^{indent}", "", fence["text"], flags=re.M) if indent else fence["text"]
        block = Block(page, line, fence["language"], inner, follows)
        for comment in _COMMENT.finditer(between):
            said = _INSTRUCTION.fullmatch(comment[1].strip())
            if said and said[1] == "given":
                at = text.count("\n", 0, end + comment.start()) + 1
                yield Block(page, at, "sh", f"{said[2] or ''}\n", hidden=True)
        block = _with_instructions(block, between)
        yield block
        end, before = fence.end(), block.language
    for comment in _COMMENT.finditer(text[end:]):
        if comment[1].strip().startswith("given"):
            raise ValueError(f"{page}: a given comment stands before a block")


def _with_instructions(block: Block, between: str) -> Block:
    """The block as the comments that stand right before it say, with nothing but white space between."""
    rest = between.rstrip()
    while rest.endswith("-->"):
        start = rest.rindex("<!--")
        body = rest[start + 4 : -3].strip()
        rest = rest[:start].rstrip()
        said = _INSTRUCTION.fullmatch(body)
        if said is None or said[1] == "given":
            continue
        name, value = said[1].replace(" ", "_"), (said[2] or "").strip()
        if name == "example":
            block = replace(block, example=True)
        elif not value and name != "background":
            raise ValueError(f"{block.place}: {said[1]} needs a reason or a name after a colon")
        else:
            block = replace(block, **{name: value})
    return block

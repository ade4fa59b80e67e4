"""What mkdocs does not do by itself: pages from outside docs/, links to them, folders in the navigation, diagrams.

The pages under docs/ are read on code hosts as well, so their links are relative to the checkout. Here such a link
leads to the page that was made from the file, or becomes plain text where the file has no page.
"""

import hashlib
import logging
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
INCLUDED: Final[Mapping[str, str]] = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "LICENSE": "licence.md",
    "NOTICE": "notice.md",
    "training/README.md": "training.md",
    "evaluation/heldout/README.md": "heldout.md",
}
TITLES: Final = {"LICENSE": "Licence", "NOTICE": "Notice", "README.md": "Readme", "SECURITY.md": "Security"}

_ORIGIN: Final = {page: origin for origin, page in INCLUDED.items()}
_FENCED: Final = re.compile(r"(^ *```.*?^ *```[^\n]*$)", re.M | re.S)
_LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s#]*)(#[^()\s]*)?\)")
_MERMAID: Final = re.compile(r"```mermaid\n(.*?)```", re.S)
_TIGHT_LIST: Final = re.compile(r"^(?![-*] |\d+\. |[|>#<\s])(.+)\n(?=(?:[-*]|\d+\.) )", re.M)

log = logging.getLogger("mkdocs.hooks.firstline")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from files outside docs/."""
    for origin, page in INCLUDED.items():
        if (ROOT / origin).exists():
            files.append(File.generated(config, page, content=included(origin)))
    config.nav = list(_expanded(config.nav or [], files))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put links and diagrams in order, outside of fenced blocks; code hosts need no empty line before a list."""
    here = page.file.src_uri
    markdown = _MERMAID.sub(lambda found: diagram(found[1], page=here), markdown)
    parts = _FENCED.split(markdown)
    for place in range(0, len(parts), 2):
        text = _TIGHT_LIST.sub(r"\1\n\n", parts[place])
        parts[place] = _LINK.sub(lambda found: _link(found, page=here, files=files), text)
    return "".join(parts)


def included(origin: str) -> str:
    """A file outside docs/ as a page."""
    text = (ROOT / origin).read_text(encoding="utf-8")
    if origin.endswith(".md"):
        return f"---\ntitle: {TITLES[origin]}\n---\n\n{text}" if origin in TITLES else text
    return f"# {TITLES[origin]}\n\n```text\n{text}\n```\n"


def diagram(source: str, *, page: str) -> str:
    """The picture that tools/diagrams.py drew of a diagram, or its source where there is none yet."""
    name = f"assets/diagrams/{diagram_name(source)}"
    if not (ROOT / "docs" / name).exists():
        log.warning("%s: a diagram is not drawn; run tools/diagrams.py", page)
        return f"```text\n{source}```"
    return f"![Diagram]({_relative(name, page=page)}){{ .diagram }}"


def mermaid_sources(text: str) -> list[str]:
    """The diagrams of a page, as it is written."""
    return _MERMAID.findall(text)


def diagram_name(source: str) -> str:
    """The file of a diagram's picture; another source has another."""
    return f"{hashlib.sha256(source.encode()).hexdigest()[:12]}.svg"


def _link(found: "re.Match[str]", *, page: str, files: Files) -> str:
    mark, text, target, fragment = found[1], found[2], found[3], found[4] or ""
    if not target or "://" in target or target.startswith("mailto:"):
        return found[0]
    origin = _ORIGIN.get(page, f"docs/{page}")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    if wanted in INCLUDED:
        wanted = INCLUDED[wanted]
    elif wanted.startswith("docs/"):
        wanted = wanted.removeprefix("docs/")
    elif (ROOT / wanted).exists():
        return text
    if files.get_file_from_path(wanted) is None:
        return found[0]
    return f"{mark}[{text}]({_relative(wanted, page=page)}{fragment})"


def _relative(target: str, *, page: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def _expanded(nav: list[Any], files: Files) -> Iterator[Any]:
    """The navigation with every folder as its pages, and without files that do not exist."""
    known = {file.src_uri for file in files.documentation_pages()}
    named = set(_named(nav))

    def walk(entries: list[Any]) -> Iterator[Any]:
        for entry in entries:
            if isinstance(entry, dict):
                for title, value in entry.items():
                    if isinstance(value, list):
                        if inner := list(walk(value)):
                            yield {title: inner}
                    elif value in known:
                        yield entry
            elif entry.endswith("/"):
                rest = {uri for uri in known if posixpath.dirname(uri) + "/" == entry} - named
                yield from sorted(rest, key=lambda uri: (posixpath.basename(uri) != "index.md", uri))
            elif entry in known:
                yield entry

    return walk(nav)


def _named(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from _named(value) if isinstance(value, list) else [value]

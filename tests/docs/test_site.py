"""The site is built strictly, without a network, and its pages load nothing from elsewhere."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from blocks import ROOT

LOADS: Final = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
    "object": "data",
    "use": "href",
}
BUILD_S: Final = 120


class Assets(HTMLParser):
    """What a page loads, and the links on it."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.diagrams = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if address := values.get(LOADS.get(tag, "")):
            self.loaded.append(address)
        self.diagrams += "mermaid" in (values.get("class") or "").split()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder: Path = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    """Every page of the built site, by its path."""
    return {str(path.relative_to(site)): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


def test_pages_load_nothing_from_elsewhere(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        found = Assets()
        found.feed(text)
        assert [one for one in found.loaded if re.match(r"(https?:)?//", one)] == [], name
        assert found.diagrams == 0, f"{name}: a diagram would be drawn by a script from elsewhere"


def test_styles_load_nothing_from_elsewhere(site: Path) -> None:
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_every_page_is_in_the_navigation(pages: dict[str, str]) -> None:
    home = pages["index.html"]
    linked = {one.split("#")[0] for one in re.findall(r'class="md-nav__link[^"]*"[^>]*href="([^"]+)"', home)}
    linked |= set(re.findall(r'href="([^":#]+\.html)[^"]*" class="md-nav__link', home))
    missing = pages.keys() - linked - {"index.html", "404.html"}
    assert missing == set()


def test_every_page_that_the_navigation_names_exists() -> None:
    hooks = (ROOT / "tools" / "docs_hooks.py").read_text(encoding="utf-8")
    for entry in _entries(yaml.load(_without_tags(ROOT / "mkdocs.yml"), Loader=yaml.SafeLoader)["nav"]):
        assert (ROOT / "docs" / entry).exists() or f'"{entry}"' in hooks, entry


def test_pages_from_outside_the_folder_are_part_of_the_site_and_linked(pages: dict[str, str]) -> None:
    assert 'href="changelog.html"' in pages["readme.html"]
    assert "guides/own-rules.html" in pages["readme.html"]
    assert 'href="../training.html#' in pages["guides/minilm.html"]


def test_search_finds_pages_without_a_server(site: Path) -> None:
    script = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    index: dict[str, Any] = json.loads(script.removeprefix("var __index = "))
    assert any("FIRSTLINE_SPOOL_DIR" in one["text"] for one in index["docs"])


def _without_tags(path: Path) -> str:
    return re.sub(r"!!python/\S+", "", path.read_text(encoding="utf-8"))


def _entries(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(value, list):
                yield from _entries(value)
            elif isinstance(value, str):
                yield value

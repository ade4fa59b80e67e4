"""Draw the mermaid diagrams of the pages into docs/assets/diagrams: `python tools/diagrams.py`. Needs npm and chromium.

Code hosts draw the diagrams by themselves; the site shows these pictures, so that it loads nothing from elsewhere. The
name of a picture is a hash of its source: one that is no longer used is removed.
"""

import html
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))
from docs_hooks import INCLUDED, ROOT, diagram_name, mermaid_sources

FOLDER: Final = ROOT / "docs" / "assets" / "diagrams"
MERMAID: Final = "mermaid@11"
DRAW_S: Final = 60
PAGE: Final = """<!doctype html><meta charset="utf-8"><pre class="mermaid">{source}</pre>
<script src="package/dist/mermaid.min.js"></script>
<script>mermaid.initialize({{startOnLoad: true, theme: "neutral", fontFamily: "sans-serif", deterministicIds: true,
  flowchart: {{htmlLabels: false}}}})</script>"""


def main() -> None:
    """Draw what is missing and remove what is not used."""
    pages = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / origin for origin in INCLUDED if origin.endswith(".md"))]
    wanted = {diagram_name(source): source for page in pages for source in sources(page)}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.svg"):
        if old.name not in wanted:
            old.unlink()
    missing = {name: source for name, source in wanted.items() if not (FOLDER / name).exists()}
    if not missing:
        return
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None or shutil.which("npm") is None:
        sys.exit("drawing diagrams needs npm and chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["npm", "pack", "--silent", MERMAID], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        shutil.unpack_archive(next(folder.glob("*.tgz")), folder)
        for picture, source in missing.items():
            (FOLDER / picture).write_text(drawn(source, folder=folder, browser=browser), encoding="utf-8")
            print(f"drew {picture}")


def sources(page: Path) -> list[str]:
    """The diagrams of a page."""
    return mermaid_sources(page.read_text(encoding="utf-8"))


def drawn(source: str, *, folder: Path, browser: str) -> str:
    """A diagram as SVG."""
    (folder / "page.html").write_text(PAGE.format(source=html.escape(source)), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run(
        [browser, *flags, (folder / "page.html").as_uri()], capture_output=True, text=True, timeout=DRAW_S, check=True
    )
    found = re.search(r"<svg.*</svg>", done.stdout, re.S)
    if found is None or "Syntax error" in found[0]:
        sys.exit(f"this cannot be drawn:\n{source}")
    return found[0].replace("<br>", "<br/>") + "\n"


if __name__ == "__main__":
    main()

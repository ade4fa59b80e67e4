"""Write every dashboard: `python -m dashboards [DIR]`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dashboards.api_overview import API_OVERVIEW
from dashboards.background_work import BACKGROUND_WORK
from dashboards.limits import LIMITS
from dashboards.panels import Dashboard
from dashboards.providers import PROVIDERS
from dashboards.quality import QUALITY
from dashboards.rendering import rendered
from dashboards.system import SYSTEM

ALL: Final[tuple[Dashboard, ...]] = (API_OVERVIEW, PROVIDERS, LIMITS, SYSTEM, QUALITY, BACKGROUND_WORK)
FOLDER: Final = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards"


def files(*, docs_url: str | None = None) -> Mapping[str, str]:
    """Names and contents of all files.

    Args:
        docs_url: where the documentation is served; panels then link to it instead of naming a page.
    """
    return {f"{one.name}.json": rendered(one, docs_url=docs_url) for one in ALL}


def main() -> None:
    """Write them, and remove what is none of them any more."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    docs_url = os.environ.get("DOCS_URL", "").rstrip("/") or None
    folder.mkdir(parents=True, exist_ok=True)
    written = files(docs_url=docs_url)
    for path in folder.glob("*.json"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

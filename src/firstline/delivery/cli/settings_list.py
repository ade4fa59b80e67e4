"""`firstline settings`: every variable, its value, where the value is from, and what it means."""

import os
import sys
from pathlib import Path
from typing import Any

import orjson
from dotenv import dotenv_values
from pydantic import SecretStr
from rich.text import Text

from firstline.delivery.cli.terminal import output, paragraph, printable
from firstline.settings import Settings, load_settings, variable_names

ENV_FILE = Path(".env")


def show_settings(*, as_json: bool) -> None:
    """Print all settings; a secret is only said to be set.

    Raises: SettingsInvalid.
    """
    settings = load_settings(env_file=ENV_FILE)
    found = [_setting(settings, field, names) for field, names in variable_names().items()]
    if as_json:
        sys.stdout.write(orjson.dumps({"settings": found}, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    console = output()
    for setting in found:
        value = "not set" if setting["value"] in (None, "") else printable(str(setting["value"]))
        if isinstance(setting["value"], bool):
            value = value.lower()
        is_default = setting["from"] == "default"
        line = Text.assemble(
            (setting["name"], "bold"),
            " = ",
            (value, "" if is_default else "green"),
            ("" if is_default else f"  from {setting['from']}", "dim"),
        )
        console.print(line, soft_wrap=True)
        also = f" Also read: {', '.join(setting['also'])}." if setting["also"] else ""
        paragraph(console, "", f"{setting['description']}{also}", indent=4, width=0, style="dim")


def _setting(settings: Settings, field: str, names: tuple[str, ...]) -> dict[str, Any]:
    value = getattr(settings, field)
    if isinstance(value, SecretStr):
        value = "(set, not shown)"
    elif value is not None and not isinstance(value, bool | int | float):
        value = str(value)
    return {
        "name": names[0],
        "also": list(names[1:]),
        "value": value,
        "from": _origin(names),
        "description": Settings.model_fields[field].description or "",
    }


def _origin(names: tuple[str, ...]) -> str:
    for name in names:
        if any(known.upper() == name and value for known, value in os.environ.items()):
            return "the environment"
    in_file = dotenv_values(ENV_FILE) if ENV_FILE.is_file() else {}
    if any(known.upper() in names and value for known, value in in_file.items()):
        return str(ENV_FILE)
    return "default"

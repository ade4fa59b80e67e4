"""`firstline settings`: every variable, its value, where the value is from, and what it means."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from dotenv import dotenv_values
from pydantic import SecretStr
from rich.text import Text

from firstline.delivery.cli.terminal import output, paragraph, printable
from firstline.secret_files import SUFFIX
from firstline.settings import Settings, load_settings, secret_names, variable_names

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
            ("" if is_default else f"  from {printable(setting['from'])}", "dim"),
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
        "from": _origin(names, files=[name + SUFFIX for name in names] if field in secret_names() else []),
        "description": Settings.model_fields[field].description or "",
    }


def _origin(names: Sequence[str], *, files: Sequence[str]) -> str:
    in_file = dotenv_values(ENV_FILE) if ENV_FILE.is_file() else {}
    for origin, variables in (("the environment", os.environ), (str(ENV_FILE), in_file)):
        given = {name.upper(): value for name, value in variables.items() if value}
        if any(name in given for name in names):
            return origin
        for name in files:
            if name in given:
                return f"file {given[name]} ({name})"
    return "default"

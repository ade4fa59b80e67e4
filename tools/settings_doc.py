"""Write docs/reference/settings.md from the settings themselves: `python tools/settings_doc.py [--write]`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from firstline.settings import Settings, variable_names

TARGET: Final = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"

HEAD: Final = """\
# Settings

This page is written by `python tools/settings_doc.py --write`. Do not edit it by hand.

Settings come from environment variables and from a file named `.env` in the working directory. The
environment wins over the file, and the options of `firstline serve` win over both. Settings are read once, at
the start: a change needs a restart. An empty value counts as not set.

An unknown name that begins with `FIRSTLINE_`, or a value that cannot be used, stops the start with a sentence
that names the variable and never shows the value.

**Secrets from files.** A variable whose value is called a secret below can be given as a file instead, as Docker and
Kubernetes hand secrets over: its name with `_FILE` at the end names the file, such as
`SECRET_KEY_FILE=/run/secrets/secret_key`. The file holds one line of UTF-8, at most 64 KiB; a line break at its end is
not part of the secret. To give both the variable and the file is a mistake. There is no option of the command line for
a secret: others on the machine could read it in the list of processes.

Truth values are `true` and `false`; `1` and `0`, `yes` and `no`, `on` and `off` work too.
"""

SECTIONS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("Server", "", ("environment", "host", "port", "data_dir", "trusted_proxies", "drain_seconds")),
    (
        "TLS and browsers",
        "See [security](../guides/security.md).",
        ("tls_cert", "tls_key", "cors_origins"),
    ),
    (
        "Database",
        "See [PostgreSQL](../guides/postgresql.md).",
        ("database_url", "database_timeout_seconds", "database_connections"),
    ),
    (
        "When the database is away",
        "See [the spool](../guides/spool.md).",
        ("spool_dir", "spool_mb", "stale_keys_seconds"),
    ),
    (
        "Redis",
        "See [limits that several servers share](../guides/redis.md).",
        ("redis_url", "redis_host", "redis_port", "redis_db", "replicas"),
    ),
    ("Jobs", "See [jobs](../guides/jobs.md).", ("job_processes", "worker_port", "job_keep_days")),
    ("What is stored", "", ("history", "history_text", "secret_key")),
    ("Decisions", "", ("rules_dir", "model_file", "low_confidence_threshold", "review_probability")),
    (
        "Limits",
        "The limits of the plans themselves are part of the product; see [the HTTP reference](http.md).",
        ("rate_limit_hourly", "rate_limit_daily", "registrations_per_hour", "failed_logins_per_minute"),
    ),
    (
        "Language models",
        "See [setting up providers](../guides/providers.md). Most of these can be set by account as well.",
        (
            "providers",
            "gemini_api_key",
            "gemini_model",
            "gemini_base_url",
            "openai_api_key",
            "openai_model",
            "openai_base_url",
            "anthropic_api_key",
            "anthropic_model",
            "anthropic_base_url",
            "compatible_base_url",
            "compatible_api_key",
            "compatible_model",
            "compatible_structured",
            "ai_mode",
            "ai_threshold",
            "ai_timeout_seconds",
            "ai_late_seconds",
            "ai_temperature",
            "ai_max_tokens",
            "ai_max_concurrent",
            "ai_redaction",
            "ai_daily_budget_usd",
            "ai_monthly_budget_usd",
            "ai_prices",
            "ai_cache_entries",
            "ai_cache_seconds",
        ),
    ),
    ("Webhooks", "See [webhooks](../guides/webhooks.md).", ("webhook_retry_seconds",)),
    (
        "Traces and reports of errors",
        "See [traces](../guides/traces.md). Other variables of OpenTelemetry for the exporter, such as "
        "`OTEL_EXPORTER_OTLP_CERTIFICATE` and `OTEL_EXPORTER_OTLP_COMPRESSION`, are honoured from the environment.",
        (
            "otlp_endpoint",
            "otlp_headers",
            "service_name",
            "resource_attributes",
            "traces_sampler",
            "traces_sampler_arg",
            "trust_traceparent",
            "otel_sdk_disabled",
            "sentry_dsn",
        ),
    ),
    ("Logs, metrics and links", "", ("log_level", "access_log", "metrics_token", "upgrade_url", "docs_url")),
)

_TYPES: Final = {
    "bool": "true or false",
    "int": "whole number",
    "float": "number",
    "Path": "path",
    "SecretStr": "text, secret",
}


def document() -> str:
    """The whole page.

    Raises: LookupError when a setting is in no section, or in two.
    """
    named = [field for _, _, fields in SECTIONS for field in fields]
    if sorted(named) != sorted(Settings.model_fields):
        raise LookupError(f"sections and settings differ: {sorted(set(named) ^ set(Settings.model_fields))}")
    parts = [HEAD]
    for title, text, fields in SECTIONS:
        rows = [f"## {title}\n", *([f"{text}\n"] if text else [])]
        rows += ["| variable | value | default | meaning |", "|---|---|---|---|"]
        rows += [_row(field, Settings.model_fields[field]) for field in fields]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(field: str, info: FieldInfo) -> str:
    first, *others = variable_names()[field]
    names = f"`{first}`" + "".join(f"<br>or `{other}`" for other in others)
    cells = (names, _value(info), _default(info.default), info.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(info: FieldInfo) -> str:
    annotation: Any = info.annotation
    kinds = [kind for kind in getattr(annotation, "__args__", (annotation,)) if kind is not type(None)]
    kind = kinds[0]
    if issubclass(kind, StrEnum):
        return ", ".join(f"`{member.value}`" for member in kind)
    bounds: dict[str, Any] = {}
    for constraint in info.metadata:
        for name in ("ge", "gt", "le", "lt", "max_length", "pattern"):
            if getattr(constraint, name, None) is not None:
                bounds[name] = getattr(constraint, name)
    if "pattern" in bounds:
        return ", ".join(f"`{choice}`" for choice in bounds["pattern"].strip("^$()").split("|"))
    text = _TYPES.get(kind.__name__, "text")
    if "ge" in bounds:
        text += f" from {bounds['ge']:,}"
    if "gt" in bounds:
        text += f" above {bounds['gt']:,}"
    if "le" in bounds:
        text += f" to {bounds['le']:,}" if "ge" in bounds else f", at most {bounds['le']:,}"
    if "max_length" in bounds:
        text += f", at most {bounds['max_length']} characters"
    return text


def _default(value: object) -> str:
    if value is None or value == "":
        return "not set"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    return f"`{value}`"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        TARGET.write_text(document(), encoding="utf-8")
    else:
        sys.stdout.write(document())

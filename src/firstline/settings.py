"""Environment → one frozen `Settings`; every variable is named here and documented in docs/reference/settings.md.

The published names of the two contracts (`GEMINI_API_KEY`, `RATE_LIMIT_HOURLY`, …) are honoured as they are;
everything else begins with `FIRSTLINE_`. `.env` in the working directory is read; the environment wins. An unknown
`FIRSTLINE_` name or an unusable value raises `SettingsInvalid` with one sentence per mistake. A secret may be read from
the file that `NAME_FILE` names.
"""

import difflib
import os
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from firstline.core.completion import Mode
from firstline.core.doubt import ASSURANCE
from firstline.core.origins import origins_of
from firstline.secret_files import SUFFIX, read_secrets

PREFIX: Final = "FIRSTLINE_"


class SettingsInvalid(ValueError):
    """Settings that firstline cannot start with; the message is for people and holds no secret."""


class Environment(StrEnum):
    """How far the surroundings are trusted."""

    AUTO = "auto"
    DEVELOPMENT = "development"
    PRODUCTION = "production"


def _published(name: str) -> AliasChoices:
    return AliasChoices(name, f"{PREFIX}{name}")


class Settings(BaseSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    environment: Environment = Field(
        Environment.AUTO,
        validation_alias=AliasChoices("FIRSTLINE_ENVIRONMENT", "FLASK_ENV"),
        description="`development` allows the demo keys and keyless decision calls from loopback, and is refused on an "
        "address that others can reach; `production` never does; `auto` is development on loopback, else production. "
        "The published name is FLASK_ENV.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(Path("var"), description="Folder for the database; made if it is missing.")
    database_url: SecretStr | None = Field(
        None,
        description="postgresql://user:password@host:5432/name for PostgreSQL, which several servers may share; "
        "without one the database is a SQLite file in the data folder.",
    )
    database_timeout_seconds: float = Field(
        5, ge=0.5, le=60, description="How long a verdict may wait to be stored on PostgreSQL before the answer is 503."
    )
    database_connections: int = Field(
        8, ge=2, le=200, description="Most connections of a server to PostgreSQL, besides two for verdicts and news."
    )
    spool_dir: Path | None = Field(
        None,
        description="Folder, best on a volume of its own, where verdicts are kept while the database is away, and from "
        "which they are stored when it is back. Without one they are refused with 503 meanwhile.",
    )
    spool_mb: int = Field(
        256, ge=1, le=1_000_000, description="Most megabytes of that folder; beyond it verdicts are refused with 503."
    )
    stale_keys_seconds: int = Field(
        300,
        ge=0,
        le=86_400,
        description="How long keys that were known before stay valid while the database cannot be asked.",
    )
    drain_seconds: float = Field(
        0,
        ge=0,
        le=600,
        description="How long `/health/ready` answers 503 after SIGTERM while requests are still served, so that a "
        "load balancer notices.",
    )
    job_processes: int | None = Field(
        None,
        ge=0,
        le=1_024,
        description="Processes that work on jobs beside the server; one per core by default. 0 leaves them to "
        "`firstline worker`.",
    )
    worker_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port on which `firstline worker` answers `/metrics` and `/health/live`, at the address of "
        "FIRSTLINE_HOST; 0 takes a free one. Without one it listens nowhere.",
    )
    job_keep_days: int = Field(
        7, ge=1, le=3_650, description="Days that a job, its upload and its results are kept after it has ended."
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least severe line logged.")
    access_log: bool = Field(True, description="One JSON line per request: who, what, when, status.")
    history: bool = Field(True, description="Store tickets and verdicts.")
    history_text: bool = Field(True, description="Store the text of tickets with their verdicts.")
    rules_dir: Path | None = Field(None, description="Folder of your own rule packs, read again when a file changes.")
    model_file: Path | None = Field(None, description="A model artefact to use instead of the shipped one.")
    trusted_proxies: str = Field(
        "",
        description="Comma-separated addresses or networks whose X-Forwarded-For is believed, such as 10.0.0.0/8.",
    )
    tls_cert: Path | None = Field(
        None,
        description="File with a certificate, or a chain of them, in PEM format: the server then speaks TLS. "
        "Taken anew when it changes.",
    )
    tls_key: Path | None = Field(None, description="File with the private key of that certificate, no passphrase.")
    cors_origins: str = Field(
        "",
        max_length=10_000,
        description="Comma-separated origins of web pages that may call from a browser, such as "
        "https://app.example.com; `*` for all of them. Closed without one.",
    )
    metrics_token: SecretStr | None = Field(None, description="Bearer token that /metrics then asks for.")
    registrations_per_hour: int = Field(20, ge=1, le=100_000, description="Registrations an hour from one address.")
    failed_logins_per_minute: int = Field(
        60, ge=1, le=1_000_000, description="Requests a minute from one address that may carry a wrong key."
    )
    review_probability: float = Field(
        0.5, ge=0, le=1, description="A verdict whose probability is under it is flagged for review."
    )
    upgrade_url: str = Field("/v1/pricing", max_length=500, description="Where a 402 answer sends people to subscribe.")
    docs_url: str = Field(
        "/docs/errors", max_length=500, description="Where the pages of error codes lie; this server has short ones."
    )

    secret_key: SecretStr | None = Field(
        None,
        validation_alias=_published("SECRET_KEY"),
        description="Seals what is stored and secret: 32 random bytes or more (`openssl rand -hex 32`); "
        "comma-separated, newest first.",
    )
    rate_limit_hourly: int | None = Field(
        None,
        ge=1,
        le=10**9,
        validation_alias=_published("RATE_LIMIT_HOURLY"),
        description="Overrides the classifier free plan's hour.",
    )
    rate_limit_daily: int | None = Field(
        None,
        ge=1,
        le=10**9,
        validation_alias=_published("RATE_LIMIT_DAILY"),
        description="Overrides the classifier free plan's day.",
    )
    low_confidence_threshold: float = Field(
        0.4,
        ge=0,
        le=1,
        validation_alias=_published("LOW_CONFIDENCE_THRESHOLD"),
        description="A decision whose score is under it goes one step up and is flagged for review.",
    )
    providers: str = Field(
        "gemini,openai,anthropic,compatible",
        pattern="^[a-z]+( *, *[a-z]+)*$",
        description="Order in which language models are asked; those without a key, or for `compatible` without a base "
        "URL, are left out.",
    )
    gemini_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        description="Key for Gemini; with one, messages that the local model is unsure of are sent there, masked.",
    )
    gemini_model: str = Field(
        "gemini-3.5-flash-lite",
        validation_alias=_published("GEMINI_MODEL"),
        description="Model, or several with commas: the first is asked, accounts may choose the others.",
    )
    gemini_base_url: str | None = Field(
        None, validation_alias=_published("GEMINI_BASE_URL"), description="Where Gemini is asked, if not at Google's."
    )
    openai_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("OPENAI_API_KEY"), description="Key for OpenAI."
    )
    openai_model: str = Field("gpt-6-luna", validation_alias=_published("OPENAI_MODEL"), description="As for Gemini.")
    openai_base_url: str | None = Field(
        None, validation_alias=_published("OPENAI_BASE_URL"), description="Where OpenAI is asked, if not at its own."
    )
    anthropic_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("ANTHROPIC_API_KEY"), description="Key for Anthropic."
    )
    anthropic_model: str = Field(
        "claude-haiku-5-5", validation_alias=_published("ANTHROPIC_MODEL"), description="As for Gemini."
    )
    anthropic_base_url: str | None = Field(
        None,
        validation_alias=_published("ANTHROPIC_BASE_URL"),
        description="Where Anthropic is asked, if not at its own.",
    )
    compatible_base_url: str | None = Field(
        None,
        description="Base URL of an endpoint that speaks OpenAI's chat completions (Ollama, vLLM, Azure, OpenRouter), "
        "such as http://127.0.0.1:11434/v1.",
    )
    compatible_api_key: SecretStr | None = Field(None, description="Key for that endpoint, if it wants one.")
    compatible_model: str = Field("", description="Model of that endpoint; no default.")
    compatible_structured: bool = Field(
        True, description="Whether that endpoint knows JSON schemas; otherwise the schema is told in the prompt."
    )
    ai_mode: Mode = Field(
        Mode.UNCERTAIN,
        validation_alias=_published("AI_MODE"),
        description="`uncertain` asks a language model when the local answer is not sure, `always` whenever no rule "
        "has decided. Accounts and requests may say otherwise. `never` opens no provider for anybody.",
    )
    ai_threshold: float = Field(
        ASSURANCE,
        ge=0,
        le=1,
        description="Local assurance from which on no language model is asked.",
    )
    ai_late_seconds: float = Field(
        20, ge=0, le=600, description="How long after the deadline an answer is waited for, to revise the verdict."
    )
    ai_max_concurrent: int = Field(64, ge=1, le=10_000, description="Calls of one model at once.")
    ai_cache_entries: int = Field(
        10_000, ge=0, le=10_000_000, description="Answers kept for the same message of the same account; 0 for none."
    )
    ai_cache_seconds: float = Field(3_600, ge=0, le=2_592_000, description="How long such an answer is kept.")
    ai_redaction: bool = Field(
        True, description="Mask e-mail addresses, numbers, keys and the like before a message leaves."
    )
    ai_daily_budget_usd: float | None = Field(
        None, ge=0, le=1_000_000, description="What each account may spend on language models in a UTC day."
    )
    ai_monthly_budget_usd: float | None = Field(None, ge=0, le=1_000_000, description="The same for a calendar month.")
    ai_prices: str = Field(
        "",
        max_length=5_000,
        description="Prices of your own, US dollars per million tokens in and out: "
        "`compatible/llama=0/0, openai/gpt-6-luna=0.1/0.5`. Others come from a table in the package.",
    )
    ai_temperature: float = Field(
        0.2,
        ge=0,
        le=2,
        validation_alias=_published("AI_TEMPERATURE"),
        description="Sampling temperature for language models; those that have none ignore it.",
    )
    ai_max_tokens: int = Field(
        500,
        ge=16,
        le=100_000,
        validation_alias=_published("AI_MAX_TOKENS"),
        description="Most tokens of a language model's answer.",
    )
    ai_timeout_seconds: float = Field(
        10,
        ge=0.05,
        le=600,
        validation_alias=_published("AI_TIMEOUT_SECONDS"),
        description="Seconds from a request's arrival by which it is answered, whatever providers do.",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="redis://host:6379/0, or rediss:// with TLS, with user and password where it wants them: servers "
        "that share a database count limits there together. Valkey works too.",
    )
    replicas: int = Field(
        1,
        ge=1,
        le=10_000,
        description="How many servers share the database; each gets so much less of a quota while Redis is away. "
        "Found out by themselves while Redis is there.",
    )
    webhook_retry_seconds: str = Field(
        "5,300,1800,7200,18000,36000,36000",
        max_length=200,
        description="Waits between attempts to deliver an event, in seconds with commas; after the last one it is "
        "given up.",
    )
    redis_host: str | None = Field(
        None,
        validation_alias=_published("REDIS_HOST"),
        description="Host of Redis, where FIRSTLINE_REDIS_URL is not set.",
    )
    redis_port: int = Field(
        6379,
        ge=1,
        le=65_535,
        validation_alias=_published("REDIS_PORT"),
        description="Its port.",
    )
    redis_db: int = Field(
        0, ge=0, le=1_000, validation_alias=_published("REDIS_DB"), description="Its numbered database."
    )

    otlp_endpoint: str | None = Field(
        None,
        max_length=500,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "FIRSTLINE_OTLP_ENDPOINT"),
        description="Base URL of a collector of traces that takes OTLP over HTTP, such as http://127.0.0.1:4318. "
        "Needs the extra `telemetry`.",
    )
    otlp_headers: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_HEADERS", "FIRSTLINE_OTLP_HEADERS"),
        description="Headers for the collector: `name=value`, several with commas.",
    )
    service_name: str = Field(
        "firstline",
        max_length=100,
        validation_alias=AliasChoices("OTEL_SERVICE_NAME", "FIRSTLINE_SERVICE_NAME"),
        description="What this server is called in traces.",
    )
    resource_attributes: str = Field(
        "",
        max_length=2_000,
        validation_alias=AliasChoices("OTEL_RESOURCE_ATTRIBUTES", "FIRSTLINE_RESOURCE_ATTRIBUTES"),
        description="What else traces say of this server, such as `deployment.environment.name=production`.",
    )
    traces_sampler: str = Field(
        "parentbased_always_on",
        pattern="^(always_on|always_off|traceidratio|parentbased_always_on|parentbased_always_off|parentbased_traceidratio)$",
        validation_alias=AliasChoices("OTEL_TRACES_SAMPLER", "FIRSTLINE_TRACES_SAMPLER"),
        description="Which requests are traced.",
    )
    traces_sampler_arg: float = Field(
        1,
        ge=0,
        le=1,
        validation_alias=AliasChoices("OTEL_TRACES_SAMPLER_ARG", "FIRSTLINE_TRACES_SAMPLER_ARG"),
        description="Part of the requests that `traceidratio` traces.",
    )
    trust_traceparent: bool = Field(
        False,
        description="Whether a request that its caller traces is traced here too, whatever the sampler says. Only "
        "where the callers are yours.",
    )
    otel_sdk_disabled: bool = Field(
        False,
        validation_alias=AliasChoices("OTEL_SDK_DISABLED", "FIRSTLINE_OTEL_SDK_DISABLED"),
        description="Trace nothing, whatever else is set.",
    )
    sentry_dsn: SecretStr | None = Field(
        None,
        validation_alias=_published("SENTRY_DSN"),
        description="Where faults are reported, as Sentry and what is compatible with it give it. Needs the extra "
        "`telemetry`.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parts = urlsplit(value)
                usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
                usable = usable and value.isascii() and value.isprintable() and not set(value) & set(" @?#")
            except ValueError:
                usable = False
            if not usable:
                raise ValueError("it must be a URL such as http://127.0.0.1:4318, without a user or a query")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("it must begin with redis:// or rediss://")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("it must begin with postgresql://")
        return value

    @field_validator("webhook_retry_seconds")
    @classmethod
    def _waits(cls, value: str) -> str:
        try:
            _delays(value)
        except ValueError:
            raise ValueError("must be at most 20 numbers from 0.1 to 86400 with commas") from None
        return value

    @property
    def webhook_delays_s(self) -> tuple[float, ...]:
        """Waits between attempts to deliver an event."""
        return _delays(self.webhook_retry_seconds)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        origins_of(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in filter(None, (part.strip() for part in value.split(","))):
            try:
                ip_network(part, strict=False)
            except ValueError:
                raise ValueError(f"'{part}' is no address or network") from None
        return value


def _delays(text: str) -> tuple[float, ...]:
    """Raises: ValueError."""
    delays = tuple(float(part) for part in text.split(","))
    if not all(0.1 <= delay <= 86_400 for delay in delays) or len(delays) > 20:
        raise ValueError
    return delays


def variable_names() -> dict[str, tuple[str, ...]]:
    """The environment variables that are read, by field; the first name is the documented one."""
    names: dict[str, tuple[str, ...]] = {}
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        if isinstance(alias, AliasChoices):
            names[field] = tuple(str(choice) for choice in alias.choices)
        else:
            names[field] = (f"{PREFIX}{field.upper()}",)
    return names


def secret_names() -> dict[str, tuple[str, ...]]:
    """Those of `variable_names` that hold secrets; each can be given as a file by its name and `_FILE`."""
    return {
        field: names
        for field, names in variable_names().items()
        if SecretStr in getattr(Settings.model_fields[field].annotation, "__args__", ())
    }


def known_names() -> frozenset[str]:
    """Every name that a variable of firstline's may have, in capitals; files of secrets included."""
    plain = {name for names in variable_names().values() for name in names}
    return frozenset(plain | {name + SUFFIX for names in secret_names().values() for name in names})


def load_settings(*, env_file: Path | None = Path(".env"), **overrides: Any) -> Settings:
    """Read the environment and the file, under the given values.

    Args:
        env_file: a dotenv file that may be missing; None for none.
        overrides: fields that the caller sets, such as those of the command line; None means not given.
    Raises: SettingsInvalid.
    """
    unknown = _unknown_names(env_file) or _undecodable(env_file)
    if unknown:
        raise SettingsInvalid(" ".join(unknown))
    given = {name: value for name, value in overrides.items() if value is not None}
    from_files, mistakes = read_secrets(secret_names(), given=_variables(env_file))
    if mistakes:
        raise SettingsInvalid(" ".join(mistakes))
    try:
        return Settings(_env_file=env_file, **{**from_files, **given})
    except ValidationError as error:
        raise SettingsInvalid(" ".join(_sentence(dict(found)) for found in error.errors())) from None
    except (SettingsError, UnicodeDecodeError, OSError) as error:
        raise SettingsInvalid(f"The settings cannot be read ({type(error).__name__}).") from None


def _unknown_names(env_file: Path | None) -> list[str]:
    known = known_names()
    try:
        variables = _variables(env_file)
    except (UnicodeDecodeError, OSError):
        return [f"{env_file} cannot be read as UTF-8 text."]
    sentences = []
    for name in sorted(variables):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            sentences.append(f"{name} is not a setting of firstline{hint}")
    return sentences


def _undecodable(env_file: Path | None) -> list[str]:
    """Sentences about settings whose bytes are no UTF-8, which Python holds as halves of surrogate pairs."""
    known = {name for names in variable_names().values() for name in names}
    return [
        f"{name}: it is not UTF-8 text."
        for name, value in sorted(_variables(env_file).items())
        if name in known and value and any("\ud800" <= character <= "\udfff" for character in value)
    ]


def _variables(env_file: Path | None) -> dict[str, str | None]:
    """Every variable by its name in capitals; the environment wins over the file.

    Raises: UnicodeDecodeError, OSError.
    """
    in_file = dotenv_values(env_file) if env_file and env_file.is_file() else {}
    found: dict[str, str | None] = {name.upper(): value for name, value in in_file.items()}
    found.update((name.upper(), value) for name, value in os.environ.items() if value or name.upper() not in found)
    return found


def _sentence(found: dict[str, Any]) -> str:
    """One mistake, by the name that the operator used, without the value."""
    place = str(found["loc"][0]) if found["loc"] else "settings"
    name = variable_names().get(place, (place,))[0]
    message = str(found["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{name}: {message[:1].lower()}{message[1:]}."

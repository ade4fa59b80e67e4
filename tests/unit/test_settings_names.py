"""Settings: published names, mistakes as sentences, secrets never in one."""

from pathlib import Path

import pytest

from firstline.core.backoff import RETRY_DELAYS_S
from firstline.settings import Environment, Settings, SettingsInvalid, load_settings, variable_names

PUBLISHED = {
    "GEMINI_API_KEY": ("gemini_api_key", "secret-value"),
    "GOOGLE_API_KEY": ("gemini_api_key", "secret-value"),
    "OPENAI_API_KEY": ("openai_api_key", "secret-value"),
    "SECRET_KEY": ("secret_key", "secret-value"),
    "REDIS_HOST": ("redis_host", "cache.internal"),
    "REDIS_PORT": ("redis_port", 6380),
    "REDIS_DB": ("redis_db", 3),
    "RATE_LIMIT_HOURLY": ("rate_limit_hourly", 7),
    "RATE_LIMIT_DAILY": ("rate_limit_daily", 70),
    "LOW_CONFIDENCE_THRESHOLD": ("low_confidence_threshold", 0.6),
    "AI_TEMPERATURE": ("ai_temperature", 0.7),
    "AI_MAX_TOKENS": ("ai_max_tokens", 900),
    "AI_TIMEOUT_SECONDS": ("ai_timeout_seconds", 3.5),
    "FLASK_ENV": ("environment", Environment.PRODUCTION),
}


def load(**overrides: object) -> Settings:
    return load_settings(env_file=None, **overrides)


def plain(value: object) -> object:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_name_is_honoured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field, value = PUBLISHED[name]
    monkeypatch.setenv(name, str(value))
    assert plain(getattr(load(), field)) == value


def test_every_field_can_be_set_by_its_documented_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    samples = {
        "environment": "production",
        "access_log": "false",
        "history": "false",
        "history_text": "false",
        "log_level": "debug",
        "trusted_proxies": "10.0.0.0/8, ::1",
        "webhook_retry_seconds": "1, 2.5",
        "cors_origins": "https://app.example.com",
        "database_url": "postgresql://localhost/firstline",
        "database_connections": "2",
        "redis_url": "rediss://localhost:6380/1",
        "providers": "openai",
        "compatible_structured": "false",
        "otlp_endpoint": "https://collector.example.com:4318",
        "traces_sampler": "always_off",
        "trust_traceparent": "true",
        "otel_sdk_disabled": "true",
        "ai_mode": "never",
        "ai_redaction": "false",
        "ai_daily_budget_usd": "1",
        "ai_monthly_budget_usd": "1",
        "ai_max_tokens": "16",
    }
    for field, names in variable_names().items():
        info = Settings.model_fields[field]
        text = samples.get(field) or ("1" if info.annotation in (int, float, int | None) else str(tmp_path))
        monkeypatch.setenv(names[0], text)
    settings = load()
    assert {field for field in Settings.model_fields if field not in settings.model_fields_set} == set()


def test_without_anything_set_the_published_defaults_hold() -> None:
    settings = load()
    assert (settings.low_confidence_threshold, settings.ai_temperature) == (0.4, 0.2)
    assert (settings.ai_max_tokens, settings.ai_timeout_seconds, settings.port) == (500, 10, 8000)
    assert (settings.redis_port, settings.redis_db, settings.redis_host) == (6379, 0, None)
    assert settings.environment is Environment.AUTO


def test_an_unknown_name_is_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLINE_LOGLEVEL", "debug")
    with pytest.raises(SettingsInvalid, match=r"FIRSTLINE_LOGLEVEL is not a setting.*did you mean FIRSTLINE_LOG_LEVEL"):
        load()


def test_an_unknown_name_that_resembles_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLINE_QQQQQQQQQQQQQQQQQQQQ", "1")
    with pytest.raises(SettingsInvalid, match=r"is not a setting of firstline\."):
        load()


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("FIRSTLINE_PROT=1\n")
    with pytest.raises(SettingsInvalid, match="FIRSTLINE_PORT"):
        load_settings(env_file=file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FIRSTLINE_PORT", "65536"),
        ("FIRSTLINE_PORT", "-1"),
        ("FIRSTLINE_PORT", "eighty"),
        ("FIRSTLINE_LOG_LEVEL", "loud"),
        ("FIRSTLINE_ACCESS_LOG", "perhaps"),
        ("FIRSTLINE_ENVIRONMENT", "staging"),
        ("FIRSTLINE_TRUSTED_PROXIES", "everybody"),
        ("FIRSTLINE_REGISTRATIONS_PER_HOUR", "0"),
        ("FIRSTLINE_REVIEW_PROBABILITY", "1.1"),
        ("LOW_CONFIDENCE_THRESHOLD", "-0.1"),
        ("LOW_CONFIDENCE_THRESHOLD", "nan"),
        ("RATE_LIMIT_HOURLY", "0"),
        ("RATE_LIMIT_DAILY", "many"),
        ("AI_TEMPERATURE", "3"),
        ("AI_MAX_TOKENS", "0"),
        ("AI_TIMEOUT_SECONDS", "0"),
        ("REDIS_PORT", "0"),
    ],
)
def test_an_unusable_value_is_a_sentence_that_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as caught:
        load()
    assert str(caught.value).startswith(f"{name}: ")
    assert str(caught.value).endswith(".")


def test_every_mistake_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLINE_PORT", "x")
    monkeypatch.setenv("AI_MAX_TOKENS", "x")
    with pytest.raises(SettingsInvalid, match=r"FIRSTLINE_PORT.*AI_MAX_TOKENS"):
        load()


@pytest.mark.parametrize("name", ["FIRSTLINE_PORT", "RATE_LIMIT_HOURLY", "SECRET_KEY", "FIRSTLINE_RULES_DIR"])
def test_an_empty_value_counts_as_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert load() == load(port=None)
    assert load().port == 8000


def test_the_environment_wins_over_the_file_and_an_argument_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("FIRSTLINE_PORT=1\nFIRSTLINE_HOST=127.0.0.2\n# a comment\nUNRELATED=x\n")
    monkeypatch.setenv("FIRSTLINE_PORT", "2")
    settings = load_settings(env_file=file)
    assert (settings.port, settings.host) == (2, "127.0.0.2")
    assert load_settings(env_file=file, port=3).port == 3
    assert load_settings(env_file=file, port=None).port == 2


def test_a_missing_file_is_no_mistake(tmp_path: Path) -> None:
    assert load_settings(env_file=tmp_path / ".env") == load()


def test_a_file_that_is_no_text_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"FIRSTLINE_PORT=\xff\xfe\n")
    with pytest.raises(SettingsInvalid, match="cannot be read as UTF-8"):
        load_settings(env_file=file)


@pytest.mark.parametrize("name", ["SECRET_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY", "FIRSTLINE_METRICS_TOKEN"])
def test_a_secret_never_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hush-hush")
    assert "hush" not in repr(load())
    monkeypatch.setenv("FIRSTLINE_PORT", "hush-too")
    with pytest.raises(SettingsInvalid) as caught:
        load()
    assert "hush" not in str(caught.value)


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1


@pytest.mark.parametrize("text", ["", "5", "1, 2.5,86400"])
def test_waits_between_attempts_are_numbers_with_commas(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLINE_WEBHOOK_RETRY_SECONDS", text)
    delays_s = load_settings(env_file=None).webhook_delays_s
    assert delays_s == (tuple(float(part) for part in text.split(",")) if text else RETRY_DELAYS_S)


@pytest.mark.parametrize("text", ["soon", "5,", "0", "-1", "86401", "nan", "inf", ",".join(["1"] * 21)])
def test_waits_that_cannot_be_stop_the_start(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLINE_WEBHOOK_RETRY_SECONDS", text)
    with pytest.raises(SettingsInvalid, match="FIRSTLINE_WEBHOOK_RETRY_SECONDS: must be at most 20 numbers"):
        load_settings(env_file=None)

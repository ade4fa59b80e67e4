"""Secrets from files: one line of text, one sentence for each mistake, never a word of the secret."""

import os
import threading
from pathlib import Path

import pytest

from firstline.settings import SettingsInvalid, load_settings, secret_names

VALUES = {"database_url": "postgresql://u:hush-hush@db/x", "redis_url": "rediss://:hush-hush@cache:6380/0"}


def test_every_secret_can_be_given_as_a_file_by_every_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"database_url", "redis_url", "secret_key", "metrics_token", "gemini_api_key"} <= secret_names().keys()
    for field, names in secret_names().items():
        for name in names:
            file = tmp_path / name
            file.write_text(VALUES.get(field, "hush-hush") + "\n")
            with monkeypatch.context() as patch:
                patch.setenv(f"{name}_FILE", str(file))
                settings = load_settings(env_file=None)
            assert getattr(settings, field).get_secret_value() == VALUES.get(field, "hush-hush")
            assert "hush" not in repr(settings)


def test_a_file_is_named_in_the_env_file_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hush-hush")
    (tmp_path / ".env").write_text(f"SECRET_KEY_FILE={tmp_path / 'key'}\n")
    settings = load_settings(env_file=tmp_path / ".env")
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == "hush-hush"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"a b", "a b"),
        (b"ab\n", "ab"),
        (b"ab\r\n", "ab"),
        (b"\xef\xbb\xbfab", "ab"),
        ("pässwörd".encode(), "pässwörd"),
        (b" ab ", " ab "),
        (b"a" * 65_536, "a" * 65_536),
    ],
)
def test_a_secret_is_the_line_without_its_break(
    data: bytes, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_bytes(data)
    monkeypatch.setenv("FIRSTLINE_METRICS_TOKEN_FILE", str(tmp_path / "token"))
    settings = load_settings(env_file=None)
    assert settings.metrics_token is not None
    assert settings.metrics_token.get_secret_value() == value


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hush\nhush\n", "one line"),
        (b"hush\x00hush", "one line"),
        (b"hush\n\n", "one line"),
        (b"hush\xff", "no UTF-8 text"),
        (b"hush" * 16_385, "larger than 64 KiB"),
    ],
)
def test_a_file_that_holds_no_secret_is_a_sentence_that_names_the_variable(
    data: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(data)
    assert_refused("OPENAI_API_KEY_FILE", str(tmp_path / "key"), says, monkeypatch)


@pytest.mark.parametrize("place", ["missing/hush", ".", "/dev/zero"])
def test_a_file_that_cannot_be_read_is_a_sentence_that_names_the_variable(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = "larger than" if place == "/dev/zero" else "cannot be read"
    assert_refused("OPENAI_API_KEY_FILE", place, says, monkeypatch)


def test_a_pipe_into_which_nobody_writes_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("firstline.secret_files.WAIT_S", 0.01)
    assert_refused("OPENAI_API_KEY_FILE", str(tmp_path / "pipe"), "brought nothing", monkeypatch)


def test_a_secret_may_come_through_a_pipe_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv("FIRSTLINE_METRICS_TOKEN_FILE", f"/dev/fd/{reading}")
    os.write(writing, b"to")
    rest = threading.Thread(target=lambda: (os.write(writing, b"ken\n"), os.close(writing)))
    rest.start()
    try:
        settings = load_settings(env_file=None)
    finally:
        rest.join()
        os.close(reading)
    assert settings.metrics_token is not None
    assert settings.metrics_token.get_secret_value() == "token"


@pytest.mark.parametrize("other", ["SECRET_KEY", "FIRSTLINE_SECRET_KEY", "FIRSTLINE_SECRET_KEY_FILE"])
def test_a_secret_given_twice_is_a_mistake(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("hush-hush")
    monkeypatch.setenv(other, str(tmp_path / "key"))
    assert_refused("SECRET_KEY_FILE", str(tmp_path / "key"), "keep one of them", monkeypatch)


def test_a_value_from_a_file_is_held_to_the_same_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("mysql://hush-hush")
    monkeypatch.setenv("FIRSTLINE_DATABASE_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(SettingsInvalid, match="FIRSTLINE_DATABASE_URL: it must begin with postgresql://") as caught:
        load_settings(env_file=None)
    assert "hush" not in str(caught.value)


def test_only_secrets_are_read_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLINE_PORT_FILE", "/etc/hostname")
    with pytest.raises(SettingsInvalid, match="FIRSTLINE_PORT_FILE is not a setting"):
        load_settings(env_file=None)


def test_an_empty_name_of_a_file_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY_FILE", "")
    assert load_settings(env_file=None).secret_key is None


def assert_refused(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(env_file=None)
    assert name in str(caught.value)
    assert says in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "hush" not in str(caught.value)

"""Secrets at rest: who can open them, and under what."""

from pathlib import Path

import pytest

from firstline.adapters.sealing import KEY_FILE, Sealer, open_sealer, secrets_of
from firstline.ports.sealing import SealBroken

OLD, NEW = "old-" * 8, "new-" * 8


def test_what_was_sealed_opens_again_and_looks_different_each_time() -> None:
    sealer = Sealer([NEW])
    once, again = (sealer.seal(b"plain", context="a") for _ in range(2))
    assert once != again
    assert sealer.open(once, context="a") == sealer.open(again, context="a") == b"plain"


@pytest.mark.parametrize("context", ["b", "", "aa"])
def test_another_context_opens_nothing(context: str) -> None:
    with pytest.raises(SealBroken):
        Sealer([NEW]).open(Sealer([NEW]).seal(b"plain", context="a"), context=context)


def test_the_newest_secret_seals_and_older_ones_still_open() -> None:
    before = Sealer([OLD]).seal(b"plain", context="a")
    both = Sealer([NEW, OLD])
    assert both.open(before, context="a") == b"plain"
    after = both.seal(b"plain", context="a")
    assert Sealer([NEW]).open(after, context="a") == b"plain"
    with pytest.raises(SealBroken):
        Sealer([OLD]).open(after, context="a")


def test_keys_of_another_purpose_open_nothing() -> None:
    with pytest.raises(SealBroken):
        Sealer([NEW], purpose="replays").open(Sealer([NEW]).seal(b"plain", context="a"), context="a")


def test_every_changed_byte_is_noticed() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal(b"plain", context="a")
    for place, character in enumerate(sealed):
        changed = sealed[:place] + ("A" if character != "A" else "B") + sealed[place + 1 :]
        with pytest.raises(SealBroken):
            sealer.open(changed, context="a")


@pytest.mark.parametrize("text", ["", "plain", "s1.", "s1..", "s1.00000000.AAAA", "s1.ö.ö", "s2.x.y"])
def test_what_was_never_sealed_does_not_open(text: str) -> None:
    with pytest.raises(SealBroken):
        Sealer([NEW]).open(text, context="a")


@pytest.mark.parametrize("accepted", [[], [""], [NEW, ""]])
def test_no_secret_is_refused(accepted: list[str]) -> None:
    with pytest.raises(ValueError, match="secret"):
        Sealer(accepted)


def test_a_setting_names_several_secrets() -> None:
    assert secrets_of(f"{NEW}, {OLD},") == [NEW, OLD]
    assert secrets_of(None) == []


def test_a_server_without_a_secret_makes_a_key_file_that_only_its_user_can_read(tmp_path: Path) -> None:
    first = open_sealer(None, key_folder=tmp_path)
    assert first is not None
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    again = open_sealer("", key_folder=tmp_path)
    assert again is not None
    assert again.open(first.seal(b"plain", context="a"), context="a") == b"plain"


def test_what_the_key_file_sealed_opens_after_a_secret_is_set(tmp_path: Path) -> None:
    before = open_sealer(None, key_folder=tmp_path)
    after = open_sealer(NEW, key_folder=tmp_path)
    assert before is not None
    assert after is not None
    assert after.open(before.seal(b"plain", context="a"), context="a") == b"plain"
    assert Sealer([NEW]).open(after.seal(b"plain", context="a"), context="a") == b"plain"


def test_a_secret_makes_no_key_file_and_without_a_folder_there_is_none(tmp_path: Path) -> None:
    assert open_sealer(NEW, key_folder=tmp_path) is not None
    assert list(tmp_path.iterdir()) == []
    assert open_sealer(None, key_folder=None) is None

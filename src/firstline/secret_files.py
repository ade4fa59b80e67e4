"""Secrets from files: `NAME_FILE` names the file that holds the value of the secret setting `NAME`.

Container platforms hand secrets over as files, and a file shows in no list of processes and no dump of an environment.
"""

import os
import select
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

SUFFIX: Final = "_FILE"
MAX_BYTES: Final = 64 << 10
WAIT_S: Final = 5.0
"""How long a pipe may bring nothing; a shell's `<(command)` is one."""


class SecretFileInvalid(ValueError):
    """A secret that cannot be read from its file; the message names the variable and holds no part of the secret."""


def read_secrets(
    secrets: Mapping[str, Iterable[str]], *, given: Mapping[str, str | None]
) -> tuple[dict[str, str], list[str]]:
    """The secrets that files hold.

    Args:
        secrets: names of the variables of each secret setting, by field.
        given: every variable and its value, names in capitals; an empty value counts as not set.
    Returns: values by field, and a sentence for each mistake.
    """
    found: dict[str, str] = {}
    mistakes: list[str] = []
    for field, names in secrets.items():
        plain = [name for name in names if given.get(name)]
        files = [name + SUFFIX for name in names if given.get(name + SUFFIX)]
        if not files:
            continue
        if len(files) + len(plain) > 1:
            mistakes.append(f"{' and '.join([*plain, *files])} are set, which are one setting; keep one of them.")
            continue
        try:
            found[field] = read_secret(Path(given[files[0]] or ""), name=files[0])
        except SecretFileInvalid as error:
            mistakes.append(str(error))
    return found, mistakes


def read_secret(path: Path, *, name: str) -> str:
    """What a file holds, without the line break at its end.

    Args:
        name: of the variable that names the file, for people.
    Raises: SecretFileInvalid.
    """
    try:
        data = _read(path)
    except TimeoutError:
        raise SecretFileInvalid(f"{name}: the pipe that it names brought nothing for {WAIT_S:g} seconds.") from None
    except (OSError, ValueError) as error:
        why = (error.strerror or type(error).__name__).lower() if isinstance(error, OSError) else "it is no path"
        raise SecretFileInvalid(f"{name}: the file that it names cannot be read: {why}.") from None
    if len(data) > MAX_BYTES:
        raise SecretFileInvalid(f"{name}: the file that it names is larger than {MAX_BYTES >> 10} KiB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SecretFileInvalid(f"{name}: the file that it names is no UTF-8 text.") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise SecretFileInvalid(f"{name}: the file that it names is empty.")
    if not text.isprintable():
        raise SecretFileInvalid(f"{name}: the file that it names must hold one line without control characters.")
    return text


def _read(path: Path) -> bytes:
    """What is in a file, up to one byte more than may be.

    Raises: OSError; TimeoutError where nobody writes into a pipe, which would otherwise be waited for without end.
    """
    found = bytearray()
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        waiting = select.poll()
        waiting.register(file, select.POLLIN)
        while len(found) <= MAX_BYTES:
            if not waiting.poll(WAIT_S * 1_000):
                raise TimeoutError
            part = os.read(file, MAX_BYTES + 1 - len(found))
            if not part:
                break
            found += part
    finally:
        os.close(file)
    return bytes(found)

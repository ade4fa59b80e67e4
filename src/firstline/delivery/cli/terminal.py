"""What the commands share about the terminal: consoles, exit codes, mistakes, and text that is safe to print."""

import sys
import textwrap
from typing import Final, NoReturn

from rich.console import Console
from rich.text import Text

FOUND_WRONG: Final = 1
MISTAKE: Final = 2
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141
"""128 and the number of the signal that a closed pipe or Ctrl-C sends, as shells report it."""

PIPED_WIDTH: Final = 240
"""Columns of a table that is not printed on a terminal, so that nothing in it is cut."""


class Mistake(Exception):
    """Something that the user can put right; the message is a sentence and is all that is shown."""

    def __init__(self, sentence: str, *, code: int = MISTAKE) -> None:
        super().__init__(sentence)
        self.code = code


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def output() -> Console:
    """Standard output, for people."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return _Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False)


def messages() -> Console:
    """Standard error, for people."""
    return _Console(file=sys.stderr, highlight=False)


def say(text: str = "") -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def paragraph(console: Console, name: str, text: str, *, indent: int, width: int, style: str = "") -> None:
    """Print a name and a text beside it, wrapped to the console with the text under itself.

    Args:
        indent: columns before the name.
        width: columns that the name takes, with the space after it.
    """
    room = max(console.width - indent - width, 20)
    for number, line in enumerate(textwrap.wrap(printable(text), room, break_on_hyphens=False) or [""]):
        beginning = name if number == 0 else ""
        console.print(Text(f"{'':{indent}}{beginning:<{width}}{line}", style), soft_wrap=True)


def printable(text: str) -> str:
    """A text without line breaks and control characters, which a terminal might obey."""
    if text.isprintable():
        return text
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

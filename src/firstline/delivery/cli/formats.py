"""The forms that rows are read and answered in."""

from enum import StrEnum


class Format(StrEnum):
    """What a file of messages holds: a message per line, CSV with a header, or a JSON object per line."""

    TXT = "txt"
    CSV = "csv"
    JSONL = "jsonl"


class Output(StrEnum):
    """How rows are answered."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"

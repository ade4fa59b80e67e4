"""The forms that rows are read and answered in."""

from enum import StrEnum


class Format(StrEnum):
    """What a file of messages holds: a message per line, CSV with a header, a JSON object per line, or Parquet."""

    TXT = "txt"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class Output(StrEnum):
    """How rows are answered."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"

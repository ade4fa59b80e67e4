"""What an archive says of itself."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firstline.adapters.backup.failures import ArchiveDamaged, BackupFailed
from firstline.adapters.backup.row_lines import Column, Kind

VERSION: Final = 1
NAME: Final = "manifest.json"

Count = Annotated[int, Field(ge=0)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class ColumnPart(_Part):
    """A column of a table."""

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,62}$")]
    kind: Kind


class TablePart(_Part):
    """A table: its columns in the order of the values, and its lines together."""

    columns: Annotated[tuple[ColumnPart, ...], Field(min_length=1, max_length=200)]
    rows: Count
    bytes: Count
    sha256: Hash

    @property
    def shape(self) -> tuple[Column, ...]:
        """The columns, as readers and writers of rows want them."""
        return tuple(Column(column.name, column.kind) for column in self.columns)


class FilesPart(_Part):
    """Files under one folder of the archive; the hash is of names, sizes and contents, in the archive's order."""

    files: Count
    bytes: Count
    sha256: Hash


class JobsPart(FilesPart):
    """Files of jobs; `missing` counts the jobs that lacked some of theirs."""

    missing: Count


class SpoolPart(FilesPart):
    """What a spool held that was not stored yet."""

    records: Count


class Manifest(_Part):
    """What an archive holds, and of what.

    Attributes:
        firstline: version that made it.
        schema_revision: of the database, as migrations number it.
        jobs: None where files of jobs were left out.
        spool: None where the server had no spool, or none was set for the command.
        secret_key: whether `secret.key` is in it.
    """

    format: Literal["firstline backup"] = "firstline backup"
    version: Annotated[int, Field(ge=1)] = VERSION
    firstline: Annotated[str, Field(max_length=100)]
    schema_revision: Annotated[str, Field(pattern="^[0-9]{4}$")]
    database: Literal["sqlite", "postgresql"]
    began_at: Annotated[str, Field(max_length=40)]
    tables: dict[str, TablePart]
    jobs: JobsPart | None
    spool: SpoolPart | None
    secret_key: bool

    @property
    def size(self) -> int:
        """Bytes of all that is in it, before compression."""
        parts = [*self.tables.values(), self.jobs, self.spool]
        return sum(part.bytes for part in parts if part is not None)


def read_manifest(data: bytes) -> Manifest:
    """The manifest in an archive.

    Raises: ArchiveDamaged; BackupFailed when it is of a newer firstline.
    """
    try:
        manifest = Manifest.model_validate_json(data)
    except (ValidationError, RecursionError):
        raise ArchiveDamaged(f"{NAME} is not one of firstline.") from None
    if manifest.version > VERSION:
        raise BackupFailed(
            f"It has format {manifest.version}, newer than this firstline's {VERSION}; upgrade firstline."
        )
    return manifest

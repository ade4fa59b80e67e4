"""Characters that a database cannot store, replaced one by one."""

import re
from dataclasses import replace
from typing import Any, Final

from firstline.ports.journal import Record

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def storable_row(row: Any) -> Any:
    """The row with U+FFFD for NUL and for halves of surrogate pairs.

    One character stands for one, so that positions in a text stay what they are.
    """
    values = (_UNSTORABLE.sub("\ufffd", value) if isinstance(value, str) else value for value in row)
    return type(row)(*values) if hasattr(row, "_fields") else tuple(values)


def storable(record: Record) -> Record:
    """The record with every row as `storable_row` has it."""
    return replace(
        record,
        tickets=tuple(map(storable_row, record.tickets)),
        verdicts=tuple(map(storable_row, record.verdicts)),
        idempotency=storable_row(record.idempotency) if record.idempotency else None,
        outbox=tuple(map(storable_row, record.outbox)),
        spend=tuple(map(storable_row, record.spend)),
    )

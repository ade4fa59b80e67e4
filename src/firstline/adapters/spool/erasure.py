"""Erasing reaches the spool by waiting for it: what is in the history can be erased there."""

from firstline.adapters.spool.spooling_journal import SpoolingJournal
from firstline.ports.erasure import Erasing
from firstline.ports.storage import StorageUnavailable


class SpooledTexts:
    """Implements `ports.erasure.Erasable` for the spool of this server."""

    name = "spooled"

    def __init__(self, spool: SpoolingJournal) -> None:
        self._spool = spool

    async def erase(self, erasing: Erasing) -> int:
        """Nothing, once all that came in before is stored.

        Raises: StorageUnavailable while the spool holds something; the erasure is tried again then.
        """
        if self._spool.spooling:
            raise StorageUnavailable("records wait in the spool")
        return 0

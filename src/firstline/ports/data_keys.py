"""The key of each account that its texts are sealed under; itself sealed under the server's secret.

An account has one key that seals and any number that only open. A destroyed key is gone for good: what it sealed can be
read nowhere any more, in no copy and no backup that does not hold the key as well.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class DataKey(NamedTuple):
    """A key as it is stored.

    Attributes:
        number: 1 for the account's first.
        sealed: by `ports.sealing.Sealing`.
    """

    account_id: str
    number: int
    sealed: str
    created_at_us: int


class DataKeys(Protocol):
    """The store of keys. All raise StorageUnavailable; each is one transaction."""

    async def find(self, account_id: str) -> Sequence[DataKey]:
        """The keys of an account that are not destroyed, newest first."""
        ...

    async def add(self, account_id: str, sealed: str, *, at_us: int) -> Sequence[DataKey]:
        """A first key, unless there is one already.

        Returns: the keys of the account, newest first.
        """
        ...

    async def destroy(self, account_id: str, *, at_us: int) -> int:
        """Destroy every key of an account; how many that were."""
        ...

    async def all(self) -> Sequence[DataKey]:
        """The keys of all accounts."""
        ...

    async def reseal(self, key: DataKey, sealed: str) -> None:
        """Replace how a key is sealed, unless it is destroyed meanwhile or was resealed."""
        ...

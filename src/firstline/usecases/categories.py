"""An account's own categories and thresholds: read them, and put others in force."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import orjson

from firstline.core.categories import CategorySet, check, to_data
from firstline.core.policy import Threshold
from firstline.ports.storage import DEFAULT_VERSION, CategoriesRow, ThresholdsRow
from firstline.ports.trainer import Trainer, TrainingFailed
from firstline.usecases.access import Caller
from firstline.usecases.accounts import Accounts
from firstline.usecases.in_force import AccountsInForce, InForce, matching_version
from firstline.usecases.thresholds import check_thresholds, thresholds_to_body, thresholds_version


@dataclass(frozen=True, slots=True)
class Categories:
    """Changes what an account's messages are decided under; in force for the next message, without a restart.

    Every version is kept, and every change leaves an audit entry. A change that fails changes nothing.

    Attributes:
        model: name of the model in use.
    """

    accounts: Accounts
    trainer: Trainer
    in_force: AccountsInForce
    model: str

    async def get(self, caller: Caller) -> InForce:
        """What is in force for the caller's account.

        Raises: StorageUnavailable.
        """
        return await self.in_force.of(caller.account.id)

    async def put(self, caller: Caller, found: CategorySet, *, expected: Collection[str] | None) -> InForce:
        """Train categories and put them in force; no category at all goes back to the default ones.

        Args:
            expected: versions of which one must be in force until then; None for any.
        Raises: CategoriesInvalid, VersionChanged, TrainingFailed, StorageUnavailable.
        """
        version, body = await asyncio.to_thread(_checked, found)
        account_id = caller.account.id
        now = await self.in_force.of(account_id)
        before = matching_version(now.categories_version, expected)
        trained = b""
        if found.categories:
            trained = await self.trainer.train(account_id, found)
            try:
                await asyncio.to_thread(self.trainer.load, trained)
            except ValueError as error:
                raise TrainingFailed(str(error)) from None
        row = CategoriesRow(
            account_id=account_id,
            version=version,
            created_at_us=self.accounts.clock.now_us(),
            body=body,
            model=self.model if trained else "",
            trained=trained,
        )
        audit = self.accounts.entry(caller.actor, "categories.change", account_id, target=version)
        await self.accounts.storage.put_categories(row, expected=before, audit=audit)
        return await self.in_force.renewed(account_id, actor=caller.actor)

    async def put_thresholds(
        self, caller: Caller, found: Sequence[Threshold], *, expected: Collection[str] | None
    ) -> InForce:
        """Put thresholds in force in place of all that were; none at all removes them.

        Raises: ThresholdsInvalid, VersionChanged, StorageUnavailable.
        """
        account_id = caller.account.id
        now = await self.in_force.of(account_id)
        check_thresholds(found, categories=[category.name for category in now.taxonomy])
        before = matching_version(now.thresholds_version, expected)
        version = thresholds_version(found)
        row = ThresholdsRow(account_id, version, self.accounts.clock.now_us(), thresholds_to_body(found))
        audit = self.accounts.entry(caller.actor, "thresholds.change", account_id, target=version)
        await self.accounts.storage.put_thresholds(row, expected=before, audit=audit)
        return await self.in_force.renewed(account_id, actor=caller.actor)


def _checked(found: CategorySet) -> tuple[str, str]:
    """Version and body of categories within their bounds."""
    if found.categories:
        check(found)
    return found.version if found.categories else DEFAULT_VERSION, orjson.dumps(to_data(found)).decode()

"""What each account's messages are decided under: its categories, its thresholds, the policy that they make, and when
and how they go to providers.

Read once, kept within bounds, and read again after any change, in this process or another one; where that cannot be
done, what was in force before the change goes on for a bounded time. Categories that were
trained on another model are trained again in the background; until then the default ones answer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import orjson

from firstline.core.asking import AskPolicy
from firstline.core.asking import from_data as asking_from_data
from firstline.core.categories import CategorySet, from_data
from firstline.core.policy import Policy, Threshold
from firstline.core.taxonomy import Category
from firstline.learning.custom import Advice, CustomModel
from firstline.ports.storage import DEFAULT_VERSION, AskPolicyRow, CategoriesRow, StorageUnavailable, VersionChanged
from firstline.ports.trainer import Trainer, TrainingFailed
from firstline.usecases.accounts import Accounts
from firstline.usecases.last_known import LastKnown
from firstline.usecases.thresholds import thresholds_from_body

MAX_ACCOUNTS: Final = 50_000
MAX_BYTES: Final = 128 << 20
"""Of trained categories and ask policies kept in memory, as they are stored."""

RETRY_S: Final = 60.0
"""Between attempts to train again what does not fit the model."""

_DEFAULT_ASKING: Final = AskPolicy()


@dataclass(frozen=True, slots=True)
class InForce:
    """What an account's messages are decided under.

    Attributes:
        policy: with the account's categories and thresholds.
        policy_hash: `policy.content_hash`, computed once.
        model: of the account's own categories; None for the default ones.
        model_name: of what predicts.
        pending: whether own categories exist that the model in use cannot serve yet.
        categories: as the account defined them; None when it has none of its own.
        categories_version: `DEFAULT_VERSION` for the default ones.
        categories_at_us: when they came into force, or None.
        advice: given when they were trained.
        thresholds_version: `DEFAULT_VERSION` for none.
        thresholds_at_us: when they came into force, or None.
        asking: when and how providers are asked.
        asking_version: `DEFAULT_VERSION` for the server's defaults.
        asking_at_us: when it came into force, or None.
        size: bytes of what was trained and of the ask policy.
    """

    policy: Policy
    policy_hash: str
    model: CustomModel | None = None
    model_name: str = ""
    pending: bool = False
    categories: CategorySet | None = None
    categories_version: str = DEFAULT_VERSION
    categories_at_us: int | None = None
    advice: tuple[Advice, ...] = ()
    thresholds_version: str = DEFAULT_VERSION
    thresholds_at_us: int | None = None
    asking: AskPolicy = _DEFAULT_ASKING
    asking_version: str = DEFAULT_VERSION
    asking_at_us: int | None = None
    size: int = 0

    @property
    def taxonomy(self) -> tuple[Category, ...]:
        """The account's categories, those included that the model in use cannot serve yet."""
        return self.categories.taxonomy if self.categories else self.policy.categories


class AccountsInForce:
    """Looks up what is in force for an account."""

    def __init__(
        self,
        accounts: Accounts,
        trainer: Trainer,
        *,
        model: str,
        policy: Policy,
        asking: AskPolicy = _DEFAULT_ASKING,
        stale_s: int = 0,
        on_fault: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """Args:
        model: name of the model in use.
        policy: of an account that sets nothing of its own.
        asking: likewise; its timeout bounds those of accounts.
        stale_s: how long after a change what was in force may be used while it cannot be read.
        on_fault: told of what fails in the background.
        """
        self._accounts = accounts
        self._storage = accounts.storage
        self._trainer = trainer
        self._model = model
        self._shared = InForce(policy, policy.content_hash, model_name=model, asking=asking)
        self._on_fault = on_fault
        self._last_known = LastKnown(accounts.clock, stale_s=stale_s)
        self._cache: OrderedDict[str, tuple[int, InForce]] = OrderedDict()
        self._size = 0
        self._changes = 0
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._loading: dict[str, asyncio.Task[InForce]] = {}
        self._training: dict[str, asyncio.Task[None]] = {}

    @property
    def default_asking(self) -> AskPolicy:
        """When and how providers are asked for an account that sets nothing of its own."""
        return self._shared.asking

    def cached(self, account_id: str) -> InForce | None:
        """What is in force, if it is at hand."""
        found = self._cache.get(account_id)
        if found is None or found[0] != self._last_known.number:
            return None
        self._cache.move_to_end(account_id)
        return found[1]

    async def of(self, account_id: str, *, actor: str = "system") -> InForce:
        """What is in force for an account; a policy that was not in force before is kept as a version.

        Raises: StorageUnavailable.
        """
        found = self.cached(account_id)
        if found is not None:
            return found
        before = self._cache.get(account_id)
        known = before[1] if before is not None and self._last_known.may_use(before[0]) else None
        return await self._last_known.read_or(known, lambda: self._read(account_id, actor))

    async def _read(self, account_id: str, actor: str) -> InForce:
        loading = self._loading.get(account_id)
        if loading is None:  # however many wait, it is read once
            loading = self._loading[account_id] = asyncio.create_task(self._load(account_id, actor))
            loading.add_done_callback(partial(self._loaded, account_id))
        return await asyncio.shield(loading)

    async def renewed(self, account_id: str, *, actor: str) -> InForce:
        """What is in force for an account that has just changed it.

        Raises: StorageUnavailable.
        """
        self.forget_account(account_id)
        return await self.of(account_id, actor=actor)

    def forget(self) -> None:
        """Something has changed, here or in another process: what is cached is read again before it is used."""
        self._changes += 1
        self._last_known.note_change()
        self._loading.clear()

    def forget_account(self, account_id: str) -> None:
        """Drop what is cached of one account."""
        self._changes += 1
        self._loading.pop(account_id, None)
        dropped = self._cache.pop(account_id, None)
        self._size -= dropped[1].size if dropped else 0

    async def close(self) -> None:
        """End what runs in the background."""
        tasks = list(self._training.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, account_id: str, actor: str) -> InForce:
        changes = self._changes
        row = await self._storage.find_categories(account_id)
        thresholds = await self._storage.find_thresholds(account_id)
        asking = await self._storage.find_ask_policy(account_id)
        found = self._shared
        if asking is not None:
            found = _with_asking(found, asking)
        if thresholds is not None:
            own = thresholds_from_body(thresholds.body)
            found = replace(found, thresholds_version=thresholds.version, thresholds_at_us=thresholds.created_at_us)
            found = _with_policy(found, thresholds=own)
        if row is not None:
            found = replace(found, categories_version=row.version, categories_at_us=row.created_at_us)
            if row.version != DEFAULT_VERSION:
                found = await asyncio.to_thread(self._with_categories, found, row)
        await self._keep(account_id, found, actor)
        if found.pending and row is not None:
            self._train_again(row)
        if changes == self._changes:  # else it may be what was in force before
            self._remember(account_id, found)
        return found

    def _loaded(self, account_id: str, loading: "asyncio.Task[InForce]") -> None:
        if self._loading.get(account_id) is loading:
            del self._loading[account_id]

    def _with_categories(self, found: InForce, row: CategoriesRow) -> InForce:
        categories = from_data(orjson.loads(row.body))
        found = replace(found, categories=categories)
        try:
            if row.model != self._model:
                raise ValueError("trained on another model")
            model, advice = self._trainer.load(row.trained)
        except ValueError:
            return replace(found, pending=True)
        found = replace(
            found,
            model=model,
            model_name=f"{self._model},custom+{row.version}",
            advice=advice,
            size=found.size + len(row.trained) + len(row.body),
        )
        return _with_policy(found, categories=categories)

    async def _keep(self, account_id: str, found: InForce, actor: str) -> None:
        if found.policy_hash == self._kept.get(account_id, self._shared.policy_hash):
            return
        audit = self._accounts.entry(actor, "policy.change", account_id, target=found.policy_hash)
        await self._storage.keep_version("policy", found.policy_hash, repr(found.policy), audit=audit)
        self._kept[account_id] = found.policy_hash
        if len(self._kept) > MAX_ACCOUNTS:
            self._kept.popitem(last=False)

    def _remember(self, account_id: str, found: InForce) -> None:
        replaced = self._cache.pop(account_id, None)
        self._cache[account_id] = (self._last_known.number, found)
        self._size += found.size - (replaced[1].size if replaced else 0)
        while len(self._cache) > MAX_ACCOUNTS or (self._size > MAX_BYTES and len(self._cache) > 1):
            _, dropped = self._cache.popitem(last=False)
            self._size -= dropped[1].size

    def _train_again(self, row: CategoriesRow) -> None:
        if row.account_id in self._training:
            return
        task = self._training[row.account_id] = asyncio.create_task(self._retrain(row))
        task.add_done_callback(lambda _: self._training.pop(row.account_id, None))

    async def _retrain(self, row: CategoriesRow) -> None:
        try:
            trained = await self._trainer.train(row.account_id, from_data(orjson.loads(row.body)))
            await self._storage.retrain_categories(replace(row, model=self._model, trained=trained))
        except (TrainingFailed, StorageUnavailable) as error:
            self._on_fault(error)
            await asyncio.sleep(RETRY_S)
            self.forget()  # so that it is tried again, and yet goes on as it is while the store is away
        else:
            self.forget_account(row.account_id)


def matching_version(version: str, expected: Collection[str] | None) -> str | None:
    """The version in force if one of the expected ones is; None when any will do.

    Raises: VersionChanged.
    """
    if expected is None:
        return None
    if version not in expected:
        raise VersionChanged
    return version


def _with_asking(found: InForce, row: AskPolicyRow) -> InForce:
    """The account's own policy; the server's bounds, which may have shrunk since, still hold."""
    asking = found.asking
    if row.version != DEFAULT_VERSION:
        own = asking_from_data(orjson.loads(row.body))
        asking = replace(
            own,
            timeout_s=min(own.timeout_s, asking.timeout_s),
            max_tokens=min(own.max_tokens, asking.max_tokens),
            daily_budget_usd=_lower(own.daily_budget_usd, asking.daily_budget_usd),
            monthly_budget_usd=_lower(own.monthly_budget_usd, asking.monthly_budget_usd),
        )
    return replace(
        found,
        asking=asking,
        asking_version=row.version,
        asking_at_us=row.created_at_us,
        size=found.size + len(row.body),
    )


def _lower(left: float | None, right: float | None) -> float | None:
    bounds = [bound for bound in (left, right) if bound is not None]
    return min(bounds, default=None)


def _with_policy(
    found: InForce,
    *,
    categories: CategorySet | None = None,
    thresholds: tuple[Threshold, ...] | None = None,
) -> InForce:
    policy = found.policy
    if categories is not None:
        policy = replace(policy, categories=categories.taxonomy)
    if thresholds is not None:
        policy = replace(policy, thresholds=thresholds)
    return replace(found, policy=policy, policy_hash=policy.content_hash)

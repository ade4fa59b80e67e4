"""When and how an account's messages go to providers, and what that has cost: read it, and put another in force."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from firstline.core.asking import MAX_TIMEOUT_S, MAX_TOKENS, MIN_TIMEOUT_S, AskPolicy, AskPolicyInvalid, check, to_data
from firstline.core.plans import Window, window_bounds
from firstline.core.redaction import AllowListInvalid, check_allowed
from firstline.ports.storage import DEFAULT_VERSION, AskPolicyRow, SpendRow, Storage
from firstline.usecases.access import Caller
from firstline.usecases.accounts import Accounts
from firstline.usecases.in_force import AccountsInForce, InForce, matching_version


class Offers(Protocol):
    """The providers that this server can ask."""

    def offered(self) -> Mapping[str, tuple[str, ...]]:
        """The models of each provider, its default one first; providers stand in the server's order."""
        ...

    def state(self, provider: str) -> str:
        """Whether an offered provider can be asked now: `available` or `unavailable`."""
        ...


class NothingOffered:
    """Implements `Offers` for a server without providers."""

    def offered(self) -> Mapping[str, tuple[str, ...]]:
        """None."""
        return {}

    def state(self, provider: str) -> str:
        """What is not there cannot be asked."""
        return "unavailable"


@dataclass(frozen=True, slots=True)
class Spent:
    """What an account has spent on providers in the current day and month, UTC.

    Attributes:
        today_micros, month_micros: millionths of a US dollar.
        by_model: the month by provider and model; `starts_at_us` of each is the month's.
    """

    today_micros: int = 0
    month_micros: int = 0
    by_model: tuple[SpendRow, ...] = ()


async def spent(storage: Storage, account_id: str, *, now_us: int) -> Spent:
    """What an account has spent in the day and the month that a moment lies in.

    Raises: StorageUnavailable.
    """
    starts_at_us, ends_at_us = window_bounds(Window.MONTH, now_us)
    day = window_bounds(Window.DAY, now_us)[0]
    rows = await storage.provider_spend(account_id, since_us=starts_at_us)
    month = [row for row in rows if row.starts_at_us < ends_at_us]
    return Spent(
        today_micros=sum(row.cost_usd_micros for row in month if row.starts_at_us == day),
        month_micros=sum(row.cost_usd_micros for row in month),
        by_model=_by_model(month, starts_at_us=starts_at_us),
    )


def _by_model(rows: Iterable[SpendRow], *, starts_at_us: int) -> tuple[SpendRow, ...]:
    sums: dict[tuple[str, str], SpendRow] = {}
    for row in rows:
        place = (row.provider, row.model)
        before = sums.get(place, SpendRow(starts_at_us, *place, 0, 0, 0, 0, 0))
        sums[place] = replace(
            before,
            calls=before.calls + row.calls,
            failures=before.failures + row.failures,
            input_tokens=before.input_tokens + row.input_tokens,
            output_tokens=before.output_tokens + row.output_tokens,
            cost_usd_micros=before.cost_usd_micros + row.cost_usd_micros,
        )
    return tuple(sums[place] for place in sorted(sums))


@dataclass(frozen=True, slots=True)
class AskPolicies:
    """Changes when and how an account's messages go to providers; in force for the next message, without a restart.

    Every version is kept, and every change leaves an audit entry. A change that fails changes nothing.
    """

    accounts: Accounts
    in_force: AccountsInForce
    offers: Offers

    @property
    def defaults(self) -> AskPolicy:
        """The server's defaults, within the bounds of a policy of an account's own, to build one on."""
        found = self.in_force.default_asking
        return replace(
            found, timeout_s=min(found.timeout_s, MAX_TIMEOUT_S), max_tokens=min(found.max_tokens, MAX_TOKENS)
        )

    async def get(self, caller: Caller) -> InForce:
        """What is in force for the caller's account.

        Raises: StorageUnavailable.
        """
        return await self.in_force.of(caller.account.id)

    async def spent(self, caller: Caller) -> Spent:
        """What the caller's account has spent in the current day and month.

        Raises: StorageUnavailable.
        """
        return await spent(self.accounts.storage, caller.account.id, now_us=self.accounts.clock.now_us())

    async def put(self, caller: Caller, wanted: AskPolicy | None, *, expected: Collection[str] | None) -> InForce:
        """Put a policy in force, whole, in place of the one that was; None goes back to the server's defaults.

        Args:
            expected: versions of which one must be in force until then; None for any.
        Raises: AskPolicyInvalid, VersionChanged, StorageUnavailable.
        """
        if wanted is not None:
            check_ask_policy(wanted, offered=self.offers.offered(), within=self.defaults)
        account_id = caller.account.id
        before = matching_version((await self.in_force.of(account_id)).asking_version, expected)
        row = AskPolicyRow(
            account_id=account_id,
            version=wanted.version if wanted else DEFAULT_VERSION,
            created_at_us=self.accounts.clock.now_us(),
            body=orjson.dumps(to_data(wanted) if wanted else None).decode(),
        )
        audit = self.accounts.entry(
            caller.actor, "providers.change", account_id, target=row.version, detail=_audited(wanted)
        )
        await self.accounts.storage.put_ask_policy(row, expected=before, audit=audit)
        return await self.in_force.renewed(account_id, actor=caller.actor)


def check_ask_policy(policy: AskPolicy, *, offered: Mapping[str, Collection[str]], within: AskPolicy) -> None:
    """Raises: AskPolicyInvalid at the first bound that it breaks.

    Args:
        offered: the models of each provider that this server offers.
        within: the server's own: an account may wait less long and spend less, not more.
    """
    if not MIN_TIMEOUT_S <= policy.timeout_s <= within.timeout_s:
        problem = f"must be between {MIN_TIMEOUT_S:g} and {within.timeout_s:g}, the longest that this server waits"
        raise AskPolicyInvalid("timeout_seconds", problem)
    if policy.max_tokens > within.max_tokens:
        raise AskPolicyInvalid("max_tokens", f"must be at most {within.max_tokens}, what this server allows")
    for field in ("daily_budget_usd", "monthly_budget_usd"):
        budget, most = getattr(policy, field), getattr(within, field)
        if most is not None and (budget is None or budget > most):
            raise AskPolicyInvalid(field, f"must be at most {most:g}, what this server allows an account")
    check(policy, offered=offered)
    try:
        check_allowed(policy.allowed, field="allowed")
    except AllowListInvalid as error:
        raise AskPolicyInvalid(error.field, str(error).removeprefix(f"{error.field} ")) from None


def _audited(policy: AskPolicy | None) -> dict[str, object]:
    """A policy without the values of its allow list, which may be people's addresses."""
    return {**to_data(policy), "allowed": len(policy.allowed)} if policy else {}

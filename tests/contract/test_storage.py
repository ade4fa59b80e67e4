"""What every storage promises, over memory, SQLite and PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest
from stores import ACCOUNT, DAY_US, KEY, NOW_US, Store, account, entry, idempotency, key, spend

from firstline.core.plans import Window, window_bounds
from firstline.core.taxonomy import Contract
from firstline.ports.journal import CounterDelta, Record
from firstline.ports.storage import (
    AskPolicyRow,
    AuditEntry,
    CategoriesRow,
    EmailTaken,
    KeyNotFound,
    ThresholdsRow,
    VersionChanged,
)

Work = Callable[[Store], Awaitable[None]]
HOUR_US = 3_600 * 1_000_000


@pytest.fixture
def with_store(opened: Callable[[], AbstractAsyncContextManager[Store]]) -> Callable[[Work], None]:
    """Runs a function on a fresh store with one account and one key."""

    def run(work: Work) -> None:
        async def work_on_it() -> None:
            async with opened() as store:
                await work(store)

        asyncio.run(work_on_it())

    return run


Run = Callable[[Work], None]


def test_a_key_is_found_by_its_hash_with_its_account(with_store: Run) -> None:
    async def work(store: Store) -> None:
        assert await store.storage.find_key(f"hash-{KEY}") == (key(), account())
        assert await store.storage.find_key("nothing") is None
        found = await store.storage.find_keys(["nothing", f"hash-{KEY}"])
        assert dict(found) == {f"hash-{KEY}": (key(), account())}
        assert not await store.storage.find_keys([])

    with_store(work)


@pytest.mark.parametrize("email", ["a@example.com", "A@Example.COM", "  a@example.com "])
def test_an_account_is_found_by_its_address_without_regard_to_case(with_store: Run, email: str) -> None:
    async def work(store: Store) -> None:
        assert await store.storage.find_account(email) == account()
        assert await store.storage.find_account("b@example.com") is None

    with_store(work)


def test_an_address_has_one_account_and_a_refused_one_leaves_nothing(with_store: Run) -> None:
    async def work(store: Store) -> None:
        before = store.count("audit")
        again = account("c" * 32, email="A@EXAMPLE.com")
        with pytest.raises(EmailTaken):
            await store.storage.add_account(again, key("d" * 32, account_id="c" * 32), entry("2"))
        assert len(await store.storage.list_keys()) == 1
        if store.look is not None:
            assert store.count("audit") == before

    with_store(work)


def test_of_two_registrations_at_once_one_wins(with_store: Run) -> None:
    async def work(store: Store) -> None:
        outcomes = await asyncio.gather(
            *(
                store.storage.add_account(account(f"{n:032x}", email="race@example.com"), None, entry(str(100 + n)))
                for n in range(5)
            ),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["EmailTaken"] * 4 + ["NoneType"]

    with_store(work)


@pytest.mark.parametrize("catalogue", list(Contract))
def test_a_plan_is_changed_in_one_catalogue_alone(with_store: Run, catalogue: Contract) -> None:
    async def work(store: Store) -> None:
        await store.storage.set_plan(ACCOUNT, catalogue, "starter", entry("2"))
        found = await store.storage.find_account("a@example.com")
        assert found is not None
        assert found.plans == {**account().plans, catalogue: "starter"}

    with_store(work)


def test_keys_are_listed_oldest_first_by_account_or_all(with_store: Run) -> None:
    async def work(store: Store) -> None:
        second, third = key("d" * 32, at_us=NOW_US - 5), key("e" * 32, account_id="c" * 32, at_us=NOW_US + 5)
        await store.storage.add_account(account("c" * 32, email="c@example.com"), third, entry("2"))
        await store.storage.add_key(second, entry("3"))
        assert [found for found, _ in await store.storage.list_keys(ACCOUNT)] == [second, key()]
        assert [found for found, _ in await store.storage.list_keys()] == [second, key(), third]
        assert list(await store.storage.list_keys("f" * 32)) == []

    with_store(work)


def test_revoking_is_for_good_and_once(with_store: Run) -> None:
    async def work(store: Store) -> None:
        revoked = await store.storage.revoke_key(KEY, account_id=ACCOUNT, at_us=NOW_US + 7, audit=entry("2"))
        assert revoked == replace(key(), revoked_at_us=NOW_US + 7)
        again = await store.storage.revoke_key(KEY, account_id=None, at_us=NOW_US + 9, audit=entry("3"))
        assert again.revoked_at_us == NOW_US + 7
        found = await store.storage.find_key(f"hash-{KEY}")
        assert found is not None
        assert found[0].revoked_at_us == NOW_US + 7
        assert store.count("audit") == 2

    with_store(work)


@pytest.mark.parametrize(("key_id", "account_id"), [("f" * 32, None), (KEY, "c" * 32)])
def test_a_key_that_is_not_there_or_another_s_is_not_found(
    with_store: Run, key_id: str, account_id: str | None
) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(KeyNotFound):
            await store.storage.revoke_key(key_id, account_id=account_id, at_us=NOW_US, audit=entry("2"))
        found = await store.storage.find_key(f"hash-{KEY}")
        assert found is not None
        assert found[0].revoked_at_us is None

    with_store(work)


def test_usage_is_that_of_the_windows_that_the_moment_lies_in(with_store: Run) -> None:
    async def work(store: Store) -> None:
        for window in Window:
            for at_us, amount in ((NOW_US, 3), (window_bounds(window, NOW_US)[0] - 1, 50)):
                delta = CounterDelta(ACCOUNT, "decision", window, *window_bounds(window, at_us), amount)
                await store.journal.append(Record(counters=(delta,)))
        assert await store.storage.usage(ACCOUNT, Contract.DECISION, now_us=NOW_US) == dict.fromkeys(Window, 3)
        assert await store.storage.usage(ACCOUNT, Contract.CLASSIFIER, now_us=NOW_US) == {}
        later = window_bounds(Window.MONTH, NOW_US)[1]
        assert await store.storage.usage(ACCOUNT, Contract.DECISION, now_us=later) == {}

    with_store(work)


def test_accounts_are_counted_that_have_used_so_much_of_the_window_of_now(with_store: Run) -> None:
    async def work(store: Store) -> None:
        paid = replace(
            account("c" * 32, email="c@example.com"), plans={**account().plans, Contract.DECISION: "starter"}
        )
        await store.storage.add_account(paid, None, entry("2"))

        async def count(window: Window = Window.MONTH, *, now_us: int = NOW_US, **least: int) -> int:
            return await store.storage.count_used(Contract.DECISION, window, least=least, now_us=now_us)

        assert await count(free=1, starter=1) == 0
        for account_id, used in ((ACCOUNT, 90), (paid.id, 89)):
            for catalogue in ("decision", "classifier"):
                delta = CounterDelta(account_id, catalogue, Window.MONTH, *window_bounds(Window.MONTH, NOW_US), used)
                await store.journal.append(Record(counters=(delta,)))
        assert await count(free=90, starter=90) == 1
        assert await count(free=90, starter=89) == 2
        assert await count(free=91, starter=90) == 0
        assert await count(starter=1) == 1  # an account on a plan that is not asked for
        assert await count(Window.DAY, free=1, starter=1) == 0
        assert await count(free=1, starter=1, now_us=window_bounds(Window.MONTH, NOW_US)[1]) == 0

    with_store(work)


def test_an_account_that_never_asked_has_no_last_request(with_store: Run) -> None:
    async def work(store: Store) -> None:
        assert await store.storage.last_request_at_us(ACCOUNT) is None

    with_store(work)


def test_pruning_removes_what_is_over_and_keeps_the_ledger(with_store: Run) -> None:
    async def work(store: Store) -> None:
        for window in Window:
            delta = CounterDelta(ACCOUNT, "decision", window, *window_bounds(window, NOW_US), 1)
            await store.journal.append(Record(counters=(delta,)))
        await store.journal.append(Record(spend=(spend(day=-1_000),)))
        await store.journal.append(Record(idempotency=idempotency("old", expires_at_us=NOW_US)))
        await store.journal.append(Record(idempotency=idempotency("new", expires_at_us=NOW_US + 100 * HOUR_US)))
        assert await store.storage.prune(now_us=NOW_US) == 0
        assert await store.storage.prune(now_us=NOW_US + 60 * HOUR_US) == 3
        assert await store.storage.prune(now_us=NOW_US + 60 * HOUR_US) == 0
        assert set(await store.storage.usage(ACCOUNT, Contract.DECISION, now_us=NOW_US)) == {
            Window.DAY,
            Window.MONTH,
        }
        assert store.count("idempotency") == 1
        assert len(await store.storage.provider_spend(ACCOUNT, since_us=0)) == 1

    with_store(work)


def test_a_version_is_kept_once_and_every_change_of_what_is_in_force_is_audited(with_store: Run) -> None:
    async def keep(store: Store, content_hash: str, number: str) -> None:
        audit = entry(number, action="rules.change", target=content_hash)
        await store.storage.keep_version("rules", content_hash, "body", audit=audit)

    async def work(store: Store) -> None:
        before = store.count("audit")
        for content_hash, number, changes in (("one", "2", 1), ("one", "3", 1), ("two", "4", 2), ("one", "5", 3)):
            await keep(store, content_hash, number)
            assert store.count("audit") == before + changes
        assert store.count("versions") == 2

    with_store(work)


def test_versions_of_the_server_and_of_accounts_are_audited_apart(with_store: Run) -> None:
    async def work(store: Store) -> None:
        before = store.count("audit")
        own = entry("2", action="policy.change", target="own")
        await store.storage.keep_version("policy", "own", "body", audit=own)
        for number in ("3", "4"):
            audit = AuditEntry(number.rjust(32, "0"), NOW_US, "system", "policy.change", None, "shared")
            await store.storage.keep_version("policy", "shared", "body", audit=audit)
        await store.storage.keep_version("policy", "own", "body", audit=replace(own, id="5".rjust(32, "0")))
        assert store.count("audit") == before + 2

    with_store(work)


def categories(
    version: str, *, account_id: str = ACCOUNT, at_us: int = NOW_US, trained: bytes = b"\x00w"
) -> CategoriesRow:
    return CategoriesRow(account_id, version, at_us, f'["{version}"]', "hybrid.v1+1", trained)


def test_an_account_that_set_nothing_has_nothing(with_store: Run) -> None:
    async def work(store: Store) -> None:
        assert await store.storage.find_categories(ACCOUNT) is None
        assert await store.storage.find_thresholds(ACCOUNT) is None
        assert await store.storage.find_ask_policy(ACCOUNT) is None
        assert list(await store.storage.provider_spend(ACCOUNT, since_us=0)) == []

    with_store(work)


def test_the_last_categories_are_in_force_and_all_versions_are_kept(with_store: Run) -> None:
    async def work(store: Store) -> None:
        for number, version in enumerate(("one", "two", "one")):
            await store.storage.put_categories(
                categories(version, at_us=NOW_US - 10 * number), expected=None, audit=entry(str(10 + number))
            )
            found = await store.storage.find_categories(ACCOUNT)
            assert found is not None
            assert (found.version, found.body, found.trained) == (version, f'["{version}"]', b"\x00w")
            assert found.created_at_us == NOW_US + number
        assert store.count("account_categories") == 2
        assert store.count("audit") == 4

    with_store(work)


def test_categories_and_thresholds_belong_to_one_account(with_store: Run) -> None:
    async def work(store: Store) -> None:
        other = "c" * 32
        await store.storage.add_account(account(other, email="c@example.com"), None, entry("2"))
        await store.storage.put_categories(categories("one"), expected=None, audit=entry("3"))
        mine = ThresholdsRow(other, "t", NOW_US, "[]")
        assert await store.storage.put_thresholds(mine, expected=None, audit=entry("4")) == mine
        assert await store.storage.find_categories(other) is None
        assert await store.storage.find_thresholds(ACCOUNT) is None
        assert await store.storage.find_thresholds(other) == mine

    with_store(work)


def test_a_change_made_for_another_version_is_refused_and_leaves_nothing(with_store: Run) -> None:
    async def work(store: Store) -> None:
        put = store.storage.put_categories
        await put(categories("one"), expected="default", audit=entry("2"))
        for expected in ("default", "two"):
            with pytest.raises(VersionChanged):
                await put(categories("two"), expected=expected, audit=entry("3"))
        await put(categories("two"), expected="one", audit=entry("4"))
        thresholds = ThresholdsRow(ACCOUNT, "t", NOW_US, "[]")
        with pytest.raises(VersionChanged):
            await store.storage.put_thresholds(thresholds, expected="t", audit=entry("5"))
        assert store.count("account_categories") == 2
        asking = AskPolicyRow(ACCOUNT, "p", NOW_US, "{}")
        with pytest.raises(VersionChanged):
            await store.storage.put_ask_policy(asking, expected="p", audit=entry("6"))
        assert store.count("account_thresholds") == 0
        assert store.count("account_asking") == 0
        assert store.count("audit") == 3

    with_store(work)


def test_the_last_ask_policy_is_in_force_and_all_versions_are_kept(with_store: Run) -> None:
    async def work(store: Store) -> None:
        other = "c" * 32
        await store.storage.add_account(account(other, email="c@example.com"), None, entry("2"))
        for number, version in enumerate(("one", "two", "one")):
            row = AskPolicyRow(ACCOUNT, version, NOW_US - 10 * number, f'{{"mode": "{version}"}}')
            stored = await store.storage.put_ask_policy(row, expected=None, audit=entry(str(10 + number)))
            assert stored == replace(row, created_at_us=NOW_US + number)
            assert await store.storage.find_ask_policy(ACCOUNT) == stored
        assert await store.storage.find_ask_policy(other) is None
        assert store.count("account_asking") == 2
        assert store.count("audit") == 5

    with_store(work)


def test_spend_is_listed_by_day_from_a_moment_on_and_belongs_to_one_account(with_store: Run) -> None:
    async def work(store: Store) -> None:
        other = "c" * 32
        await store.storage.add_account(account(other, email="c@example.com"), None, entry("2"))
        await store.journal.append(Record(spend=tuple(spend(day=day, provider="openai") for day in (0, -2, -1))))
        await store.journal.append(Record(spend=(spend(day=-1), spend(account_id=other))))
        today_us = spend().starts_at_us
        found = await store.storage.provider_spend(ACCOUNT, since_us=today_us - DAY_US)
        assert [(row.starts_at_us, row.provider) for row in found] == [
            (today_us - DAY_US, "gemini"),
            (today_us - DAY_US, "openai"),
            (today_us, "openai"),
        ]
        assert (found[0].model, found[0].calls, found[0].failures) == ("small", 3, 1)
        assert (found[0].input_tokens, found[0].output_tokens, found[0].cost_usd_micros) == (900, 60, 250)
        assert len(await store.storage.provider_spend(ACCOUNT, since_us=today_us - DAY_US + 1)) == 1

    with_store(work)


def test_training_again_replaces_the_bytes_of_the_version_in_force_alone(with_store: Run) -> None:
    async def work(store: Store) -> None:
        await store.storage.put_categories(categories("one"), expected=None, audit=entry("2"))
        stored = await store.storage.put_categories(categories("two"), expected=None, audit=entry("3"))
        again = replace(categories("two", trained=b"new"), model="hybrid.v1+2")
        assert not await store.storage.retrain_categories(replace(again, version="one"))
        assert await store.storage.retrain_categories(again)
        found = await store.storage.find_categories(ACCOUNT)
        assert found == replace(stored, model="hybrid.v1+2", trained=b"new")

    with_store(work)


def test_a_store_that_works_answers_a_ping(with_store: Run) -> None:
    async def work(store: Store) -> None:
        assert await store.storage.ping()

    with_store(work)

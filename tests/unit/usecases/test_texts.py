"""What of a ticket and its verdict is sealed, and what opens it again."""

import asyncio
import itertools

import orjson
import pytest

from firstline.adapters.memory_history import MemoryDataKeys
from firstline.adapters.sealing import Sealer
from firstline.core.completion import Asked, Completion, Outcome
from firstline.core.message import Message, facts_of
from firstline.core.taxonomy import Contract, Decision, Priority
from firstline.core.verdict import Evidence, evidence_to_data
from firstline.ports.data_keys import DataKey
from firstline.ports.journal import TicketRow, VerdictRow
from firstline.ports.sealing import SealBroken
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.texts import Opener, Texts, TextState, can_open

ACCOUNT, OTHER = "a" * 32, "b" * 32
TICKET = TicketRow("1" * 32, ACCOUNT, 1, "decision", None, "en", "My dog ate it", None, None)
FACTS = facts_of(Message("My dog ate it", Contract.DECISION))


def evidence(asked: Asked | None) -> str:
    """Evidence as it is stored."""
    return orjson.dumps(evidence_to_data(Evidence(FACTS, (), None, {}, "p", "r", asked))).decode()


COMPLETION = Completion("Other", Priority.HIGH, Decision.STANDARD_RESPONSE, 0.1, "en", "Feed the dog.", "A dog.")
SAID = evidence(Asked(Outcome.ANSWERED, "gemini", "small", COMPLETION))


class Clock:
    def now_us(self) -> int:
        return 1


def texts(*secrets: str, keys: MemoryDataKeys | None = None, stale_s: int = 0) -> Texts:
    numbers = itertools.count(1)
    return Texts(
        MemoryDataKeys() if keys is None else keys,
        sealing=Sealer(secrets, purpose="texts") if secrets else None,
        open_keys=lambda found: Sealer(found, purpose="texts"),
        new_key=lambda: bytes([next(numbers)]) * 32,
        clock=Clock(),
        stale_s=stale_s,
    )


def verdict(evidence: str | None) -> VerdictRow:
    return VerdictRow(
        "1" * 32, 2, ACCOUNT, 1, "Other", "high", "standard_response", 0.9, 0.5, 0.1, 0, "provider", "Feed the dog.",
        '[{"code":"provider","text":"A dog."}]', evidence, 5,
    )  # fmt: skip


def test_a_text_is_sealed_differently_each_time_and_opens_again() -> None:
    async def work() -> None:
        own = texts("one")
        seal = await own.seal_of(ACCOUNT)
        assert seal is not None
        first, second = seal.ticket(TICKET), seal.ticket(TICKET)
        assert first.text != second.text
        assert "dog" not in str(first)
        assert (await own.opener_of(ACCOUNT)).text(first) == ("My dog ate it", TextState.KEPT)

    asyncio.run(work())


def test_what_a_provider_said_is_sealed_and_what_the_local_model_says_is_not() -> None:
    async def work() -> None:
        own = texts("one")
        seal = await own.seal_of(ACCOUNT)
        assert seal is not None
        sealed = seal.verdict(verdict(SAID))
        assert "dog" not in str(sealed)
        assert sealed.category == "Other"
        assert (await own.opener_of(ACCOUNT)).verdict(sealed) == verdict(SAID)
        for local in (None, evidence(None), evidence(Asked(Outcome.TIMEOUT))):
            assert seal.verdict(verdict(local)) == verdict(local)

    asyncio.run(work())


def test_a_sealed_text_opens_in_its_own_place_alone() -> None:
    async def work() -> None:
        own = texts("one")
        seal, others = await own.seal_of(ACCOUNT), await own.seal_of(OTHER)
        assert seal is not None
        assert others is not None
        moved = seal.ticket(TICKET)._replace(id="2" * 32)
        opener = await own.opener_of(ACCOUNT)
        assert opener.text(moved) == (None, TextState.UNREADABLE)
        assert opener.text(others.ticket(TICKET)) == (None, TextState.UNREADABLE)

    asyncio.run(work())


def test_what_cannot_be_opened_is_shown_as_missing_and_breaks_nothing() -> None:
    async def work() -> None:
        own = texts("one")
        seal = await own.seal_of(ACCOUNT)
        assert seal is not None
        ticket, row = seal.ticket(TICKET), seal.verdict(verdict(SAID))
        assert await own.destroy(ACCOUNT) == 1
        for opener in (await own.opener_of(ACCOUNT), Opener(None)):
            assert opener.text(ticket) == (None, TextState.UNREADABLE)
            shown = opener.verdict(row)
            assert (shown.recommended_action, shown.reasons, shown.evidence) == ("", "[]", None)
            assert shown.category == "Other"

    asyncio.run(work())


def test_after_a_key_is_destroyed_the_account_gets_another() -> None:
    async def work() -> None:
        own = texts("one")
        before = await own.seal_of(ACCOUNT)
        await own.destroy(ACCOUNT)
        after = await own.seal_of(ACCOUNT)
        assert before is not None
        assert after is not None
        assert (await own.opener_of(ACCOUNT)).text(before.ticket(TICKET))[1] is TextState.UNREADABLE
        assert (await own.opener_of(ACCOUNT)).text(after.ticket(TICKET))[1] is TextState.KEPT

    asyncio.run(work())


def test_without_a_secret_texts_stay_as_they_are() -> None:
    async def work() -> None:
        own = texts()
        assert not own.sealed
        assert await own.seal_of(ACCOUNT) is None
        assert (await own.opener_of(ACCOUNT)).text(TICKET) == ("My dog ate it", TextState.KEPT)

    asyncio.run(work())


def test_keys_sealed_anew_need_the_old_secret_no_more() -> None:
    async def work() -> None:
        keys = MemoryDataKeys()
        seal = await texts("old", keys=keys).seal_of(ACCOUNT)
        assert seal is not None
        ticket = seal.ticket(TICKET)
        assert not can_open(await keys.all(), Sealer(["new"], purpose="texts"))
        with pytest.raises(SealBroken):
            await texts("new", keys=keys).seal_of(ACCOUNT)
        assert await texts("new", "old", keys=keys).reseal(Sealer(["new"], purpose="texts")) == 1
        assert await texts("new", "old", keys=keys).reseal(Sealer(["new"], purpose="texts")) == 0
        assert can_open(await keys.all(), Sealer(["new"], purpose="texts"))
        assert (await texts("new", keys=keys).opener_of(ACCOUNT)).text(ticket)[0] == "My dog ate it"
        assert not can_open(await keys.all(), None)

    asyncio.run(work())


@pytest.mark.parametrize("stale_s", [0, 300])
def test_a_seal_outlives_a_change_only_where_its_key_cannot_be_read_and_for_a_time(stale_s: int) -> None:
    class Keys(MemoryDataKeys):
        away = False

        async def find(self, account_id: str) -> list[DataKey]:
            if self.away:
                raise StorageUnavailable("away")
            return list(await super().find(account_id))

    async def work() -> None:
        keys = Keys()
        own = texts("one", keys=keys, stale_s=stale_s)
        before = await own.seal_of(ACCOUNT)
        own.forget()
        assert own.cached(ACCOUNT) is None
        keys.away = True
        if stale_s:
            assert await own.seal_of(ACCOUNT) is before
        else:
            with pytest.raises(StorageUnavailable):
                await own.seal_of(ACCOUNT)
        keys.away = False
        await keys.destroy(ACCOUNT, at_us=2)
        again = texts("one", keys=keys, stale_s=stale_s)
        await again.seal_of(ACCOUNT)
        await again.destroy(ACCOUNT)
        keys.away = True
        with pytest.raises(StorageUnavailable):  # destroyed here: known to be gone
            await again.seal_of(ACCOUNT)

    asyncio.run(work())

"""Asking providers, in virtual time: who is asked when, who waits for whom, and what it costs."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from scripted_provider import HANGS, ScriptedProvider, Step, Watched, answer
from virtual_time import after, run

from firstline.adapters.memory_store import MemoryStore
from firstline.adapters.system import SystemIdentities
from firstline.core.asking import AskPolicy, ModelChoice
from firstline.core.breaker import BreakerPolicy, Phase
from firstline.core.categories import CategorySet, OwnCategory
from firstline.core.completion import Asked, FailureKind, Outcome
from firstline.core.message import Message
from firstline.core.taxonomy import DEFAULT_CATEGORIES, Contract, Priority
from firstline.ports.clock import Clock
from firstline.ports.provider import Question, Reply
from firstline.usecases.asking import Asking, Inquiry, Opinion
from firstline.usecases.completions import Completions
from firstline.usecases.guarded_provider import GuardedProvider
from firstline.usecases.spending import Spending

DEADLINE_S = 2.0
WHOLE_DOLLAR = 1_000_000


class StandingClock:
    """Implements `ports.clock.Clock`."""

    def now_us(self) -> int:
        return 1_795_000_000_000_000


class World:
    """Providers behind everything that guards them."""

    def __init__(
        self,
        *providers: ScriptedProvider,
        cost_micros: int = 1_000,
        cache: int = 100,
        cache_s: float = 60.0,
        most_at_once: int = 64,
        late_s: float = 20.0,
        clock: Clock | None = None,
    ) -> None:
        self.watched = Watched()
        self.store = MemoryStore()
        self.spending = Spending(self.store, clock=clock or StandingClock(), cost_of=lambda *_: cost_micros)
        self.guarded = [
            GuardedProvider(one, policy=BreakerPolicy(), most_at_once=most_at_once, watcher=self.watched)
            for one in providers
        ]
        self.asking = Asking(
            self.guarded,
            spending=self.spending,
            completions=Completions(most=cache, seconds=cache_s),
            watcher=self.watched,
            late_s=late_s,
        )
        self._numbers = iter(range(1_000_000))

    async def ask(
        self,
        text: str | None = None,
        *,
        account: str = "a",
        asking: AskPolicy = AskPolicy(),
        seconds: float = DEADLINE_S,
    ) -> Opinion:
        """Ask about a message, a new one unless a text is given."""
        message = Message(text or f"message {next(self._numbers)}", Contract.CLASSIFIER)
        inquiry = Inquiry(account, message, asking, DEFAULT_CATEGORIES)
        return await self.asking.ask(inquiry, deadline_s=asyncio.get_running_loop().time() + seconds)

    async def took(self, text: str | None = None, **options: float) -> tuple[Asked, float]:
        """Ask, and how long that took."""
        began_s = asyncio.get_running_loop().time()
        opinion = await self.ask(text, **options)  # type: ignore[arg-type]  # only seconds is given
        return opinion.asked, asyncio.get_running_loop().time() - began_s

    async def warm(self, calls: int = 20) -> None:
        """Let it be known how fast the providers are."""
        for _ in range(calls):
            await self.ask()


def two(primary: Step, fallback: Step = Step()) -> tuple[ScriptedProvider, ScriptedProvider]:
    """The default pair."""
    return ScriptedProvider("gemini", primary), ScriptedProvider("openai", fallback)


def test_first_provider_answers_and_no_other_is_asked() -> None:
    gemini, openai = two(Step(text=answer("Payment Issue")))
    asked, seconds = run(World(gemini, openai).took())
    assert (asked.outcome, asked.provider, asked.model) == (Outcome.ANSWERED, "gemini", "m")
    assert asked.completion is not None
    assert asked.completion.category == "Payment Issue"
    assert seconds == pytest.approx(0.08)
    assert openai.calls == 0


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.TIMEOUT])
def test_next_provider_is_asked_at_once_when_the_first_fails(kind: FailureKind) -> None:
    gemini, openai = two(Step(0.01, kind=kind))
    asked, seconds = run(World(gemini, openai).took())
    assert (asked.provider, asked.failures) == ("openai", (("gemini", kind),))
    assert seconds == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", FailureKind.EMPTY),
        ("{", FailureKind.BAD_JSON),
        ("[]", FailureKind.BAD_SCHEMA),
        (answer("Nonsense"), FailureKind.BAD_SCHEMA),
        (answer(priority="urgent"), FailureKind.BAD_SCHEMA),
        (answer(churn_risk=1.2), FailureKind.BAD_SCHEMA),
        (answer(churn_risk=True), FailureKind.BAD_SCHEMA),
        (answer(reason="x" * 30_000), FailureKind.TOO_LARGE),
        (
            answer(reason="You triage messages that customers have sent to a support team. You are given one JSON"),
            FailureKind.LEAK,
        ),
    ],
)
def test_answer_that_cannot_be_used_is_a_failure_of_its_kind(text: str, kind: FailureKind) -> None:
    gemini, openai = two(Step(text=text))
    world = World(gemini, openai)
    asked, _ = run(world.took())
    assert asked.provider == "openai"
    assert world.watched.failures == [("gemini", kind)]


def test_all_providers_failing_is_said_with_every_failure() -> None:
    gemini, openai = two(Step(kind=FailureKind.RATE_LIMITED), Step(kind=FailureKind.UNAUTHORIZED))
    asked, _ = run(World(gemini, openai).took())
    assert asked.outcome is Outcome.FAILED
    assert [kind for _, kind in asked.failures] == [FailureKind.RATE_LIMITED, FailureKind.UNAUTHORIZED]


def test_single_provider_is_tried_a_second_time_after_a_passing_trouble() -> None:
    gemini = ScriptedProvider("gemini", lambda call: Step(kind=FailureKind.SERVER_ERROR if call == 1 else None))
    asked, _ = run(World(gemini).took())
    assert asked.outcome is Outcome.ANSWERED
    assert gemini.calls == 2


def test_second_tries_stop_when_their_budget_is_spent() -> None:
    async def scenario() -> tuple[int, int, int]:
        shaky = ScriptedProvider("openai", lambda call: Step(0.0, kind=FailureKind.REFUSED if call % 3 == 0 else None))
        world = World(shaky)
        outcomes = [(await world.ask()).asked.outcome for _ in range(400)]
        return shaky.calls, outcomes.count(Outcome.ANSWERED), outcomes.count(Outcome.FAILED)

    calls, answered, failed = run(scenario())
    assert answered + failed == 400
    assert failed > 0
    assert 20 < calls - 400 <= 10 + 0.1 * calls


def test_deadline_is_kept_to_and_the_late_answer_is_handed_on() -> None:
    slow = ScriptedProvider("gemini", Step(5.0, text=answer("Payment Issue")))

    async def scenario() -> tuple[Opinion, float, Asked]:
        world = World(slow)
        began_s = asyncio.get_running_loop().time()
        opinion = await world.ask()
        seconds = asyncio.get_running_loop().time() - began_s
        assert opinion.late is not None
        return opinion, seconds, await opinion.late

    opinion, seconds, late = run(scenario())
    assert (opinion.asked.outcome, opinion.asked.completion) == (Outcome.TIMEOUT, None)
    assert seconds == pytest.approx(DEADLINE_S)
    assert late.completion is not None
    assert late.completion.category == "Payment Issue"


def test_deadlines_too_short_for_any_answer_do_not_switch_a_provider_off() -> None:
    async def scenario() -> tuple[list[Outcome], str]:
        gemini = ScriptedProvider("gemini", Step(0.3))
        world = World(gemini)
        outcomes = [(await world.ask(seconds=0.01)).asked.outcome for _ in range(50)]
        await after(1.0)
        return outcomes, world.asking.state("gemini")

    outcomes, state = run(scenario())
    assert set(outcomes) == {Outcome.TIMEOUT}
    assert state == "available"


def test_single_provider_that_hangs_is_switched_off_all_the_same() -> None:
    async def scenario() -> str:
        world = World(ScriptedProvider("gemini", HANGS))
        for _ in range(5):
            await world.ask()
        await after(5.0)
        return world.guarded[0].phase.value

    assert run(scenario()) != Phase.CLOSED.value


def test_order_whose_providers_are_all_gone_falls_back_to_the_servers() -> None:
    async def scenario() -> Asked:
        world = World(ScriptedProvider("gemini"))
        return (await world.ask(asking=AskPolicy(order=(ModelChoice("openai"),)))).asked

    assert run(scenario()).provider == "gemini"


def test_answer_that_never_comes_is_given_up_after_the_late_time() -> None:
    async def scenario() -> tuple[float, int]:
        gemini = ScriptedProvider("gemini", HANGS)
        world = World(gemini, late_s=3.0)
        began_s = asyncio.get_running_loop().time()
        opinion = await world.ask()
        assert opinion.late is not None
        late = await opinion.late
        assert late.outcome is not Outcome.ANSWERED
        await after(0.1)
        return asyncio.get_running_loop().time() - began_s, gemini.running

    seconds, running = run(scenario())
    assert seconds == pytest.approx(DEADLINE_S + 3.0 + 0.1, abs=0.05)
    assert running == 0


def test_slow_primary_is_hedged_after_its_own_recent_95th_percentile() -> None:
    async def scenario() -> tuple[Asked, float, World, list[ScriptedProvider]]:
        gemini, openai = two(Step(0.1))
        world = World(gemini, openai)
        await world.warm()
        gemini.step = Step(1.5)
        asked, seconds = await world.took()
        return asked, seconds, world, [gemini, openai]

    asked, seconds, world, providers = run(scenario())
    assert asked.provider == "openai"
    assert seconds == pytest.approx(0.1 * 1.1 + 0.08)
    assert world.watched.hedges == ["gemini"]
    assert [provider.calls for provider in providers] == [21, 1]


def test_hedge_that_loses_is_no_failure_and_is_let_finish() -> None:
    async def scenario() -> tuple[list[str], World]:
        gemini, openai = two(Step(0.1), Step(0.4))
        world = World(gemini, openai)
        await world.warm()
        gemini.step = Step(0.2)
        providers = []
        for _ in range(10):
            asked, _ = await world.took()
            providers.append(asked.provider or "")
        await after(1.0)
        return providers, world

    providers, world = run(scenario())
    assert set(providers) == {"gemini"}
    assert world.watched.failures == []
    assert "openai" in world.watched.answers


def test_hung_primary_costs_a_hedge_until_its_breaker_opens_and_nothing_then() -> None:
    async def scenario() -> tuple[list[float], World, ScriptedProvider]:
        gemini, openai = two(Step(0.08))
        world = World(gemini, openai)
        await world.warm()
        gemini.step = HANGS
        added: list[float] = []

        async def one() -> None:
            asked, seconds = await world.took()
            assert asked.provider == "openai"
            added.append(seconds - 0.08)

        tasks = []
        for _ in range(200):
            tasks.append(asyncio.create_task(one()))
            await after(0.02)
        await asyncio.gather(*tasks)
        return added, world, gemini

    added, world, gemini = run(scenario())
    assert max(added) <= 0.15
    assert max(added[100:]) <= 0.005
    assert ("gemini", Phase.OPEN) in world.watched.phases
    assert gemini.calls < 20 + 60


def test_primary_whose_answers_are_never_valid_is_soon_not_waited_for() -> None:
    async def scenario() -> list[float]:
        gemini, openai = two(Step(0.08))
        world = World(gemini, openai)
        await world.warm()
        gemini.step = Step(0.08, text="no JSON")
        return [(await world.took())[1] for _ in range(6)]

    seconds = run(scenario())
    assert seconds[:2] == [pytest.approx(0.16)] * 2
    assert seconds[2:] == [pytest.approx(0.08)] * 4


def test_failures_in_a_row_open_the_breaker_and_a_probe_closes_it() -> None:
    async def scenario() -> tuple[int, int, str | None, float]:
        gemini, openai = two(Step(0.0, kind=FailureKind.SERVER_ERROR))
        world = World(gemini, openai)
        for _ in range(12):
            await world.ask()
        while_open = gemini.calls
        gemini.step = Step(0.05)
        await after(1.0)
        await world.ask()  # the probe goes beside the fallback
        await after(0.1)
        asked, seconds = await world.took()
        return while_open, gemini.calls, asked.provider, seconds

    while_open, calls, provider, seconds = run(scenario())
    assert while_open == 5
    assert calls == 7
    assert provider == "gemini"
    assert seconds == pytest.approx(0.05)


def test_probe_that_fails_by_an_error_of_our_own_is_followed_by_another() -> None:
    class Faulty(ScriptedProvider):
        async def complete(self, question: Question, **options: Any) -> Reply:
            if self.calls == 1:
                self.questions.append(question)
                raise TypeError
            return await super().complete(question, **options)

    async def scenario() -> tuple[Asked, str | None]:
        gemini = Faulty("gemini", lambda call: Step(kind=FailureKind.UNAUTHORIZED if call == 1 else None))
        world = World(gemini)
        await world.ask()
        await after(1.0)
        probe = await world.ask()
        await after(30.0)
        return probe.asked, (await world.ask()).asked.provider

    asked, provider = run(scenario())
    assert (asked.failures, provider) == ((("gemini", FailureKind.FAULT),), "gemini")


def test_only_one_probe_is_on_its_way_at_a_time_and_nobody_waits_for_it() -> None:
    async def scenario() -> tuple[int, list[float]]:
        gemini, openai = two(Step(0.0, kind=FailureKind.SERVER_ERROR))
        world = World(gemini, openai)
        for _ in range(5):
            await world.ask()
        gemini.step = HANGS
        await after(1.0)
        before = gemini.calls
        found = await asyncio.gather(*(world.took() for _ in range(50)))
        return gemini.calls - before, [seconds for _, seconds in found]

    probes, seconds = run(scenario())
    assert probes == 1
    assert max(seconds) == pytest.approx(0.08)


def test_retry_after_opens_the_breaker_for_so_long_and_nobody_sleeps() -> None:
    async def scenario() -> tuple[float, int, int]:
        gemini, openai = two(Step(0.0, kind=FailureKind.RATE_LIMITED, retry_after_s=20.0))
        world = World(gemini, openai)
        _, seconds = await world.took()
        gemini.step = Step()
        await after(19.0)
        await world.ask()
        at_19 = gemini.calls
        await after(1.0)
        await world.ask()
        return seconds, at_19, gemini.calls

    assert run(scenario()) == (pytest.approx(0.08), 1, 2)


def test_one_sender_of_blocked_messages_does_not_switch_a_provider_off() -> None:
    async def scenario() -> Phase:
        gemini, openai = two(Step())
        world = World(gemini, openai)
        for number in range(100):
            gemini.step = Step(kind=FailureKind.BLOCKED) if number % 2 else Step()
            await world.ask()
        return world.guarded[0].phase

    assert run(scenario()) is Phase.CLOSED


def test_all_breakers_open_means_unavailable_at_once() -> None:
    async def scenario() -> tuple[Asked, float, str]:
        gemini = ScriptedProvider("gemini", Step(0.0, kind=FailureKind.UNAUTHORIZED))
        world = World(gemini)
        await world.ask()
        asked, seconds = await world.took()
        return asked, seconds, world.asking.state("gemini")

    asked, seconds, state = run(scenario())
    assert (asked.outcome, seconds, state) == (Outcome.UNAVAILABLE, 0.0, "unavailable")


def test_provider_whose_slots_are_taken_is_passed_over() -> None:
    async def scenario() -> Sequence[str | None]:
        gemini, openai = two(Step(0.5), Step(0.5))
        world = World(gemini, openai, most_at_once=2)
        found = await asyncio.gather(*(world.took() for _ in range(5)))
        return [asked.provider for asked, _ in found]

    assert run(scenario()) == ["gemini", "gemini", "openai", "openai", None]


def test_one_account_leaves_room_for_others() -> None:
    async def scenario() -> tuple[int, str | None]:
        gemini = ScriptedProvider("gemini", Step(1.0))
        world = World(gemini)
        many = [asyncio.create_task(world.ask(account="greedy")) for _ in range(100)]
        await after(0.1)
        other = await world.ask(account="modest")
        found = await asyncio.gather(*many)
        return sum(one.asked.outcome is Outcome.ANSWERED for one in found), other.asked.provider

    answered, other = run(scenario())
    assert answered == 48
    assert other == "gemini"


def test_same_message_of_one_account_is_answered_from_the_cache() -> None:
    async def scenario() -> tuple[int, int, int]:
        gemini = ScriptedProvider("gemini")
        world = World(gemini, cache_s=60.0)
        await world.ask("My  Invoice is wrong")
        await world.ask("my invoice is wrong")
        once = gemini.calls
        await world.ask("my invoice is wrong", account="b")
        other = gemini.calls
        await after(61.0)
        await world.ask("my invoice is wrong")
        return once, other, gemini.calls

    assert run(scenario()) == (1, 2, 3)


def test_cache_is_bounded_and_forgets_the_oldest() -> None:
    async def scenario() -> int:
        gemini = ScriptedProvider("gemini")
        world = World(gemini, cache=2)
        for text in ("one", "two", "three", "one"):
            await world.ask(text)
        return gemini.calls

    assert run(scenario()) == 4


def test_answer_under_way_is_not_kept_when_all_are_forgotten() -> None:
    async def scenario() -> tuple[str | None, int]:
        gemini = ScriptedProvider("gemini")
        world = World(gemini)
        asking = asyncio.create_task(world.ask("same"))
        await after(0.01)
        world.asking.forget()
        found = await asking
        await world.ask("same")
        return found.asked.provider, gemini.calls

    assert run(scenario()) == ("gemini", 2)


def test_duplicates_at_the_same_time_are_one_call() -> None:
    async def scenario() -> tuple[int, set[str | None]]:
        gemini = ScriptedProvider("gemini")
        world = World(gemini)
        found = await asyncio.gather(*(world.ask("the same") for _ in range(10)))
        return gemini.calls, {opinion.asked.provider for opinion in found}

    assert run(scenario()) == (1, {"gemini"})


def test_one_of_the_duplicates_going_away_does_not_take_the_answer_from_the_others() -> None:
    async def scenario() -> str | None:
        world = World(ScriptedProvider("gemini"))
        first = asyncio.create_task(world.ask("the same"))
        second = asyncio.create_task(world.ask("the same"))
        await after(0.01)
        first.cancel()
        return (await second).asked.provider

    assert run(scenario()) == "gemini"


@pytest.mark.parametrize("primary", [Step(0.3, kind=FailureKind.SERVER_ERROR), HANGS])
def test_duplicate_that_waits_longer_is_answered_by_the_fallback_all_the_same(primary: Step) -> None:
    async def scenario() -> tuple[Outcome, str | None, int]:
        gemini, openai = two(primary)
        world = World(gemini, openai)
        hasty = asyncio.create_task(world.ask("same", seconds=0.05))
        await after(0.01)
        patient = await world.ask("same", seconds=5.0)
        return (await hasty).asked.outcome, patient.asked.provider, gemini.calls

    assert run(scenario()) == (Outcome.TIMEOUT, "openai", 1)


def test_question_that_missed_its_deadline_is_asked_anew_for_the_next_caller() -> None:
    async def scenario() -> tuple[str | None, int]:
        gemini = ScriptedProvider("gemini", lambda call: HANGS if call == 1 else Step())
        world = World(gemini)
        await world.ask("same", seconds=0.05)
        return (await world.ask("same")).asked.provider, world.asking.flying

    assert run(scenario()) == ("gemini", 1)


def test_own_categories_that_have_been_trained_are_asked_about_anew() -> None:
    own = CategorySet((OwnCategory("Boats", "", Priority.LOW), OwnCategory("Trains", "", Priority.LOW)))

    async def scenario() -> list[str]:
        gemini = ScriptedProvider("gemini", lambda call: Step(text=answer("Other" if call == 1 else "Boats")))
        world = World(gemini)
        message = Message("When does it leave?", Contract.CLASSIFIER)
        found = []
        for taxonomy, categories in ((DEFAULT_CATEGORIES, None), (own.taxonomy, own)):
            inquiry = Inquiry("a", message, AskPolicy(), taxonomy, categories, own.version)
            opinion = await world.asking.ask(inquiry, deadline_s=asyncio.get_running_loop().time() + DEADLINE_S)
            assert opinion.asked.completion is not None
            found.append(opinion.asked.completion.category)
        return found

    assert run(scenario()) == ["Other", "Boats"]


def test_personal_data_does_not_leave_and_comes_back_in_the_reason() -> None:
    async def scenario() -> tuple[str, str]:
        gemini = ScriptedProvider("gemini", Step(text=answer(reason="[EMAIL_1] wants a new password.")))
        world = World(gemini)
        opinion = await world.ask("write to jo.doe@example.com about the password")
        assert opinion.asked.completion is not None
        return gemini.questions[0].text, opinion.asked.completion.reason

    sent, reason = run(scenario())
    assert "jo.doe" not in sent
    assert reason == "jo.doe@example.com wants a new password."


def test_cached_answer_gives_each_message_its_own_data_back() -> None:
    async def scenario() -> tuple[int, list[str]]:
        gemini = ScriptedProvider("gemini", Step(text=answer(reason="[EMAIL_1] wants a new password.")))
        world = World(gemini)
        reasons = []
        for address in ("jo@example.com", "kim@example.org"):
            opinion = await world.ask(f"write to {address} about the password")
            assert opinion.asked.completion is not None
            reasons.append(opinion.asked.completion.reason)
        return gemini.calls, reasons

    calls, reasons = run(scenario())
    assert calls == 1
    assert reasons == ["jo@example.com wants a new password.", "kim@example.org wants a new password."]


def test_account_chooses_order_and_model() -> None:
    async def scenario() -> tuple[list[int], Asked]:
        gemini, large = ScriptedProvider("gemini"), ScriptedProvider("gemini", model="large")
        openai = ScriptedProvider("openai", Step(kind=FailureKind.EMPTY))
        world = World(gemini, large, openai)
        asking = AskPolicy(order=(ModelChoice("openai"), ModelChoice("gemini", "large")))
        opinion = await world.ask(asking=asking)
        return [one.calls for one in (gemini, large, openai)], opinion.asked

    calls, asked = run(scenario())
    assert calls == [0, 1, 1]
    assert (asked.provider, asked.model) == ("gemini", "large")


def test_budget_that_is_spent_falls_to_the_local_answer() -> None:
    async def scenario() -> list[Outcome]:
        world = World(ScriptedProvider("gemini"), cost_micros=WHOLE_DOLLAR)
        asking = AskPolicy(daily_budget_usd=3.0)
        return [(await world.ask(asking=asking)).asked.outcome for _ in range(5)]

    assert run(scenario()) == [Outcome.ANSWERED] * 3 + [Outcome.BUDGET] * 2


def test_budget_holds_over_calls_at_the_same_time() -> None:
    async def scenario() -> int:
        world = World(ScriptedProvider("gemini"), cost_micros=WHOLE_DOLLAR)
        asking = AskPolicy(monthly_budget_usd=3.0)
        found = await asyncio.gather(*(world.ask(asking=asking) for _ in range(20)))
        return sum(opinion.asked.outcome is Outcome.ANSWERED for opinion in found)

    assert run(scenario()) == 3


@pytest.mark.parametrize("budget_usd", [0.0, 0.001])
def test_budget_bounds_a_fallback_that_costs_more_than_the_first_provider(budget_usd: float) -> None:
    async def scenario() -> tuple[int, int, list[Outcome]]:
        gemini, openai = two(Step(0.01, kind=FailureKind.BLOCKED))
        world = World(gemini, openai)
        world.spending.cost_of = lambda provider, *_: 1_000 if provider == "openai" else 0
        policy = AskPolicy(daily_budget_usd=budget_usd)
        found = await asyncio.gather(*(world.ask(asking=policy) for _ in range(5)))
        return gemini.calls, openai.calls, sorted({opinion.asked.outcome for opinion in found})

    paid = round(budget_usd * 1_000)
    outcomes = [Outcome.ANSWERED, Outcome.FAILED] if paid else [Outcome.FAILED]
    assert run(scenario()) == (5, paid, outcomes)


def test_budget_counts_a_call_that_goes_on_after_another_has_answered() -> None:
    async def scenario() -> tuple[Outcome, Outcome]:
        gemini, openai = two(HANGS)
        world = World(gemini, openai)
        policy = AskPolicy(daily_budget_usd=0.002)
        first = await world.ask(asking=policy)
        return first.asked.outcome, (await world.ask(asking=policy)).asked.outcome

    assert run(scenario()) == (Outcome.ANSWERED, Outcome.BUDGET)


def test_budget_counts_what_was_stored_before_this_process() -> None:
    async def scenario() -> Outcome:
        first = World(ScriptedProvider("gemini"), cost_micros=WHOLE_DOLLAR)
        await add_account(first.store, "a")
        await first.ask()
        from firstline.ports.journal import Record

        await first.store.append(Record(spend=first.spending.take_all()))
        second = World(ScriptedProvider("gemini"), cost_micros=WHOLE_DOLLAR)
        second.store = first.store
        second.spending = Spending(first.store, clock=StandingClock(), cost_of=lambda *_: WHOLE_DOLLAR)
        second.asking._spending = second.spending
        return (await second.ask(asking=AskPolicy(daily_budget_usd=1.0))).asked.outcome

    assert run(scenario()) is Outcome.BUDGET


def test_call_that_ended_before_it_told_counts_as_estimated_cost() -> None:
    async def scenario() -> tuple[int, int]:
        gemini = ScriptedProvider("gemini", HANGS)
        world = World(gemini, late_s=1.0)
        await world.ask()
        await after(5.0)
        return world.watched.estimated, world.watched.cost_micros

    assert run(scenario()) == (1, 1_000)


def test_closing_ends_every_call_and_connection() -> None:
    async def scenario() -> tuple[int, bool]:
        gemini = ScriptedProvider("gemini", HANGS)
        world = World(gemini)
        await world.ask(seconds=0.1)
        await world.asking.close()
        await after(0.0)
        return gemini.running, gemini.closed

    assert run(scenario()) == (0, True)


def test_nobody_is_asked_after_closing() -> None:
    async def scenario() -> tuple[Outcome, int]:
        gemini = ScriptedProvider("gemini")
        world = World(gemini)
        await world.asking.close()
        return (await world.ask()).asked.outcome, gemini.calls

    assert run(scenario()) == (Outcome.UNAVAILABLE, 0)


def test_answers_keep_within_the_deadline_whatever_mix_of_trouble_there_is() -> None:
    steps = [Step(), HANGS, Step(kind=FailureKind.SERVER_ERROR), Step(1.9), Step(text="{"), Step(3.0)]

    async def scenario() -> float:
        gemini = ScriptedProvider("gemini", lambda call: steps[call * 7 % len(steps)])
        openai = ScriptedProvider("openai", lambda call: steps[call * 5 % len(steps)])
        world = World(gemini, openai)
        worst = 0.0
        for _ in range(300):
            found = await asyncio.gather(world.took(), world.took())
            worst = max(worst, *(seconds for _, seconds in found))
        return worst

    assert run(scenario()) <= DEADLINE_S + 0.001


async def add_account(store: MemoryStore, account_id: str) -> None:
    """An account that spend can be stored for."""
    from firstline.ports.storage import Account, AuditEntry

    account = Account(account_id, "a@example.com", 0, {Contract.CLASSIFIER: "free", Contract.DECISION: "free"})
    audit = AuditEntry(SystemIdentities().new_id(), 0, "cli", "account.create", account_id)
    await store.add_account(replace(account), None, audit)

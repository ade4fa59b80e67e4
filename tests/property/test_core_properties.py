"""What holds for every text, every match and every prediction."""

import json

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from firstline.core.cascade import settle
from firstline.core.folding import MAX_VIEWS, Trace, fold, fold_characters, views, words_of
from firstline.core.message import Facts, Message, facts_of, reader_length, trimmed
from firstline.core.plans import Window, window_bounds
from firstline.core.policy import Policy
from firstline.core.rules import Effects, Match, RuleBook
from firstline.core.taxonomy import (
    DECISION_RANK,
    DEFAULT_CATEGORIES,
    LANGUAGES,
    PRIORITY_RANK,
    Channel,
    Contract,
    Decision,
    Priority,
    Signal,
    UserPlan,
)
from firstline.core.verdict import Prediction, evidence_from_data, evidence_to_data

NAMES = [category.name for category in DEFAULT_CATEGORIES]
any_text = st.text(st.characters(codec=None), max_size=200) | st.text(
    "sue lawyer.@1!4$3<b>&#97; \u200b\u0301ѕеαꓢ我か법محр-_", max_size=60
)
texts = any_text.map(lambda text: text.encode("utf-8", "replace").decode())
plans, channels = st.sampled_from(UserPlan), st.none() | st.sampled_from(Channel)

facts = st.builds(
    Facts,
    contract=st.sampled_from(Contract),
    plan=plans,
    channel=channels,
    length=st.integers(0, 40_000).map(lambda quarters: quarters / 4),
    has_question=st.booleans(),
    history_count=st.integers(0, 50),
)
effects = st.builds(
    Effects,
    decision=st.none() | st.sampled_from(Decision),
    priority=st.none() | st.sampled_from(Priority),
    category=st.none() | st.sampled_from([*NAMES, "Own"]),
    action=st.none() | st.just("Call."),
    terminal=st.booleans(),
)
matches = st.lists(
    st.builds(
        Match,
        rule=st.sampled_from(["en/a", "own/b"]),
        signal=st.none() | st.sampled_from(Signal),
        spans=st.lists(st.tuples(st.integers(0, 9), st.integers(10, 19)), max_size=3).map(tuple),
        then=st.just(Effects()) | effects,
    ),
    max_size=4,
).map(tuple)


@st.composite
def _predictions(draw: st.DrawFn) -> Prediction:
    weights = [draw(st.floats(0.001, 1)) for _ in NAMES]
    total = sum(weights)
    return Prediction(
        "test+1",
        {name: weight / total for name, weight in zip(NAMES, weights, strict=True)},
        draw(st.none() | st.sampled_from(LANGUAGES)),
    )


predictions = _predictions()
policies = st.builds(
    Policy,
    low_confidence=st.integers(0, 100).map(lambda n: n / 100),
    review_probability=st.integers(0, 100).map(lambda n: n / 100),
)


@given(any_text)
@example("\ud800")
@example("&#xd800;")
@example("<a>" * 100)
def test_folding_never_raises(text: str) -> None:
    words = words_of(fold(text))
    assert words == f" {' '.join(words.split())} "


@given(texts)
def test_folding_characters_twice_changes_nothing_more(text: str) -> None:
    once = fold_characters(text)
    assert fold_characters(once) == once


@given(texts)
def test_a_text_has_few_readings_the_plain_one_first(text: str) -> None:
    found = views(text, vocabulary={"sue", "you", "i"})
    assert 1 <= len(found) <= MAX_VIEWS
    assert found[0].words == words_of(fold(text))
    assert len({view.words for view in found}) == len(found)
    for view in found:
        assert view.words.startswith(" ")
        assert view.words.endswith(" ")


@given(texts, st.data())
def test_every_traced_span_lies_in_the_text(text: str, data: st.DataObject) -> None:
    trace = Trace(text)
    for view in views(text):
        start = data.draw(st.integers(0, len(view.words)))
        end = data.draw(st.integers(start, len(view.words)))
        first, last = trace.locate(view, start, end)
        assert 0 <= first <= last <= len(text)


@given(text=texts, plan=plans, channel=channels, history=st.integers(0, 50))
def test_matching_never_raises_and_spans_lie_in_the_text(
    book: RuleBook, text: str, plan: UserPlan, channel: Channel | None, history: int
) -> None:
    message = Message(text, Contract.DECISION, plan, channel, ("x",) * history)
    for match in book.evaluate(text, facts_of(message), language="en"):
        assert match.spans
        for start, end in match.spans:
            assert 0 <= start <= end <= len(text)


@given(threat=st.sampled_from(["I will sue you", "ich gehe zum Anwalt", "我要起诉你们"]), around=texts)
def test_a_threat_stays_one_in_a_sentence_of_its_own_whatever_stands_around_it(
    book: RuleBook, threat: str, around: str
) -> None:
    text = f"{around}\n\n{threat}\n\n{around}"
    found = book.evaluate(text, facts_of(Message(text, Contract.DECISION)))
    assert Signal.LEGAL in {match.signal for match in found}


@given(any_text)
def test_a_trimmed_text_is_trimmed(text: str) -> None:
    assert trimmed(trimmed(text)) == trimmed(text)
    assert 0 <= reader_length(text) <= 2.5 * len(text)


@given(st.sampled_from(Window), st.integers(0, 4_102_444_800_000_000))
def test_a_moment_lies_in_its_window(window: Window, now_us: int) -> None:
    start, end = window_bounds(window, now_us)
    assert start <= now_us < end
    assert window_bounds(window, start) == window_bounds(window, end - 1) == (start, end)


@given(facts, matches, st.none() | predictions, policies)
def test_settling_stored_evidence_again_gives_the_same_verdict(
    facts: Facts, matches: tuple[Match, ...], prediction: Prediction | None, policy: Policy
) -> None:
    verdict = settle(facts, matches, prediction, policy, rules_hash="r")
    assert verdict.evidence is not None
    evidence = evidence_from_data(json.loads(orjson.dumps(evidence_to_data(verdict.evidence))))
    assert settle(evidence.facts, evidence.matches, evidence.prediction, policy, rules_hash=evidence.rules) == verdict


@given(facts, matches, predictions, policies)
def test_a_verdict_is_always_within_its_bounds(
    facts: Facts, matches: tuple[Match, ...], prediction: Prediction, policy: Policy
) -> None:
    verdict = settle(facts, matches, prediction, policy, rules_hash="r")
    assert 0 <= verdict.confidence <= 1
    assert 0 <= verdict.churn_risk <= 1
    assert 0 <= verdict.probability <= 1
    assert 1 <= len(verdict.recommended_action) <= 500


@given(facts, matches, st.none() | predictions, predictions, policies, st.sampled_from(["legal", "safety", "security"]))
def test_no_prediction_and_no_further_match_lowers_what_must_not_be_missed(
    facts: Facts,
    matches: tuple[Match, ...],
    one: Prediction | None,
    other: Prediction,
    policy: Policy,
    signal: str,
) -> None:
    must = Match("en/must", Signal(signal), ((0, 1),))
    for prediction in (one, other):
        for together in ((must,), (must, *matches), (*matches, must)):
            verdict = settle(facts, together, prediction, policy, rules_hash="r")
            assert verdict.decision is Decision.IMMEDIATE_ESCALATION
            assert verdict.priority is Priority.CRITICAL


@given(facts, matches, predictions, policies)
def test_the_floors_that_rules_set_hold(
    facts: Facts, matches: tuple[Match, ...], prediction: Prediction, policy: Policy
) -> None:
    verdict = settle(facts, matches, prediction, policy, rules_hash="r")
    for match in matches:
        if match.then.decision:
            assert DECISION_RANK[verdict.decision] >= DECISION_RANK[match.then.decision]
        if match.then.priority:
            assert PRIORITY_RANK[verdict.priority] >= PRIORITY_RANK[match.then.priority]

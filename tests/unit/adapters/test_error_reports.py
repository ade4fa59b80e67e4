"""What a report of a fault holds, whatever the line that it is made of says."""

from firstline.adapters.error_reports import MOST_A_MINUTE, Fault, FaultLines, allowed, event_of

LINE = {"event": "fault", "route": "/v1/decision", "error": "ValueError", "at": ["rules.py:12:evaluate"]}


def test_lines_that_are_no_faults_are_left_alone() -> None:
    told: list[Fault] = []
    lines = FaultLines(told.append)
    for line in ({"event": "request", "status": 500}, {"event": "fault", "error": "x"}, {"at": ["a:1:b"]}, {}):
        assert lines(None, "info", dict(line)) == line
    assert told == []


def test_a_fault_is_handed_on_and_its_line_stays_as_it_was() -> None:
    told: list[Fault] = []
    assert FaultLines(told.append)(None, "error", {**LINE, "more": "kept"}) == {**LINE, "more": "kept"}
    assert told == [Fault("ValueError", ("rules.py:12:evaluate",), "/v1/decision")]


def test_each_minute_has_so_many_reports_and_no_more() -> None:
    told: list[Fault] = []
    now_s = 0.0
    lines = FaultLines(told.append, now_s=lambda: now_s)
    for _ in range(3 * MOST_A_MINUTE):
        lines(None, "error", dict(LINE))
    assert len(told) == MOST_A_MINUTE
    now_s = 61.0
    lines(None, "error", dict(LINE))
    assert len(told) == MOST_A_MINUTE + 1


def test_a_request_id_of_a_caller_stays_in_the_log() -> None:
    ours, theirs = "0" * 32, "my.customer-anna"
    assert event_of(Fault("E", (), "x", request_id=ours))["tags"] == {"where": "x", "request_id": ours}
    assert event_of(Fault("E", (), "x", request_id=theirs))["tags"] == {"where": "x"}


def test_odd_places_do_not_keep_a_fault_from_being_reported() -> None:
    frames = event_of(Fault("E", ("", "a", "a:b:c", "<string>:1:<module>"), "x"))["exception"]["values"][0]
    assert [frame["lineno"] for frame in frames["stacktrace"]["frames"]] == [0, 0, 0, 1]


def test_what_a_library_adds_is_left_out() -> None:
    event = {**event_of(Fault("E", (), "x", trace_id="1", span_id="2")), "server_name": "host", "user": {"id": 1}}
    event["contexts"]["runtime"] = {"name": "CPython"}
    event["breadcrumbs"] = {"values": ["secret"]}
    kept = allowed(event)
    assert set(kept) == {"contexts", "exception", "level", "platform", "tags"}
    assert set(kept["contexts"]) == {"trace"}

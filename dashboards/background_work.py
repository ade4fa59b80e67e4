"""Does what runs behind keep up: jobs, webhooks, the spool?"""

from typing import Final

from dashboards.panels import Dashboard, Level, Panel, Query, Row, Unit, number, of, rate, share, summed

_ROWS: Final = "firstline_job_rows_total"
_WAITING: Final = f"max({of('firstline_jobs_waiting_rows')})"
_WAIT: Final = f"max({of('firstline_jobs_oldest_waiting_seconds')})"
_ATTEMPTS: Final = "firstline_webhook_attempts_total"
_PENDING: Final = f"max({of('firstline_webhook_pending_deliveries')})"
_DEAD: Final = f"max({of('firstline_webhook_dead_letters')})"
_OLDEST: Final = f"max({of('firstline_webhook_oldest_event_seconds')})"
_WAITS: Final = Level(warn=60, alarm=900)
_EVENTS: Final = Level(warn=600, alarm=3_600)

BACKGROUND_WORK: Final = Dashboard(
    name="jobs-and-webhooks",
    title="firstline / Jobs and webhooks",
    about="Does what runs behind keep up: jobs, webhooks, the spool?",
    rows=[
        Row(
            "Now",
            [
                number(
                    "Rows that wait",
                    _WAITING,
                    unit=Unit.COUNT,
                    about="Rows of jobs without an answer yet, of the whole database.",
                    page="runbooks/jobs-waiting",
                ),
                number(
                    "A job waits for",
                    _WAIT,
                    unit=Unit.SECONDS,
                    about="How long the job that waits the longest has had no turn. It stays low while workers work.",
                    page="runbooks/jobs-waiting",
                    level=_WAITS,
                ),
                number(
                    "Deliveries that wait",
                    _PENDING,
                    unit=Unit.COUNT,
                    about="Events that have not reached an endpoint yet, of the whole database.",
                    page="runbooks/webhooks",
                ),
                number(
                    "Dead letters",
                    _DEAD,
                    unit=Unit.COUNT,
                    about="Deliveries that were given up. The account can send them again.",
                    page="runbooks/webhooks",
                    level=Level(warn=1),
                ),
                number(
                    "Oldest event",
                    _OLDEST,
                    unit=Unit.SECONDS,
                    about="Age of the oldest event that has not reached all its endpoints.",
                    page="runbooks/webhooks",
                    level=_EVENTS,
                ),
                number(
                    "In the spool",
                    summed(of("firstline_spool_records")),
                    unit=Unit.COUNT,
                    about="Records that wait on disk for the database. Not 0 means that the database is away, or was.",
                    page="runbooks/spool",
                    level=Level(warn=1),
                ),
            ],
        ),
        Row(
            "Jobs",
            [
                Panel(
                    "Rows done",
                    [Query(summed(rate(_ROWS), by="contract, outcome"), "{{contract}} {{outcome}}")],
                    Unit.ROWS_PER_S,
                    "Rows of jobs answered or failed a second, over all workers.",
                    page="guides/jobs",
                    stacked=True,
                ),
                Panel(
                    "Rows that wait",
                    [Query(_WAITING, "rows")],
                    Unit.COUNT,
                    "Rows without an answer yet, of jobs that may go on. At the rate beside it, this is how long the "
                    "last one waits.",
                    page="runbooks/jobs-waiting",
                ),
                Panel(
                    "How long a job has had no turn",
                    [Query(_WAIT, "waits")],
                    Unit.SECONDS,
                    "Seconds normally: a job of a million rows has its turn again and again. It rises when workers "
                    "are missing, too few, or die.",
                    page="runbooks/jobs-waiting",
                    level=_WAITS,
                ),
                Panel(
                    "Failed rows",
                    [Query(share(summed(rate(_ROWS, 'outcome="failed"')), summed(rate(_ROWS))), "failed")],
                    Unit.SHARE,
                    "Share of rows that have an error instead of a verdict: empty or too long texts mostly.",
                    page="guides/jobs",
                    level=Level(warn=0.05),
                ),
            ],
        ),
        Row(
            "Webhooks",
            [
                Panel(
                    "Attempts",
                    [Query(summed(rate(_ATTEMPTS), by="outcome"), "{{outcome}}")],
                    Unit.PER_S,
                    "`failed` is tried again later, `dead` was given up.",
                    page="runbooks/webhooks",
                    width=8,
                    stacked=True,
                ),
                Panel(
                    "Deliveries that wait, and dead letters",
                    [Query(_PENDING, "wait"), Query(_DEAD, "dead letters")],
                    Unit.COUNT,
                    "Of the whole database. Those that wait are tried again until they are dead.",
                    page="runbooks/webhooks",
                    width=8,
                ),
                Panel(
                    "Oldest event",
                    [Query(_OLDEST, "age")],
                    Unit.SECONDS,
                    "Age of the oldest event that has not reached all its endpoints; 0 when none waits.",
                    page="runbooks/webhooks",
                    width=8,
                    level=_EVENTS,
                ),
            ],
        ),
        Row(
            "Spool",
            [
                Panel(
                    "Records that wait",
                    [Query(of("firstline_spool_records"), "{{instance}}")],
                    Unit.COUNT,
                    "Verdicts that were answered and wait on disk for the database. It should empty within a minute "
                    "after the database is back.",
                    page="runbooks/spool",
                    level=Level(warn=1),
                ),
                Panel(
                    "Oldest record",
                    [Query(of("firstline_spool_oldest_record_seconds"), "{{instance}}")],
                    Unit.SECONDS,
                    "How long the oldest record has waited; 0 when none does.",
                    page="runbooks/spool",
                    level=Level(warn=60, alarm=600),
                ),
                Panel(
                    "Size",
                    [
                        Query(of("firstline_spool_bytes"), "{{instance}}"),
                        Query(f"{of('firstline_spool_limit_bytes')} > 0", "{{instance}} limit"),
                    ],
                    Unit.BYTES,
                    "Bytes on disk, beside the most that it may take. When it is full, messages are refused with 503.",
                    page="runbooks/spool",
                ),
                Panel(
                    "Taken and refused",
                    [
                        Query(summed(rate("firstline_spooled_records_total"), by="instance"), "{{instance}} taken"),
                        Query(
                            summed(rate("firstline_spool_refused_records_total"), by="instance"),
                            "{{instance}} refused for good",
                        ),
                    ],
                    Unit.PER_S,
                    "Records that went into the spool, and those that the database refused when it was back: they are "
                    "in refused.frames and nowhere else.",
                    page="runbooks/spool",
                ),
            ],
        ),
    ],
)

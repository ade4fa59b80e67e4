"""Are processes, disks and the database well?"""

from typing import Final

from dashboards.panels import (
    RANGE,
    Dashboard,
    Kind,
    Level,
    Panel,
    Query,
    Row,
    Unit,
    number,
    of,
    quantile,
    rate,
    summed,
)

_COMMIT: Final = "firstline_store_commit_seconds"
_FREE: Final = "firstline_data_free_bytes"
_LAG: Final = "firstline_event_loop_lag_seconds"
_GB: Final = 1_000_000_000
_LAGS: Final = Level(warn=0.1, alarm=0.5)
_PROCESS: Final = "{{job}} {{instance}}"

SYSTEM: Final = Dashboard(
    name="system",
    title="firstline / System resources",
    about="Are processes, disks and the database well?",
    rows=[
        Row(
            "Now",
            [
                number(
                    "CPU",
                    summed(rate("process_cpu_seconds_total")),
                    unit=Unit.CORES,
                    about="Cores in use by all processes; those of jobs' child processes are not counted.",
                    decimals=2,
                ),
                number(
                    "Memory",
                    summed(of("process_resident_memory_bytes")),
                    unit=Unit.BYTES,
                    about="Resident memory of all processes; those of jobs' child processes are not counted.",
                ),
                number(
                    "Free disk",
                    f"min({of(_FREE)})",
                    unit=Unit.BYTES,
                    about="On the fullest disk of a data folder.",
                    page="runbooks/disk-filling",
                    level=Level(warn=20 * _GB, alarm=_GB, below=True),
                ),
                number(
                    "Event loop late by",
                    f"max({of(_LAG)})",
                    unit=Unit.SECONDS,
                    about="Longest that any process was held up in the last half minute.",
                    page="runbooks/slow",
                    level=_LAGS,
                ),
                number(
                    "Youngest process",
                    f"time() - max({of('process_start_time_seconds')})",
                    unit=Unit.SECONDS,
                    about="How long the process that started last has run.",
                ),
                number(
                    "Restarts",
                    f"sum(changes({of('process_start_time_seconds')}[{RANGE}]))",
                    unit=Unit.COUNT,
                    about="Of processes that kept their address, in the time shown.",
                    page="runbooks/down",
                    level=Level(warn=1),
                ),
            ],
        ),
        Row(
            "Processes",
            [
                Panel(
                    "Up",
                    [Query(of("up"), _PROCESS)],
                    Unit.NONE,
                    "Whether Prometheus could read the process's metrics.",
                    kind=Kind.STATES,
                    page="runbooks/down",
                    names=[(0, "down", "red"), (1, "up", "green")],
                ),
                Panel(
                    "Event loop",
                    [Query(of(_LAG), _PROCESS)],
                    Unit.SECONDS,
                    "Longest that the loop was late in the last half minute. Every request of the process waits as "
                    "long. Above a tenth of a second it has too much to do.",
                    page="runbooks/slow",
                    level=_LAGS,
                ),
                Panel(
                    "CPU",
                    [Query(rate("process_cpu_seconds_total"), _PROCESS)],
                    Unit.CORES,
                    "A server is one process and can use little more than one core: near 1 it is full, and another "
                    "server is wanted.",
                    page="runbooks/slow",
                    level=Level(warn=0.8),
                ),
                Panel(
                    "Memory",
                    [Query(of("process_resident_memory_bytes"), _PROCESS)],
                    Unit.BYTES,
                    "Resident memory. It should be flat after the first minutes.",
                ),
                Panel(
                    "Open files and connections",
                    [Query(f"{of('process_open_fds')} / {of('process_max_fds')}", _PROCESS)],
                    Unit.SHARE,
                    "Share of the descriptors that a process may have. A connection takes one.",
                    level=Level(warn=0.5, alarm=0.9),
                    most=1,
                ),
                Panel(
                    "Garbage collections",
                    [Query(summed(rate("python_gc_collections_total"), by="generation"), "generation {{generation}}")],
                    Unit.PER_S,
                    "Collections a second over all processes. Many of generation 2 mean that memory is short-lived "
                    "and plenty.",
                ),
            ],
        ),
        Row(
            "Store",
            [
                Panel(
                    "Time of a commit",
                    [Query(quantile(at, _COMMIT), f"{round(at * 100)} of 100") for at in (0.5, 0.95, 0.99)],
                    Unit.SECONDS,
                    "How long it takes to make a group of records durable. Every verdict waits for one.",
                    page="runbooks/slow",
                    level=Level(warn=0.05, alarm=0.5),
                ),
                Panel(
                    "Commits",
                    [Query(summed(rate(f"{_COMMIT}_count"), by="instance"), "{{instance}}")],
                    Unit.PER_S,
                    "Groups made durable a second. A group holds what came while the last one was written, so that "
                    "there are fewer commits than requests.",
                ),
                Panel(
                    "Writes that wait",
                    [Query(of("firstline_queued_writes"), _PROCESS)],
                    Unit.COUNT,
                    "Records waiting for their commit at the moment of the scrape. If it only rises, the disk or the "
                    "database does not keep up.",
                    page="runbooks/store-failing",
                    level=Level(warn=1_000, alarm=10_000),
                ),
                Panel(
                    "Free disk",
                    [Query(of(_FREE), _PROCESS)],
                    Unit.BYTES,
                    "On the disk of each data folder.",
                    page="runbooks/disk-filling",
                    level=Level(warn=20 * _GB, alarm=_GB, below=True),
                ),
            ],
        ),
        Row(
            "In force",
            [
                Panel(
                    "Model and rules",
                    [Query(of("firstline_build_info"), "")],
                    Unit.NONE,
                    "By process. Servers that differ for more than a minute answer differently.",
                    kind=Kind.TABLE,
                    page="runbooks/rules-invalid",
                    columns=[("job", "Job"), ("instance", "Instance"), ("model", "Model"), ("rules", "Rules")],
                ),
                Panel(
                    "Changed rule packs",
                    [Query(summed(rate("firstline_rule_reloads_total"), by="outcome"), "{{outcome}}")],
                    Unit.PER_S,
                    "`invalid` packs were refused, and those before stay in force.",
                    page="runbooks/rules-invalid",
                ),
            ],
        ),
    ],
)

"""Large files and data sets on Ray: the same output as without it, deaths, and what is said."""

import gc
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firstline.adapters.ray_pool import RayTasks, RayUnusable
from firstline.adapters.worker_pool import AHEAD, MAX_LOST
from firstline.delivery.cli import main
from firstline.ports.bulk import WorkersLost

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None and not os.environ.get("CI"), reason="Ray is not installed; it is part of make test's"
)

TEXTS = ["VPN not working", "Refund request", "Add dark mode", "", "I will sue you"]
SMALL = """
import sys
from firstline.delivery.cli import bulk, main
import firstline.usecases.bulk as usecase
bulk.CHUNK_ROWS, bulk.PART_CHUNKS, usecase.PART_CHUNKS = 4, 2, 2
sys.exit(main(sys.argv[1:]))
"""
"""The command line with chunks of 4 rows and parts of 2 chunks."""


def double(number: int) -> int:
    return 2 * number


def die_on(deadly: tuple[int, ...], marks: Path, number: int) -> int:
    """Die on certain numbers; leave a mark for every one that was begun."""
    with (marks / str(number)).open("a") as mark:
        mark.write("x")
    if number in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def die_once(marks: Path, number: int) -> int:
    mark = marks / str(number)
    if number % 3 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def fail(number: int) -> int:
    raise ValueError("secret words of a message")


def other_rules(number: int) -> int:
    raise WorkersLost("another machine has other rules")


def lost(number: int) -> int:
    return -1


@pytest.fixture(scope="module")
def workers() -> Iterator[RayTasks]:
    """A Ray of its own with two cores."""
    kept = dict(os.environ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves what it has started to the end
        yield from _started()
        gc.collect()
    os.environ.clear()
    os.environ.update(kept)


def _started() -> Iterator[RayTasks]:
    workers = RayTasks(2, environment={})
    import ray  # which that has set up and imported

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its processes cannot import this module
    with workers:
        yield workers


def test_results_come_in_the_order_of_the_things(workers: RayTasks) -> None:
    assert list(workers.map(double, range(40), lost=lost)) == [(number, 2 * number) for number in range(40)]
    assert list(workers.map(double, [], lost=lost)) == []


def test_what_a_process_died_on_is_done_again(workers: RayTasks, tmp_path: Path) -> None:
    found = list(workers.map(partial(die_once, tmp_path), range(7), lost=lost))
    assert found == [(number, 2 * number) for number in range(7)]


def test_what_processes_died_on_twice_is_lost_alone(workers: RayTasks, tmp_path: Path) -> None:
    found = list(workers.map(partial(die_on, (3,), tmp_path), range(6), lost=lost))
    assert found == [(number, -1 if number == 3 else 2 * number) for number in range(6)]
    assert (tmp_path / "3").read_text() == "xx"


def test_a_run_on_which_every_process_dies_is_given_up(workers: RayTasks, tmp_path: Path) -> None:
    deadly = tuple(range(MAX_LOST + 1))
    with pytest.raises(WorkersLost, match="keep ending"):
        list(workers.map(partial(die_on, deadly, tmp_path), deadly, lost=lost))


def test_an_error_in_a_task_is_raised_here_without_its_words(workers: RayTasks) -> None:
    with pytest.raises(RuntimeError, match="ValueError") as caught:
        list(workers.map(fail, range(3), lost=lost))
    assert "secret" not in str(caught.value)
    with pytest.raises(WorkersLost, match="another machine has other rules"):
        list(workers.map(other_rules, range(3), lost=lost))


def test_things_are_fetched_only_a_few_ahead(workers: RayTasks) -> None:
    fetched = 0

    def things() -> Iterator[int]:
        nonlocal fetched
        while fetched < 1_000:
            fetched += 1
            yield fetched - 1

    for number, (thing, _) in enumerate(workers.map(double, things(), lost=lost)):
        assert thing == number
        assert fetched <= number + 2 * AHEAD
        if number == 50:
            break


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_ray_of_its_own_listens_on_loopback_alone(workers: RayTasks) -> None:
    mine = {os.getpid()} | _descendants(os.getpid())
    listening = [address for pid in mine for address in _listening(pid)]
    assert listening
    assert [address for address in listening if address not in {"127.0.0.1", "::ffff:127.0.0.1", "::1"}] == []


def _descendants(of: int) -> set[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = set()
    more = {of}
    while more:
        more = {child for child, parent in parents.items() if parent in more} - found
        found |= more
    return found


def _listening(pid: int) -> list[str]:
    """Addresses that a process listens on."""
    inodes = set()
    try:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            target = str(handle.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:
        return []
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in inodes:
                words = bytes.fromhex(cells[1].partition(":")[0])
                packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                found.append(socket.inet_ntop(family, packed))
    return found


def _write_set(folder: Path) -> list[str]:
    """A data set of three files; the texts in the order of their names."""
    (folder / "2026").mkdir(parents=True)
    (folder / "_temporary").mkdir()
    texts = []
    for name, count in (("2026/b.parquet", 11), ("a.parquet", 9), ("c.pq", 7)):
        own = [f"{text} {count}" if text else "" for text in (TEXTS * 3)[:count]]
        ids = list(range(len(texts), len(texts) + count))
        pq.write_table(pa.table({"id": ids, "text": own}), folder / name, row_group_size=3)
        texts += own
    (folder / "_temporary" / "half.parquet").write_bytes(b"PAR1")
    (folder / "_SUCCESS").touch()
    return texts


def _process(cwd: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", SMALL, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_data_set_has_the_same_output_on_ray_as_without_it(tmp_path: Path) -> None:
    texts = _write_set(tmp_path / "in")
    command = ("classify", "in", "--keep", "id,text", "--processes", "2", "--out")
    here = _process(tmp_path, *command, "here.parquet")
    there = _process(tmp_path, *command, "there.parquet", "--engine", "ray")
    assert (here.returncode, there.returncode) == (1, 1), here.stderr + there.stderr  # some rows have no text
    assert f"there.parquet: {len(texts)} rows" in there.stderr
    assert "2 processes" in there.stderr
    rows = pq.read_table(tmp_path / "there.parquet").to_pylist()
    assert [row["text"] for row in rows] == texts
    assert [row["id"] for row in rows] == list(range(len(texts)))
    assert [row["row"] for row in rows] == list(range(1, len(texts) + 1))
    assert [row["error"] for row in rows] == [None if text else "the message is empty" for text in texts]
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    assert not (tmp_path / "there.parquet.partial").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["in", "--out", "in/b.parquet"], "--out lies among the files of the input; name another folder."),
        (["in", "--out", "b.csv", "--format", "csv"], "A folder or a pattern is read as Parquet"),
        (["none/*.parquet", "--out", "b.csv"], "none/*.parquet has no Parquet files."),
        (["in", "--out", "b.csv", "--keep", "id"], "id is string in in/z.parquet and int64 in in/2026/b.parquet."),
        (["in", "--out", "b.csv", "--column", "wish"], "in/2026/b.parquet: There is no column wish"),
    ],
)
def test_a_mistake_about_a_data_set_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    _write_set(tmp_path / "in")
    pq.write_table(pa.table({"id": ["x"], "text": ["y"]}), tmp_path / "in" / "z.parquet")
    monkeypatch.chdir(tmp_path)
    assert main(["classify", *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_without_ray_a_sentence_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_set(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    for name in list(sys.modules):
        if name == "ray":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["classify", "in", "--engine", "ray", "--out", "b.csv"]) == 2
    assert "pip install 'firstline[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "b.csv.partial").exists()


def test_a_cluster_that_does_not_answer_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RayUnusable, match="cluster of RAY_ADDRESS cannot be reached"):
            RayTasks(2, environment={"RAY_ADDRESS": address}).__enter__()

"""What a process takes from the system: one heap for all of its threads."""

import os
import subprocess
import sys

import pytest

_HEAPS = """
import ctypes, sys, threading
from firstline.adapters.system import share_one_heap
libc = ctypes.CDLL(None)
if not hasattr(libc, "malloc_info"):
    print("unknown")
    sys.exit()
if sys.argv[1] == "shared":
    share_one_heap()
together = threading.Barrier(6)
def work():
    kept = [bytearray(2_000) for _ in range(100)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
print(open(sys.argv[2]).read().count("<heap "))
"""


def heaps(how: str, path: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", _HEAPS, how, path]
    done = subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("how", "variables", "several"),
    [("shared", {}, False), ("shared", {"MALLOC_ARENA_MAX": "6"}, True), ("apart", {}, True)],
    ids=["ours", "operator's word", "glibc's way"],
)
def test_threads_share_one_heap_unless_the_operator_says_otherwise(
    tmp_path: os.PathLike[str], how: str, variables: dict[str, str], several: bool
) -> None:
    found = heaps(how, f"{tmp_path}/heaps.xml", **variables)
    assert found == "unknown" or (int(found) > 1) is several

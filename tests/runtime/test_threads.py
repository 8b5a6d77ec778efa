"""Clients on several threads: measured one at a time, because torch's profiler belongs to the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
from concurrent.futures import ThreadPoolExecutor
from tests.runtime.test_executor import play

class Threads:
    def run(self, orders, train, deadline=None):
        with ThreadPoolExecutor(4) as pool:
            yield from pool.map(train, orders)

weights = [[w for round in play(executor) for w in round.weights.values()] for executor in (Threads(), None)]
assert all(ours.equal(theirs) for ours, theirs in zip(*weights, strict=True))
"""


def test_threads_give_the_weights_of_one_thread():
    """In a process of its own: what it guards against kills the interpreter."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""What a warm client saves: processor seconds of a process that answers one message, and of one that passes it on.

    python -m benchmarks.warm [--out benchmarks/results/warm.json]

Flower starts a process for every message. One that answers by itself imports the model library, loads MiniLM, and reads
and tokenises the node's data (tweets) before it trains; one that passes the message on to a warm client imports Flower
alone. Processor seconds are counted, for they do not depend on what else the machine does; training is left out.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

from spry.experiment.atomic import write_json
from spry.experiment.config import load_config
from spry.experiment.provenance import provenance

ANSWERS = """
import sys, spry.experiment.flower_app
from spry.experiment.warm import Passed, make_answering
answered = make_answering()(Passed(sys.stdin.read(), {}, 0, b"SPRY", None))
assert b"truncated" in answered.data
"""
PASSES_ON = "import spry.experiment.flower_app"


def processor_seconds(code: str, text: str) -> float:
    """Run a process to its end, and count what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], input=text, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/warm.json"))
    given = parser.parse_args()
    text = load_config("quickstart").dump()
    found = {
        name: [processor_seconds(code, text) for _ in range(given.repeats)]
        for name, code in (("answers", ANSWERS), ("passes_on", PASSES_ON))
    }
    medians = {f"{name}_median": median(seconds) for name, seconds in found.items()}
    write_json(given.out, {**provenance(), "processor_seconds": {**found, **medians}})


if __name__ == "__main__":
    main()

"""What a warm client saves: processor seconds of a process that answers one message, and of one that passes it on.

    python -m benchmarks.warm [--only masks] [--out benchmarks/results/warm.json]

Flower starts a process for every message. One that answers by itself imports the model library, loads MiniLM, and reads
and tokenises the node's data (tweets) before it trains; one that passes the message on to a warm client imports Flower
alone; one that answers in a phase of secure aggregation in which no numbers are sent loads neither model nor data.
Processor seconds are counted, for they do not depend on what else the machine does; training is left out. What is not
measured again stays in the file.
"""

from __future__ import annotations

import argparse
import json
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
MASKS = """
import sys, spry.experiment.flower_app
from spry.experiment.warm import Passed, make_answering
from spry.runtime.report import SecureInvitation, encode_message
invitation = encode_message(SecureInvitation(session=b"round 0, group 0"))
assert make_answering()(Passed(sys.stdin.read(), {}, 0, invitation, None)).known
"""
CODES = {"answers": ANSWERS, "passes_on": PASSES_ON, "masks": MASKS}
MASKED = {"privacy.secure_aggregation": True, "head.start": "drawn"}


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
    parser.add_argument("--only", nargs="+", choices=CODES, default=[*CODES])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/warm.json"))
    given = parser.parse_args()
    before = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    seconds, when, made = before.get("processor_seconds", {}), before.get("when", {}), provenance()
    for name in given.only:
        text = load_config("quickstart", MASKED if name == "masks" else {}).dump()
        seconds[name] = [processor_seconds(CODES[name], text) for _ in range(given.repeats)]
        seconds[f"{name}_median"] = median(seconds[name])
        when[name] = {"date": made["date"], "commit": made["commit"]}
    write_json(given.out, {**made, "processor_seconds": seconds, "when": when})


if __name__ == "__main__":
    main()

"""Tries what newcomers try, one shell line after the other, and writes what came of it beside what came of it before.

python -m benchmarks.tries DATA [--only TEXT]

DATA holds ``sst2_train.tsv.gz``, ``ag_news_train.tsv.gz`` and ``snli_dev.tsv.gz``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.readme_layout import machine_of
from benchmarks.tries_files import make_files

from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance

HERE = Path(__file__).parent
TABLE, RESULTS, PAGE = HERE / "tries.toml", HERE / "results" / "tries.json", Path("docs/results/tries.md")
FEW = "--set schedule.rounds=2 --set schedule.evaluate_every=2 --set schedule.personalized=false"
SHOWN = 40
"""Last lines of a try's output that are kept."""
NOISE = re.compile(r"^\s*$|\d%\||FutureWarning|^  warnings\.warn")
"""Empty lines, and what other libraries print of their own: bars and warnings of their coming renames."""
SCRIPTS = {
    "card.py": """
import pathlib, re, sys
folder, text = sys.argv[1:]
card = pathlib.Path(folder, "README.md").read_text()
code = re.search(r"```python\\n(.*?)```", card, re.DOTALL)[1]
code = code.replace("path/to/this/folder", folder).replace("a text", text)
print(code)
*before, last = code.strip().splitlines()
exec("\\n".join([*before, f"print({last})"]))
""",
    "frame.py": """
import pandas as pd
import spry

frame = pd.read_csv("reviews.csv")
model, history, folder = spry.finetune(
    "minilm", dataset=frame, text="body", label="stars", clients="author", rounds=2, progress=False
)
print(type(model).__name__, len(history), sorted(path.name for path in folder.iterdir()))
""",
}


def main() -> None:
    """Run all tries and write their results and their page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--only", default="", help="Only tries whose text has this in it; the others' results stay."
    )
    arguments = parser.parse_args()
    tries = tomllib.loads(TABLE.read_text(encoding="utf-8"))["try"]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make_files(arguments.data.resolve(), folder)
        for name, text in SCRIPTS.items():
            (folder / name).write_text(text.lstrip(), encoding="utf-8")
        found = [_tried(each, folder) for each in tries if arguments.only in each["what"]]
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))["tries"] if arguments.only else []
    known = {each["what"]: each for each in (*kept, *found)}
    results = [known[each["what"]] for each in tries if each["what"] in known]
    write_json(RESULTS, {"provenance": provenance(), "tries": results})
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


def _tried(each: dict[str, str], folder: Path) -> dict[str, Any]:
    print(f"== {each['what']}", flush=True)
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ, "FEW": FEW, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "80",
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run(
        ["bash", "-c", each["run"]], cwd=folder, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines = [_portable(line, folder) for line in done.stdout.splitlines() if not NOISE.search(line)]
    print("\n".join(lines), flush=True)
    return {
        "what": each["what"],
        "before": each.get("before"),
        "run": each["run"].strip().replace("$FEW ", ""),
        "status": done.returncode,
        "seconds": round(time.perf_counter() - begun, 1),
        "output": lines[-SHOWN:],
    }


def _portable(line: str, folder: Path) -> str:
    """Leave the folders of this machine out."""
    line = line.replace(str(folder.resolve()), ".").replace(str(folder), ".")
    return re.sub(r"/\S*/site-packages/", "", line).rstrip()


def page(found: dict[str, Any]) -> str:
    """Write the page: a section a try, what came of it before, the command, what it prints today."""
    where = found["provenance"]
    lines = [
        "# What newcomers try",
        "",
        "Written by `benchmarks/tries.py`, which runs every command below in an empty folder. *Before* is what came of "
        "the same try at commit 2e7a0ee.",
        f"Runs of two rounds show their course, not accuracy. Seeds are 0 unless a command names others. Numbers in "
        f"`benchmarks/results/{RESULTS.name}`; commit {where['commit']}, {where['date'][:10]}, torch "
        f"{where['versions']['torch']}, {machine_of(where)}.",
        "`$FEW`, which makes them so short, is left out of the commands. The last lines of each output are shown.",
        "",
    ]
    for each in found["tries"]:
        before = f"Before: {each['before']}." if each["before"] else "A new try."
        lines += [
            f"## {each['what'][:1].upper()}{each['what'][1:]}", "", before.replace("..", "."), "", "```bash",
            *each["run"].splitlines(), "```", "", "```text", *each["output"],
            f"[status {each['status']}, {each['seconds']} s]", "```", "",
        ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()

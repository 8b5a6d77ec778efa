"""Writes the tables of README and docs from the results that the other scripts left in benchmarks/results.

    python benchmarks/readme.py [--check]

A table whose results are missing is left as it is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from readme_head import heads
from readme_layout import MIB, origin, percent, size, table
from readme_memory import by_task, memory, recipe, split, targets, times
from readme_offload import offload
from readme_recipe import recipes
from readme_theory import basis, credit, signal
from readme_workers import scale, workers

FOLDERS = (Path("benchmarks/results"), Path("research/results"), Path("research/activation"))
README, PAGES = Path("README.md"), Path("docs/results")
PAGE, MEMORY, WIRE, OFFLOAD, HEAD, WORKERS = (
    PAGES / f"{name}.md" for name in ("README", "memory", "wire", "offload", "head", "workers")
)


def demo(result: dict[str, Any]) -> str:
    """What each method of the demo reached and cost."""
    rows = [
        ["always the commonest class", percent(result["rows"][0]["baseline"]), *[""] * 4],
        ["the head in closed form, before round 1", percent(result["start"]), *[""] * 4],
    ]
    rows += [
        [
            row["label"],
            percent(row["score_mean"]),
            f"{100 * (row['score_mean'] - result['start']):+.1f}",
            f"{row['peak_bytes_above_model'] / MIB:.0f} MiB",
            f"{row['operations_per_client_round'] / 1e9:.0f} GFLOP",
            f"{row['bytes_up_per_client_round'] / 1024:.1f} KiB",
        ]
        for row in result["rows"]
    ]
    heads = [
        "",
        "test accuracy",
        "above the head",
        "peak above the model",
        "operations a round",
        "upload per client",
    ]
    note = (
        "One seed and 1,200 test tweets, so that accuracies err by 1.1 points. All rows have the step size of "
        "`benchmarks/demo.toml`, which was tried on the recipe. The recipe and FedAvg adapt queries and values of all "
        "blocks, the last block alone all of its maps."
    )
    return table(heads, rows) + f"\n\n{note} {origin(result, 'make demo')}"


def wire(result: dict[str, Any]) -> str:
    """What travels between server and one client in each mode."""
    rows = [
        [
            row["mode"],
            *(
                size(row[f"bytes_{way}_per_client_{span}"])
                for span in ("round", "run")
                for way in ("up", "down")
            ),
        ]
        for row in result["traffic"]
    ]
    setting = result["setting"]
    heads = ["", "up, a round", "down, a round", "up, the run", "down, the run"]
    note = (
        f"Bytes of one client, mean: MiniLM, LoRA r={setting['peft.rank']}, {setting['data.clients']} clients, "
        f"{setting['schedule.clients_per_round']} of them a round, {setting['rounds']} rounds, "
        f"{setting['client.steps']} local steps (one where it says per iteration), K = 1."
    )
    besides = [row["upload_besides_exact_head"] for row in result["traffic"]]
    replies = sorted(count for count in besides if count is not None)
    replay = max(row["ratio"] for row in result["replay"])
    memory = max(row["ratio"] for row in result["absorb"])
    server = (
        f"Besides an exact head, a reply of {setting['client.steps']} slopes takes {replies[-1]:.0f} bytes and one of "
        f"a single slope {replies[0]:.0f}. Replaying an epoch costs the server at most {percent(replay)} of the time "
        f"that the client trained; with 1000 replies its memory is {memory:.2f} times that with 10."
    )
    return table(heads, rows) + f"\n\n{note} {server} {origin(result, 'benchmarks/wire.py')}"


Write = Callable[[dict[str, Any]], str]
TABLES: Sequence[tuple[Path, str, str, Write]] = (
    (PAGE, "recipes", "rank16", recipes),
    (PAGE, "demo", "demo", demo),
    (MEMORY, "memory", "memory", memory),
    (MEMORY, "targets", "memory", targets),
    (MEMORY, "tasks", "memory_tasks", by_task),
    (MEMORY, "times", "memory_times", times),
    (MEMORY, "earlier-targets", "memory_times", targets),
    (MEMORY, "split", "split", split),
    (MEMORY, "recipe", "recipe", recipe),
    (WIRE, "wire", "wire", wire),
    (OFFLOAD, "offload", "offload", offload),
    (WORKERS, "workers", "workers", workers),
    (WORKERS, "workers-scale", "workers", scale),
    (HEAD, "head", "head", heads),
    (Path("research/theory_notes.md"), "credit", "credit", credit),
    (Path("research/theory_notes.md"), "signal", "signal_to_noise", signal),
    (Path("research/theory_notes.md"), "basis", "basis", basis),
)
"""Page, marker, result and how it is laid out."""


def pages() -> dict[Path, str]:
    """Every page with its tables as the results say."""
    made: dict[Path, str] = {}
    for page, name, result, write in TABLES:
        path = next((p for folder in FOLDERS if (p := folder / f"{result}.json").is_file()), None)
        if path is not None:
            body = write(json.loads(path.read_text(encoding="utf-8")))
            text = made.get(page) or page.read_text(encoding="utf-8")
            marked = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
            made[page], count = re.subn(
                marked, lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text, flags=re.DOTALL
            )
            assert count == 1, f"{page} has {count} places for the table {name}"
    return made


def main() -> None:
    """Replace what stands between the markers of each table, or name the pages where that would change something."""
    made = pages()
    stale = [page for page, text in made.items() if page.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(
            f"run python benchmarks/readme.py: {', '.join(map(str, stale))} are not up to date"
            if stale
            else 0
        )
    for page in stale:
        page.write_text(made[page], encoding="utf-8")


if __name__ == "__main__":
    main()

"""Accuracy against rounds, client seconds and bytes, of every method on real data: many federated runs at once.

    python benchmarks/convergence.py --plan first --device cuda --jobs 14 --minutes 8 --out results

Writes one JSON row a job to ``OUT/rows.jsonl`` as it finishes; what is finished there is not run again. After
``--minutes`` no job is begun, and those under way end with their round and leave a row marked unfinished. Tables and
figures come from the rows: ``python benchmarks/convergence_report.py OUT/rows.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from convergence_plans import PLANS, RECIPES, Job, plan

LEAST = 20.0
"""Seconds that must be left for another job to begin."""


def main() -> None:
    """Run a plan."""
    args = _arguments()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    args.out.mkdir(parents=True, exist_ok=True)
    rows = args.out / "rows.jsonl"
    begun = time.time()
    with tempfile.TemporaryDirectory() as scratch:
        todo = [
            job
            for name in args.plan.split(",")
            for job in plan(name, Path(scratch), _chosen(args.chosen))
            if job.name not in finished(rows)
        ]
        print(f"{len(todo)} jobs, {args.jobs} at a time", flush=True)
        extra = {"model.name": args.model, "model.device": args.device} | dict(map(_setting, args.set))
        ended = _run_all(todo, args.jobs, begun + 60 * args.minutes, extra)
        for done, row in enumerate(ended, start=1):
            with rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"[{time.time() - begun:5.0f} s] {done}/{len(todo)} {_line(row)}", flush=True)


def finished(rows: Path) -> set[str]:
    """List what a file of rows already has.

    Args:
        rows: The file; it need not exist.

    Returns:
        Names of jobs that ran to their end.
    """
    if not rows.is_file():
        return set()
    read = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    return {row["job"] for row in read if row.get("finished")}


def _run_all(
    todo: Sequence[Job], workers: int, deadline: float, extra: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Keep all workers busy until nothing is left or the time is up; yields rows as they come."""
    waiting = iter(todo)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running: set[Future[dict[str, Any]]] = set()
        while True:
            while len(running) < workers and time.time() < deadline - LEAST:
                job = next(waiting, None)
                if job is None:
                    break
                running.add(pool.submit(work, job, dict(extra), deadline))
            if not running:
                return
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ended)


def work(job: Job, extra: Mapping[str, Any], deadline: float) -> dict[str, Any]:
    """Carry out one job in this process.

    Args:
        job: The job.
        extra: Settings that all jobs share, such as model and device.
        deadline: When to stop, as ``time.time`` counts.

    Returns:
        The job's row.
    """
    import torch

    torch.set_num_threads(1)
    begun = time.time()
    row: dict[str, Any] = {"job": job.name, "recipe": job.recipe, "data": job.data, "finished": False}
    row |= {
        "tuned": RECIPES[job.recipe.partition(",")[0]].tuned,
        "settings": {**job.settings, **extra},
        "curve": [],
    }
    try:
        _carry_out(row, begun, deadline)
    except Exception as error:  # a job that fails must not end the others
        row["error"] = f"{type(error).__name__}: {error}"
        row["traceback"] = traceback.format_exc(limit=-6)
    return row | {"seconds": time.time() - begun}


def _carry_out(row: dict[str, Any], begun: float, deadline: float) -> None:
    from spry.experiment.config import Config
    from spry.experiment.run import run

    config = Config().with_settings(row["settings"])
    with tempfile.TemporaryDirectory() as folder:
        events = run(config, Path(folder) / "run")
        started: Any = next(events)
        row |= {"trainable_weights": started.trainable_weights, "setup_seconds": time.time() - begun}
        for record in events:
            _note(row, record)
            if time.time() > deadline:
                break
    row["finished"] = row.get("rounds") == config.schedule.rounds


def _note(row: dict[str, Any], record: Any) -> None:
    """Add a round to a row; the sums count every round, the curve has the evaluated ones."""
    row["rounds"] = record.number + 1
    row["peak_bytes"] = max(row.get("peak_bytes", 0), record.peak_bytes)
    sums = {
        "client_seconds": sum(client.seconds for client in record.clients),
        "bytes_up": sum(client.bytes_up for client in record.clients),
        "bytes_down": sum(client.bytes_down for client in record.clients),
        "client_steps": sum(client.steps for client in record.clients),
    }
    for name, value in sums.items():
        row[name] = row.get(name, 0) + value
    if record.test is not None:
        generalized = record.generalized
        point = {
            "round": record.number + 1,
            "test_accuracy": record.test.accuracy,
            "test_loss": record.test.loss,
            "validation_accuracy": generalized.accuracy if generalized else None,
            "validation_loss": generalized.loss if generalized else None,
            "train_loss": record.loss,
            **{name: row[name] for name in sums},
        }
        row["curve"].append(point)


def _line(row: Mapping[str, Any]) -> str:
    if "error" in row:
        return f"{row['job']}: {row['error']}"
    last = row["curve"][-1] if row["curve"] else {"test_accuracy": float("nan"), "test_loss": float("nan")}
    state = "" if row["finished"] else f" (stopped at round {row.get('rounds', 0)})"
    return (
        f"{row['job']}: accuracy {last['test_accuracy']:.4f}, loss {last['test_loss']:.3f}, "
        f"{row['seconds']:.0f} s, {row.get('client_seconds', 0) / max(row.get('client_steps', 1), 1) * 1e3:.0f} ms/step"
        f"{state}"
    )


def _chosen(path: Path | None) -> dict[str, float]:
    return {} if path is None else json.loads(path.read_text(encoding="utf-8"))


def _setting(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--plan", default="first", help=f"one or more of {', '.join(PLANS)}, with commas")
    parser.add_argument("--out", type=Path, required=True, help="folder of rows.jsonl")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at a time, each in a process with one thread"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time after which no job goes on")
    parser.add_argument("--chosen", type=Path, help="JSON of tuned values by data/recipe, for the plan table")
    parser.add_argument("--set", action="append", default=[], help="key=value for all jobs")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""What the methods reach on other tasks than classes, and at what cost: the same start, data, rounds and step size.

A run is a case of ``CASES`` with a row of ``ROWS`` and a seed; what it gave goes into the results as soon as it ends,
and what is there is not run again. A killed run goes on from its last checkpoint. Step sizes are not tuned: all rows
have the one of the case's file.

    python -m benchmarks.tasks DATA --out runs/tasks [--cases instructions] [--rows full,fedavg] [--seeds 0]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import instruction_data
from benchmarks.results_file import add, known

from spry.experiment.config import read_config
from spry.experiment.folder import META, SUMMARY
from spry.experiment.log import read_rounds
from spry.experiment.run import run
from spry.tasks.score import Score

FOLDER, RESULTS = Path("benchmarks/tasks"), Path("benchmarks/results/tasks.json")
COSTS = (
    "operations_per_client_round", "bytes_up_per_client_round", "bytes_down_per_client_round", "client_cpu_seconds",
    "peak_bytes_above_model", "trainable_weights", "rounds", "score",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method as it is run on every case.

    Args:
        title: Its name in tables.
        settings: What is set for it.
    """

    title: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task with its data; the other settings stand in ``benchmarks/tasks/NAME.toml``.

    Args:
        title: Its name in headings.
        files: Finds or makes the data's files, given the folder of data and one to write into; gives settings.
        note: What its table does not say.
    """

    title: str
    files: Callable[[Path, Path], Mapping[str, str]]
    note: str = ""


def _instructions(data: Path, out: Path) -> Mapping[str, str]:
    train, test = instruction_data.write(data, out / "data")
    return {"data.name": str(train), "data.test": str(test)}


def _named(train: str, test: str) -> Callable[[Path, Path], Mapping[str, str]]:
    return lambda data, _: {"data.name": str(data / train), "data.test": str(data / test)}


CASES: Mapping[str, Case] = {
    "instructions": Case(
        title="SmolLM2 answers which topic news have",
        files=_instructions,
        note="*full, on a tape* ran on another day than the others, beside more work, so its processor time tells "
        "nothing. Its operations and peak do not depend on that.",
    ),
    "multirc": Case(
        title="MultiRC: which options answer a question on a passage",
        files=_named("multirc_train.jsonl.gz", "multirc_val.jsonl.gz"),
        note="**Nothing is learned.** Every option is called right at every evaluation. The rounds read 4,096 options, "
        "a seventh of the training part, in ten minutes of one processor, and the model was made for single sentences. "
        "Other rows were not run: where the cheapest stays at the baseline, they would rank nothing.",
    ),
    "squad2": Case(
        title="SQuAD 2: where a passage answers, if it does",
        files=_named("squad2_train.jsonl.gz", "squad2_eval.jsonl.gz"),
        note="**Only that most questions have no answer is learned.** The loss falls by half, and the score is that of "
        "giving no answer at all. The file that is read has 3,000 of SQuAD 2's 130,319 training questions; "
        "that is few to learn to read from for a model that was made for single sentences. Other rows were not run.",
    ),
}
ROWS: Mapping[str, Row] = {
    "last_block": Row(title="last block", settings={"method.name": "head_only"}),
    "full": Row(title="full, on a tape", settings={"method.name": "residual", "method.guess": "full"}),
    "identity_2": Row(
        title="identity, 2 blocks a step", settings={"method.name": "residual", "method.blocks_per_step": 2}
    ),
    "identity": Row(title="identity", settings={"method.name": "residual"}),
    "mlp": Row(title="mlp", settings={"method.name": "residual", "method.guess": "mlp"}),
    "spry": Row(title="Spry", settings={"method.name": "spry"}),
    "fedavg": Row(title="FedAvg + checkpointing", settings={"method.name": "fedavg"}),
}


def main() -> None:
    """Run what is missing of what is asked for."""
    args = _arguments()
    for case in args.cases:
        files = CASES[case].files(args.data, args.out)
        for seed in args.seeds:
            for row in args.rows:
                place = {"case": case, "row": row, "seed": seed}
                if not known(args.results, "runs", place):
                    add(args.results, "runs", {**place, **_run(args.out, place, files)})


def _run(out: Path, place: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    folder = out / "-".join(map(str, place.values()))
    print(folder.name, flush=True)
    settings = {**files, **ROWS[place["row"]].settings, "seed": place["seed"]}
    config = read_config(FOLDER / f"{place['case']}.toml").with_settings(settings)
    for _ in run(config, folder, resume=True):
        pass
    return _outcome(folder)


def _outcome(folder: Path) -> dict[str, Any]:
    """What a run gave: the measures before the first round and after each evaluated one, and its costs."""
    rounds = read_rounds(folder)
    summary, meta = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (SUMMARY, META))
    score = Score.of_summary(summary).key("test")
    measured = [{"round": 0, **rounds[0]["start"]}]
    measured += [{**entry, "round": entry["round"] + 1} for entry in rounds if entry[score] is not None]
    curve = [
        {
            "round": entry["round"],
            **{n: v for n, v in entry.items() if n.startswith("test_") and n != "test_details"},
        }
        for entry in measured
    ]
    print(f"  {curve[0][score]} -> {curve[-1][score]}", flush=True)
    return {
        "curve": curve,
        **{key: summary[key] for key in COSTS},
        "provenance": {key: meta[key] for key in ("date", "versions", "machine", "commit")},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the files of AG News and others")
    parser.add_argument("--out", type=Path, required=True, help="run folders")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=[*CASES])
    parser.add_argument("--rows", type=lambda text: text.split(","), default=[*ROWS])
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0])
    return parser.parse_args()


if __name__ == "__main__":
    main()

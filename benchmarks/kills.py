"""Kills a run in each of its phases, and goes on with it: whether the weights are those of a run that was never killed.

    python -m benchmarks.kills --out benchmarks/results/kills.json

Each run is a fork of this process, which sends itself SIGKILL at the given place: before or after a call, or when half
of a line is written.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertModel

from spry.experiment import head, log, start
from spry.experiment.atomic import write_json
from spry.experiment.config import Config, read_config
from spry.experiment.provenance import provenance
from spry.experiment.run import run
from spry.federated.closed_head.sums import HeadSums
from spry.models.sources import find_source
from spry.runtime.client_runner import ClientRunner
from spry.tasks.model_task import ModelTask

OUT = Path("benchmarks/results/kills.json")
SETTINGS = {
    "method.name": "spry", "head.start": "closed-form", "head.clients": 3, "model.max_length": 16, "client.steps": 1,
    "schedule.rounds": 3, "schedule.clients_per_round": 2, "schedule.checkpoint_every": 2, "schedule.evaluate_every": 2,
    "data.clients": 6,
}  # fmt: skip
"""What makes a run short."""


@dataclass(frozen=True)
class Place:
    """Where a run is killed: at the n-th call, from 1, of a function whose first argument is of a file."""

    owner: Any
    name: str
    call: int = 1
    when: Literal["before", "after", "halfway"] = "before"
    file: str = ""


PLACES: Mapping[str, Place] = {
    "while the settings are written": Place(Path, "replace", file="config.toml"),
    "between the settings and what is noted beside them": Place(Path, "replace", 1, "after", "config.toml"),
    "while clients sum features up": Place(HeadSums, "add", 3),
    "while the model is evaluated before round 1": Place(ModelTask, "evaluate"),
    "while the first client of a round trains": Place(ClientRunner, "_train", 3),
    "between two clients": Place(ClientRunner, "_train", 3, "after"),
    "when all have answered, before the round is logged": Place(log.Writer, "append", 2),
    "halfway through a line of the log": Place(log.Writer, "_write", 2, "halfway"),
    "between the log and the checkpoint": Place(log.Writer, "append", 2, "after"),
    "halfway through the checkpoint": Place(Path, "replace", file="checkpoint.safetensors"),
    "when the checkpoint has taken its place": Place(Path, "replace", 1, "after", "checkpoint.safetensors"),
    "a round after the checkpoint": Place(log.Writer, "append", 3),
    "before the adapter is saved": Place(ModelTask, "save_adapter"),
    "after the adapter is saved": Place(ModelTask, "save_adapter", 1, "after"),
    "while the summary is written": Place(Path, "replace", file="summary.json"),
}


def killed(config: Config, folder: Path, place: Place) -> bool:
    """Run in a fork that is killed; whether it was."""
    child = os.fork()
    if not child:
        _run_until(config, folder, place)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _run_until(config: Config, folder: Path, place: Place) -> NoReturn:
    """Run, and do not come back."""
    real, left = getattr(place.owner, place.name), [place.call]

    def called(*args: Any, **given: Any) -> Any:
        target = Path(args[-1]).name if place.file else ""
        left[0] -= target == place.file
        if target != place.file or left[0]:
            return real(*args, **given)
        if place.when == "after":
            real(*args, **given)
        if place.when == "halfway":
            writer, line, _ = args
            with writer.path.open("ab") as file:
                file.write(line[: len(line) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")

    for kept in (head, start):  # what a process of its own would not know
        vars(kept)["_KNOWN"].clear()
    try:
        with patch.object(place.owner, place.name, called):
            list(run(config, folder, resume=True))
    finally:
        os._exit(1)


def outcome(folder: Path) -> dict[str, Any]:
    """What a run leaves: its weights, and its log without what the clock says, or the memory of a process."""
    clocks = {"seconds", "cpu_seconds", "client_seconds", "client_cpu_seconds", "slowed", "start", "head"}
    clocks.add("peak_bytes_above_model")
    rounds = [_without(clocks, entry) for entry in log.read_rounds(folder)]
    return {
        "weights": load_file(folder / "adapter" / "adapter_model.safetensors"),
        "rounds": rounds,
        "files": {path.name for path in folder.iterdir()} - {".lock"},
    }


def _without(keys: set[str], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(keys, one) for key, one in value.items() if key not in keys}
    return [_without(keys, one) for one in value] if isinstance(value, list) else value


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name what two outcomes differ in."""
    found = [key for key in ("rounds", "files") if one[key] != other[key]]
    weights = one["weights"].keys() == other["weights"].keys() and all(
        torch.equal(value, other["weights"][name]) for name, value in one["weights"].items()
    )
    return found if weights else ["weights", *found]


def whole_and_killed(config: Config, places: Mapping[str, Place], folder: Path) -> dict[str, list[str]]:
    """Of each place, what differs from a run that was not killed."""
    list(run(config, folder / "whole"))
    whole, found = outcome(folder / "whole"), dict[str, list[str]]()
    for number, (phase, place) in enumerate(places.items()):
        here = folder / str(number)
        assert killed(config, here, place), phase
        print(phase, flush=True)
        list(run(config, here, resume=True))
        found[phase] = differences(whole, outcome(here))
    return found


def tiny_bert(folder: Path) -> Path:
    """Make a random BERT of two layers, which reads MiniLM's words."""
    tokenizer = AutoTokenizer.from_pretrained(find_source("minilm").path)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def few_rows(file: Path) -> Path:
    """Write 60 short reviews."""
    words = (("great", "bad"), ("film", "plot", "actor"))
    rows = [
        f"{words[1][i % 3]} number {i} was {words[0][i % 2]},{'yes' if i % 2 else 'no'}" for i in range(60)
    ]
    file.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return file


def main() -> None:
    """Kill runs and write what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        own = {"model.name": tiny_bert(place / "model"), "data.name": few_rows(place / "reviews.csv")}
        config = read_config("plain", {**SETTINGS, **{key: str(path) for key, path in own.items()}})
        found = whole_and_killed(config, PLACES, place)
    write_json(asked.out, {"provenance": provenance(), "settings": SETTINGS, "differences": found})


if __name__ == "__main__":
    main()

"""Peak memory and time of a client's step under the quickstart's methods, on models larger than the quickstart's.

The methods are those of the ``quickstart`` preset, each with its own weights (rank 16): the default recipe, the last
block alone, FedAvg with and without checkpointing; beside them the loss alone, under ``no_grad``. Models are shapes
with random weights, texts are BBC news, strung together until each fills its row. Each row is measured in a fresh
process, in the second round, for in the first LoRA's A sleeps; steps alternate with inference, and ratios of times are
medians of neighbours' ratios. Rows are merged into the file.

    python benchmarks/recipe.py [--shapes bert-base:8x128,bert-base:1x2048] [--methods spry] [--repeats 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from spry.core.keys import Key
from spry.data.datasets import load_splits
from spry.experiment.atomic import write_json
from spry.experiment.build import Experiment
from spry.experiment.build import build as put_together
from spry.experiment.config import load_config
from spry.experiment.provenance import provenance
from spry.measure.meter import peak_of, release_lazily, release_promptly
from spry.models.load import load_model
from spry.profile.random_model import build_model
from spry.wire.messages import Answer

RESULTS = Path("benchmarks/results/recipe.json")
SHAPES = ("bert-base:8x128", "bert-base:8x512", "llama-1k:8x128")
METHODS = {
    "spry": ["method.name=spry"],
    "head_only_block": ["method.name=head_only_block"],
    "fedavg": ["method.name=fedavg"],
    "fedavg_whole_tape": ["method.name=fedavg", "method.checkpoint=false"],
}
DOCUMENTS = 64
KEY = Key(0)


def main() -> None:
    """Measure what was asked for and merge it into the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--repeats", type=int, default=3, help="timed steps")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    known = json.loads(options.out.read_text(encoding="utf8"))["rows"] if options.out.exists() else []
    rows = {(row["shape"], row["method"]): row for row in known}
    for shape in options.shapes.split(","):
        with TemporaryDirectory() as folder:
            settings = _prepared(shape, Path(folder))
            for method in options.methods.split(","):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                    measured = fresh.submit(measure, [*settings, *METHODS[method]], options.repeats).result()
                row = {"shape": shape, "method": method, **measured, "date": provenance()["date"]}
                rows[shape, method] = row
                write_json(options.out, {"provenance": provenance(), "rows": list(rows.values())})
                print(
                    f"{shape:<18} {method:<18} {row['peak_bytes_above_model'] / 2**20:8.1f} MiB "
                    f"{row['cpu_ratio']:.2f} x inference, which takes {row['inference_peak_bytes'] / 2**20:.1f} MiB",
                    flush=True,
                )


def measure(settings: Sequence[str], repeats: int) -> dict[str, Any]:
    """Measure one method in this process, its only work.

    Args:
        settings: What is set beyond the quickstart.
        repeats: Timed steps, >= 1.

    Returns:
        Bytes of the peak above the model, of a step and of the loss alone; trained weights; and the median ratio of
        the processor times.
    """
    release_promptly()
    experiment = put_together(load_config("quickstart", settings))
    step, inference = _steps(experiment)
    step()
    inference()
    peaks = {"peak_bytes_above_model": peak_of(step), "inference_peak_bytes": peak_of(inference)}
    release_lazily()
    inference()
    ratios = [1 / _seconds(inference) * _seconds(step) for _ in range(repeats)]
    trained = sum(weight.numel() for weight in experiment.task.init().values())
    return {**peaks, "weights": trained, "cpu_ratio": median(ratios)}


def _steps(experiment: Experiment) -> tuple[Callable[[], object], Callable[[], object]]:
    """A client's local training in the second round, and the loss of the same batch."""
    algorithm, task, clients = experiment.algorithm, experiment.task, experiment.clients
    state = algorithm.init(task.init())
    order = algorithm.plan(state, [0], KEY)[0]
    examples = clients.examples(0)
    reply = algorithm.train(task.loss, order, clients.batches(0, 0, KEY), examples).reply
    state = algorithm.absorb(state, [Answer(order, reply)])
    second = algorithm.plan(state, [0], KEY)[0]
    [batch] = clients.batches(0, 1, KEY)
    return (
        lambda: algorithm.train(task.loss, second, [batch], examples),
        lambda: task.evaluate(second.weights, [batch]),
    )


def _prepared(shape: str, folder: Path) -> list[str]:
    """Write a model of a shape, and documents that fill its rows; give the settings that use them."""
    name, _, size = shape.partition(":")
    batch, length = map(int, size.split("x"))
    wrapped: Any = build_model(name, length=length)
    wrapped.unload().save_pretrained(folder)
    tokenizer = load_model("minilm", labels=2, key=KEY).tokenizer
    tokenizer.model_max_length = length
    tokenizer.save_pretrained(folder)
    _write_documents(folder / "documents.jsonl", length)
    return [
        f"model.name={folder}", f"model.max_length={length}", f"data.name={folder / 'documents.jsonl'}",
        "data.clients=1", "data.held_out=0", "schedule.clients_per_round=1", "client.steps=1",
        f"client.batch_size={batch}",
    ]  # fmt: skip


def _write_documents(file: Path, words: int) -> None:
    """String articles together until each document has enough words, and so enough tokens."""
    articles = load_splits("bbc-news").train
    shuffled = cycle(KEY.generator("documents").permutation(len(articles.labels)))
    documents = []
    for _ in range(DOCUMENTS):
        first = next(shuffled)
        text = str(articles.texts[first])
        while len(text.split()) < words:
            text += " " + str(articles.texts[next(shuffled)])
        documents.append({"text": text, "label": articles.label_names[articles.labels[first]]})
    file.write_text("\n".join(map(json.dumps, documents)), encoding="utf8")


def _seconds(step: Callable[[], object]) -> float:
    begun = time.process_time()
    step()
    return time.process_time() - begun


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

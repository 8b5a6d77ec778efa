"""What passes: architecture x task x PEFT kind x precision, each as the engine's slopes against backpropagation.

    python -m benchmarks.architectures --out benchmarks/results/architectures.json [--only bert] [--tasks causal-lm]

Each model type is built tiny with random weights (`architecture_sizes.py`), adapted as a task of that kind adapts it,
and its loss is differentiated along a random direction of each unit. LoRA is tried in three precisions, the other kinds
in float32. The file is written after each type, and rows that are not measured anew stay.
`benchmarks/architectures_page.py` writes the table.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.architecture_sizes import SIZES, configuration

from spry.core.errors import SpryError, first_line
from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.forward.check import Checked
from spry.models.adapt import Exact
from spry.models.adapters import BareHead, BitFit, Dora, Ia3, Lora, Norm, RsLora, Vera
from spry.models.adapters.adapter import Adapter
from spry.models.pretrained import quiet
from spry.profile.task_check import AWAY, check_task, usual_outputs
from spry.tasks.kinds import TASKS
from spry.tasks.model_task import ModelTask

TASKS_TRIED = ("classification", "multiple-choice", "question-answering", "causal-lm")
"""The tasks of the table, unless others are asked for."""
ADAPTERS: Mapping[str, Adapter] = {
    "lora": Lora(rank=2),
    "rslora": RsLora(rank=2),
    "dora": Dora(rank=2),
    "vera": Vera(rank=3),
    "ia3": Ia3(),
    "bitfit": BitFit(),
    "norm": Norm(),
    "head": BareHead(),
}
PRECISIONS = ("float32", "float64", "bfloat16")
CASES = [("lora", precision) for precision in PRECISIONS] + [
    (name, "float32") for name in ADAPTERS if name != "lora"
]
KEY = Key(0).fold("architectures")
BATCH, LENGTH = 3, 8
DRAWS = 3
"""How many draws of weights are tried in half precision: at a near tie of two experts rounding may choose the other."""


def tokenizer() -> Any:
    """Make a tokenizer of 60 words that marks texts as BERT does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words = [*marks.values(), *(f"w{number}" for number in range(60))]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=made, **marks, eos_token="[SEP]", model_max_length=32)


def cases(task: str) -> list[tuple[str, str]]:
    """PEFT kinds and precisions in which a task is tried."""
    trained = TASKS[task].model_class.trains_head
    return [case for case in CASES if trained or case[0] != "head"]


def measure(family: str, task: str) -> Iterator[dict[str, Any]]:
    """Try one model type on one task, a case after the other."""
    if type(configuration(family)) not in TASKS[task].model_class.known:
        yield {"family": family, "task": task, "verdict": "absent"}
        return
    for adapter, precision in cases(task):
        for draw in range(DRAWS if precision == "bfloat16" else 1):
            found = _tried(family, task, ADAPTERS[adapter], getattr(torch, precision), draw)
            if found["verdict"] not in {"wrong", "rounding"}:
                break
        yield {"family": family, "task": task, "peft": adapter, "precision": precision, **found}


def _tried(family: str, task: str, adapter: Adapter, dtype: torch.dtype, draw: int) -> dict[str, Any]:
    with warnings.catch_warnings(), quiet(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        model = _model(family, task, dtype, draw)
        try:
            made = _adapted(model, task, adapter, dtype)
            judged = _judged(found := check_task(made, KEY, batch=BATCH, length=LENGTH, differences=False))
            if judged["verdict"] == "wrong" and dtype == torch.bfloat16:
                judged |= _rounding(family, task, adapter, draw, judged["error"])
        except SpryError as error:
            return {"verdict": "refused", "reason": _reason(error, model)}
        except Exception as error:  # one that is no refusal is a fault, which the table has to show
            return {"verdict": "crash", "reason": f"{type(error).__name__}: {first_line(error)}"}
    last = any(unit.last_block for unit in made.units)
    return {**judged, "last_block": last, "fallbacks": sorted(found.fallbacks)}


def _model(family: str, task: str, dtype: torch.dtype, draw: int) -> Any:
    """A tiny model of a task, whose weights are random numbers of a precision."""
    kind = TASKS[task]()
    counted = {"num_labels": len(usual_outputs(kind, KEY))} if kind.model_class.counted else {}
    torch.manual_seed(draw)
    return kind.model_class.loader.from_config(configuration(family, **counted), dtype=dtype)


def _adapted(model: Any, task: str, adapter: Adapter, dtype: torch.dtype, exact: Exact = "auto") -> ModelTask:
    kind = TASKS[task]()
    chosen = {"adapter": adapter, "tokenizer": tokenizer(), "dtype": dtype, "exact": exact}
    return ModelTask(model, kind, labels=usual_outputs(kind, KEY), key=KEY, **chosen)


def _rounding(family: str, task: str, adapter: Adapter, draw: int, error: float) -> dict[str, Any]:
    """Whether backpropagation's own gradient is off by half of an error or more in half precision: both are rounded."""
    narrow, wide = (
        _adapted(_model(family, task, torch.bfloat16, draw), task, adapter, dtype, "head")
        for dtype in (torch.bfloat16, torch.float32)
    )
    own = _distance(_gradient(narrow), _gradient(wide), wide.units)
    return {"backpropagation": own, "verdict": "rounding" if 2 * own >= error else "wrong"}


def _gradient(task: ModelTask) -> Params:
    """Backpropagation's gradient near the start, where the check is taken."""
    leaves = {
        n: (w + AWAY * KEY.normal(n, tuple(w.shape), w)).requires_grad_() for n, w in task.init().items()
    }
    loss = task.loss(task.probe(KEY, examples=BATCH, tokens=LENGTH), KEY)(leaves)
    found = torch.autograd.grad(loss, [*leaves.values()], allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def _distance(one: Params, other: Params, units: Sequence[Unit]) -> float:
    """``|g - g'| / |g'|``, the most of all units."""

    def size(gradient: Params, unit: Unit) -> float:
        return math.sqrt(sum(float(gradient[name].norm()) ** 2 for name in unit.names))

    off = {name: one[name] - other[name] for name in other}
    return float(f"{max(size(off, u) / size(other, u) for u in units if size(other, u)):.1e}")


def _reason(error: SpryError, model: object) -> str:
    """What was refused, without the model's name."""
    return first_line(error).removeprefix(f"{type(model).__name__}: ").removeprefix("PeftModelForCausalLM: ")


def _judged(found: Checked) -> dict[str, Any]:
    errors = [unit.gradient_error for unit in found.units if not unit.is_still]
    if found.unsupported:
        first = found.unsupported[0]
        return {
            "verdict": "refused",
            "reason": f"{first.module} ({first.kind}): {first.reason}. {first.remedy}.",
        }
    if any(math.isnan(error) for error in errors):  # backpropagation's own gradient is no number
        return {"verdict": "not finite"}
    worst = max(errors, default=0.0)
    return {"verdict": "pass" if found.passed else "wrong", "error": float(f"{worst:.1e}")}


def main() -> None:
    """Measure all, or some, and write the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="Model types, with commas.")
    parser.add_argument("--tasks", default=",".join(TASKS_TRIED), help="Tasks, with commas.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [name for name in given.only.split(",") if name] or list(SIZES)
    tasks = [name for name in given.tasks.split(",") if name in TASKS]
    rows = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.is_file() else []
    places = {name: at for at, name in enumerate([*SIZES, *TASKS])}
    for family in wanted:
        found = [row for task in tasks for row in measure(family, task)]
        rows = [row for row in rows if row["family"] != family or row["task"] not in tasks] + found
        rows.sort(key=lambda row: (places[row["family"]], places[row["task"]]))  # cases stay in their order
        write_json(given.out, {**provenance(), "rows": rows})
        failed = [row for row in found if row["verdict"] not in {"pass", "absent"}]
        told = (f"{row['task']} {row['peft']} {row['precision']} {row['verdict']}" for row in failed)
        print(family, *told, sep="; ", flush=True)


if __name__ == "__main__":
    main()

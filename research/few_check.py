"""The stand-in of ``few_dimensions.py`` against Spry itself: loss, gradient and a slope of the same numbers.

    python research/few_check.py

MiniLM, 8 texts of random words, LoRA-XS of rank 4 in the six maps of the last block, away from its start. Prints
relative differences, about 1e-6 or less.
"""

from __future__ import annotations

import torch
from few_problem import MAPS, Model, Subspace, flat, gradients

from spry.contrib.lora_xs import LoraXs
from spry.core.keys import Key
from spry.core.params import Params, dot
from spry.estimators.backprop import backprop
from spry.forward import jvp
from spry.tasks.classification import ClassificationTask

LAST = "layer.5."


def main() -> None:
    """Compute both and compare."""
    torch.set_num_threads(1)
    adapter = LoraXs(rank=4, alpha=4.0, targets=tuple(LAST + name for name in MAPS.values()))
    task = ClassificationTask("minilm", labels=2, adapter=adapter)
    batch, weights = task.probe(Key(0), examples=8, tokens=12), task.init()
    names = [name for unit in task.units if not unit.head for name in unit.names]
    own = {name: 0.3 * Key(1).normal(name, (4, 4)) for name in names}
    loss = task.loss(batch, Key(0), {name: w for name, w in weights.items() if name not in own})
    exact = backprop(False)(loss, own, Key(0))
    direction = {name: Key(2).normal(name, (4, 4)) for name in names}
    _, slope = jvp(loss, own, [direction])
    value, found = stand_in(task, weights, batch, own)
    wanted = flat(exact.gradient.values())
    along = dot(exact.gradient, direction)
    print(f"loss     {abs(value / exact.value - 1):.1e}")
    print(f"gradient {float((found - wanted).norm() / wanted.norm()):.1e}")
    print(f"slope    {abs(float(slope) / float(along) - 1):.1e}")


def stand_in(
    task: ClassificationTask, weights: Params, batch: Params, own: Params
) -> tuple[float, torch.Tensor]:
    """Loss and gradient, shape (d,), by few_problem, with the columns that the adapter has."""
    columns = {}
    for name in own:
        layer = task.module.get_submodule(name.split(".lora_A")[0])
        short = next(key for key, place in MAPS.items() if name.split(LAST)[1].startswith(f"{place}."))
        columns[5, short] = (layer.lora_B["default"].weight, layer.lora_A["default"].right.T)
    bert = task.module.base_model.model.bert
    head = [
        next(w for n, w in weights.items() if n.endswith(end) and "classifier" in n)
        for end in ("weight", "bias")
    ]
    model = Model(bert, (head[0], head[1]), bert.config.num_attention_heads, bert.config.layer_norm_eps)
    rows = zip(batch["input_ids"], batch["attention_mask"], strict=True)
    states = model.states([ids[mask.bool()].tolist() for ids, mask in rows], range(8), 5)
    at, groups = flat(own.values())[None], torch.zeros(8, dtype=torch.long)
    losses, found = gradients(model, states, batch["labels"], groups, Subspace(columns=columns), at)
    return float(losses), found[0]


if __name__ == "__main__":
    main()

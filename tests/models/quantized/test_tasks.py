"""Every task on a packed base has the loss, slopes and gradients of the same task on the dequantised base."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import dot
from spry.estimators.backprop import backprop
from spry.forward import jvp, track_fallbacks
from spry.models.adapters import ADAPTERS, Lora, Vera
from spry.models.load import load_model
from spry.models.quantized.layers import dequantize, has_packed
from spry.profile.task_check import usual_outputs
from spry.tasks.kinds import TASKS
from spry.tasks.model_task import ModelTask
from tests.models.quantized.conftest import SIZES
from tests.models.quantized.test_training import close

OPT = {
    "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 64
}  # fmt: skip
WIDE = {**SIZES, "opt": OPT}
CASES = [
    ("causal-lm", "llama"),
    ("causal-lm", "opt"),
    ("question-answering", "llama"),
    ("question-answering", "opt"),
    *((task, "bert") for task in TASKS if task != "causal-lm"),
]
NEED_WEIGHTS = {"dora", "lora_xs", "lora_a"}
"""Adapters that begin with something computed from the weights; the last two are of contrib, if it was imported."""
LOSSES = {"mse_loss", "binary_cross_entropy_with_logits"}
"""Of a number or two a row, for which torch's own rules are good enough."""
KEY = Key(3)


def saved(task, model, folder, tokenizer):
    """A folder with a tiny model of the task's class, its head included."""
    from transformers import AutoConfig

    kind = TASKS[task]()
    counted = {"num_labels": len(usual_outputs(kind, KEY))} if kind.model_class.counted else {}
    sizes = {"vocab_size": 32, "max_position_embeddings": 40, "initializer_range": 0.2, **counted}
    sizes["tie_word_embeddings"] = False
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = kind.model_class.loader.from_config(
            AutoConfig.for_model(model, **WIDE[model], **sizes, **tokens)
        )
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return kind, usual_outputs(kind, KEY)


@pytest.mark.parametrize("packing", ["nf4", "int8", "int4"])
@pytest.mark.parametrize(("task", "model"), CASES)
def test_slopes_and_gradients(task, model, packing, tiny_tokenizer, tmp_path):
    kind, outputs = saved(task, model, tmp_path, tiny_tokenizer)
    given = {"labels": outputs, "key": KEY, "adapter": Lora(rank=2), "exact": "head"}
    packed = ModelTask(str(tmp_path), kind, quantization=packing, **given)
    assert has_packed(packed.module)
    loaded = load_model(
        str(tmp_path), labels=outputs, key=KEY.fold("head"), quantization=packing, kind=kind.model_class
    )
    plain = ModelTask(
        dequantize(loaded.model, torch.float32).float(), kind, tokenizer=tiny_tokenizer, **given
    )
    assert not has_packed(plain.module)
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in packed.init().items()}
    losses = [t.loss(t.probe(KEY, examples=3, tokens=12), Key(0)) for t in (packed, plain)]
    exact, found = (backprop()(loss, weights, Key(0)) for loss in losses[::-1])
    assert found.value == pytest.approx(exact.value, rel=1e-5)
    close(found.gradient, exact.gradient)
    directions = [{n: Key(k).normal(n, tuple(w.shape)) for n, w in weights.items()} for k in range(2)]
    with track_fallbacks() as report:
        value, slopes = jvp(losses[0], weights, directions)
    assert {*report.fallbacks} <= LOSSES
    assert float(value) == pytest.approx(exact.value, rel=1e-5)
    assert slopes.tolist() == pytest.approx([dot(exact.gradient, v) for v in directions], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("packing", ["nf4", "int8", "int4"])
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("model", ["bert"])
def test_every_adapter_is_added_to_every_packed_base_or_refused_with_the_remedy(
    folder, adapter, packing, tiny_tokenizer
):
    kind = Vera(rank=5) if adapter == "vera" else ADAPTERS[adapter]()
    given = {"labels": 3, "key": KEY, "adapter": kind, "quantization": packing}
    if packing == "int4" and adapter in NEED_WEIGHTS:
        with pytest.raises(
            ModelError, match=r"set model\.quantization = 'nf4' or 'int8', or peft\.kind = 'lora'"
        ):
            ModelTask(str(folder), TASKS["classification"](), **given)
        return
    task = ModelTask(str(folder), TASKS["classification"](), **given)
    loss = task.loss(task.probe(KEY, examples=3, tokens=12), Key(0))
    weights = {n: w + 0.1 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    exact = backprop()(loss, weights, Key(0)).gradient
    assert float(jvp(loss, weights, [weights])[1]) == pytest.approx(dot(exact, weights), rel=1e-3, abs=1e-4)

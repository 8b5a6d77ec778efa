"""The head with adapters above the last attention or of the last block: its maps, its exact gradient, its memory."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace

import pytest
import torch
from transformers import AutoConfig

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.units import exact_names, names_of
from spry.data.dataset import Dataset
from spry.estimators.exact import exact_head
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import central_difference, forward_difference, forward_mode
from spry.forward import call
from spry.measure.meter import tensor_peak
from spry.measure.operations import OperationCounter
from spry.models.adapt import adapt
from spry.models.adapters import Lora, Vera
from spry.models.last_block import _maps_above_last_attention as top_maps
from spry.models.last_block import _rows_of, last_block_maps
from spry.models.load import Backbone
from spry.models.targets import linear_names
from spry.tasks.classification import ClassificationTask
from tests.forward.reference import scale_down
from tests.laws.problem import gradient
from tests.models.conftest import make
from tests.models.setting import setting


def test_only_one_position_of_a_text_gives_top_maps_a_gradient(backbone, kind):
    """Judged by autograd: the derivative of the logits by the outputs of every map of the pretrained part."""
    model, found = backbone.model, top_maps(backbone)
    outputs: dict[str, torch.Tensor] = {}

    def keep(name):
        def hook(module, args, output):
            outputs[name] = output if output.requires_grad else output.requires_grad_()

        return hook

    linears = {n: m for n, m in linear_names(model).items() if n.startswith(f"{model.base_model_prefix}.")}
    handles = [module.register_forward_hook(keep(name)) for name, module in linears.items()]
    logits = model(input_ids=torch.arange(4, 16).view(2, 6)).logits
    for handle in handles:
        handle.remove()
    slopes = torch.autograd.grad(logits.square().sum(), list(outputs.values()), allow_unused=True)
    places = {
        name: 0 if g is None else int((g.flatten(2).abs().amax(2) > 0).sum(1).max()) if g.dim() == 3 else 1
        for name, g in zip(outputs, slopes, strict=True)
    }
    assert (
        len(found) == 1 if kind == "albert" else len(found) >= 3
    )  # albert's layers share weights: its pooler alone
    assert all(places[name] == 1 for name in found)
    after = list(places)[list(places).index(found[0]) :]
    assert [name for name in after if places[name]] == found


def test_the_last_block_has_the_maps_of_the_top_and_of_its_attention(backbone, kind):
    """Judged by the models' own classes: nothing outside the last block, its attention inside."""
    found, top = last_block_maps(backbone), top_maps(backbone)
    if kind == "albert":  # its layers share weights
        assert found == []
        return
    linears = linear_names(backbone.model)
    assert {name for name in linears if ".1." in name} == set(found) - {n for n in top if ".1." not in n}
    assert set(top) < set(found)
    assert any("att" in name for name in set(found) - set(top))


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("how", ["forward_mode", "central_difference", "forward_difference"])
def test_its_gradient_is_exact_beside_moved_weights(folder, reviews, how, kind):
    task, loss, weights = setting(folder, reviews, Lora(rank=2), micro=2, exact="last_block")
    *body, block, head = task.units
    assert [unit.group for unit in (block, head)] == ["exact", "head"]
    assert {unit.group for unit in body} == {"body"}
    assert any("lora_A" in n for n in block.names)
    assert any("lora_B" in n for n in block.names)
    assert not any("lora" in n for n in head.names)
    every = exact_names(task.units)
    assert every == {*block.names, *head.names} and not set(names_of(body)) & every
    spec = SlopeSpec(exact=every)
    estimate = {
        "forward_mode": projected(forward_mode, spec, 2),
        "central_difference": projected(central_difference(1e-4), spec, 2),
        "forward_difference": projected(forward_difference(1e-4), spec, 2),
    }[how](loss, weights, Key(1))
    exact = gradient(loss, weights)
    # central differences take it at both sides; llama's RMS norm computes in float32 whatever the weights are
    close = how != "central_difference" and kind != "llama"
    precision = {"rtol": 1e-7, "atol": 1e-10} if close else {"rtol": 1e-4, "atol": 1e-6}
    for n in every:
        torch.testing.assert_close(estimate.gradient[n], exact[n], **precision)
    assert any(estimate.gradient[n].any() for n in names_of(body))


def test_a_small_batch_computes_one_position_of_each_text_too(tiny_tokenizer, reviews):
    """The last of two blocks and its gradient are less work than its inference, which computes all positions."""
    model = make("bert", hidden_size=96, intermediate_size=384)
    task = ClassificationTask(
        model, labels=3, key=Key(3), tokenizer=tiny_tokenizer, adapter=Lora(rank=2), exact="last_block"
    )
    weights = task.init()
    head = {n: w for n, w in weights.items() if n in exact_names(task.units)}
    batch = task.encode(reviews, max_length=16).batch(range(5))
    loss = task.loss(batch, Key(0), {n: w for n, w in weights.items() if n not in head})
    with OperationCounter() as inference, torch.no_grad():
        loss(weights)
    with OperationCounter() as training:
        exact_head()(loss, head, Key(0))
    assert training.total < 0.9 * inference.total


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_it_is_read_back_by_peft(folder, reviews, tmp_path):
    from peft import PeftModel

    from tests.tasks.test_classification import base_model

    task = ClassificationTask(str(folder), labels=3, key=Key(3), adapter=Lora(rank=2), exact="last_block")
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(weights, tmp_path / "adapter")
    read = PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
    with torch.no_grad():
        theirs = read(**{n: v for n, v in batch.items() if n != "labels"}).logits
        torch.testing.assert_close(task.logits(weights, batch), theirs)


def long_texts(monkeypatch):
    """32 texts of 32 tokens; the engine's workspace shrinks in proportion to a model a thousandth of real ones."""
    texts, tokens = 32, 32
    scale_down(monkeypatch, texts * tokens * 16 * 4)
    said = ["a good film " * 12] * texts
    return Dataset(name="long", texts=said, labels=[0, 1] * (texts // 2), label_names=("a", "b")), tokens


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_it_takes_no_tape_of_all_positions(folder, monkeypatch):
    """A tape of the last layer's MLP alone, for all positions, would be several of these passes' hidden states."""
    dataset, tokens = long_texts(monkeypatch)
    texts = len(dataset.texts)

    def peak(exact):
        task = ClassificationTask(str(folder), labels=2, key=Key(3), adapter=Lora(), exact=exact)
        weights = task.init()
        loss = task.loss(task.encode(dataset, max_length=tokens).batch(range(texts)), Key(0))
        made = projected(forward_mode, SlopeSpec(exact=exact_names(task.units)))
        made(loss, weights, Key(1))
        gc.collect()
        return tensor_peak(lambda: made(loss, weights, Key(1)))

    hidden = texts * tokens * AutoConfig.from_pretrained(folder).hidden_size * 4
    # what the last attention's maps read, its keys and its values wait for the gradient; the MLP is as small as before
    assert peak("last_block") <= peak("head") + 6.5 * hidden


@pytest.mark.parametrize("kind", ["bert", "gpt2", "deberta-v2"])
def test_dropout_has_one_mask_for_value_and_tangents(folder, reviews):
    task, loss, weights = setting(folder, reviews, Lora(), exact="last_block", dropout=True)
    exact, head = gradient(loss, weights), exact_names(task.units)
    spec = SlopeSpec(exact=head)
    found = projected(forward_mode, spec)(loss, weights, Key(1)).gradient
    for n in head:
        torch.testing.assert_close(found[n], exact[n])
    body = {n: w for n, w in weights.items() if n not in head}
    (v,) = spec.draw(Key(1), weights, 1)
    slope = sum(float((exact[n] * v[n]).sum()) for n in body)
    for n in body:
        torch.testing.assert_close(found[n], slope * v[n], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["albert"])
def test_a_model_without_a_last_block_of_its_own_is_refused(backbone):
    backbone = replace(
        backbone, newly_initialized=("albert.pooler.weight",)
    )  # then the pooler is trained as a whole
    with pytest.raises(ModelError, match=r"no last block.*set peft.exact = 'head'"):
        adapt(backbone, Lora(), Key(0), exact="last_block")


@pytest.mark.parametrize("kind", ["albert"])
def test_small_effects_of_other_positions_count(backbone):
    """At their usual scale, 0.02, untrained weights let little through; albert's shared layer is not the last one."""
    with torch.no_grad():
        for weight in backbone.model.parameters():
            weight.mul_(0.1)
    with pytest.raises(ModelError, match=r"set peft.exact = 'head'"):
        adapt(backbone, Lora(), Key(0), exact="last_block")


def test_rows_of_texts_in_every_layout_are_the_same():
    """2 texts of 5 tokens: batch first, positions first, both in one, filled up to 8, and pooled."""
    rest, every = range(1, 5), range(5)
    batch_first = torch.zeros(2, 5, 3)
    for index in _rows_of(batch_first, rest):
        batch_first[index] = 1.0
    assert batch_first[:, 1:].all() and not batch_first[:, 0].any()
    for made in (torch.zeros(5, 2, 3), torch.zeros(10, 3), torch.zeros(2, 8, 3), torch.zeros(8, 2, 3)):
        for index in _rows_of(made, rest):
            made[index] = 1.0
        if made.shape == (10, 3):
            found = made.view(2, 5, 3)
        else:
            found = (made if made.shape[0] == 2 else made.mT.transpose(1, 2).transpose(0, 1))[:, :5]
        assert found.equal(batch_first)
    assert _rows_of(torch.zeros(2, 3), rest) == [] and _rows_of(torch.zeros(2, 3), every) == [...]
    assert _rows_of(torch.zeros(2, 1, 4, 3), rest) == [...]  # who knows what these are


@pytest.mark.parametrize("kind", ["bert"])
def test_auto_is_the_last_block_where_there_is_one(folder):
    chosen, asked = (
        ClassificationTask(str(folder), labels=3, key=Key(3), adapter=Lora(rank=2), exact=exact)
        for exact in ("auto", "last_block")
    )
    assert chosen.units == asked.units and not any("exact gradients" in note for note in chosen.notes)
    assert all(weight.equal(asked.init()[name]) for name, weight in chosen.init().items())


@pytest.mark.parametrize(("kind", "adapter"), [("albert", Lora()), ("bert", Vera())])
def test_auto_is_the_head_elsewhere_and_says_so(folder, adapter):
    chosen, asked = (
        ClassificationTask(str(folder), labels=3, key=Key(3), adapter=adapter, exact=exact)
        for exact in ("auto", "head")
    )
    assert chosen.units == asked.units
    assert all(weight.equal(asked.init()[name]) for name, weight in chosen.init().items())
    (note,) = set(chosen.notes) - set(asked.notes)
    assert note.endswith("the head alone gets exact gradients (peft.exact = 'auto').")


@pytest.mark.parametrize("kind", ["bert"])
def test_a_kind_without_maps_is_refused(backbone):
    with pytest.raises(ModelError, match=r"set peft\.kind = 'lora'"):
        adapt(backbone, Vera(), Key(0), exact="last_block")


TINY = {
    "max_position_embeddings": 40,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
ODD = {
    "bart": {**TINY, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24},
    "t5": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 24},
    "xlnet": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24},
    "longformer": {
        "max_position_embeddings": 40,
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 24, "attention_window": 4,
    },
}  # fmt: skip
"""Classifiers that pool at an end token, or put positions before the batch."""


@pytest.mark.parametrize("kind", ODD)
def test_models_that_pool_at_an_end_token_or_put_positions_first(kind, tiny_tokenizer, reviews):
    """Each is either given exact gradients that autograd confirms, or refused with the setting that helps."""
    from copy import deepcopy

    from transformers import AutoModelForSequenceClassification

    sizes = {
        "vocab_size": 32,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    config = AutoConfig.for_model(kind, **{**sizes, **ODD[kind]}, num_labels=3, decoder_start_token_id=0)
    tokenizer = deepcopy(tiny_tokenizer)
    tokenizer.eos_token = "[SEP]"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config).eval().double().requires_grad_(False)
    backbone = Backbone(name=kind, model=model, tokenizer=tokenizer, newly_initialized=())
    targets = {"xlnet": ("ff.layer_1",)}.get(kind)
    try:
        adapted = adapt(backbone, Lora(targets=targets), Key(0), exact="last_block")
    except ModelError as error:
        assert "set peft.exact = 'head'" in str(error)
        assert adapt(backbone, Lora(targets=targets), Key(0), exact="auto").notes
        return
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 4, 3]])
    own = list(exact_names(adapted.units))
    weights = {
        n: adapted.module.get_parameter(n)
        + 0.3 * Key(5).normal(n, tuple(adapted.module.get_parameter(n).shape))
        for n in own
    }
    loss = WholeLoss(adapted.module, ids)
    found, exact = exact_head()(loss, weights, Key(0)).gradient, gradient(loss, weights)
    for n in own:
        torch.testing.assert_close(found[n], exact[n], rtol=1e-6, atol=1e-9)


@dataclass(frozen=True)
class WholeLoss:
    module: torch.nn.Module
    ids: torch.Tensor

    def __call__(self, params, *, checkpoint=False):
        return call(self.module, params, input_ids=self.ids, labels=torch.tensor([0, 2])).loss

    def microbatches(self):
        return [(1.0, self)]

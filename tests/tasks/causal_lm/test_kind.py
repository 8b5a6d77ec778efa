"""The task of language models, against the model's own logits, PyTorch's cross-entropy and transformers' answers."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.core.params import dot
from spry.data.batches import EvaluationBatches
from spry.estimators.backprop import backprop
from spry.estimators.exact import exact_head
from spry.estimators.residual import residual
from spry.estimators.slopes import forward_mode
from spry.forward.functional import call
from spry.tasks.causal_lm.answers import free_answers, holding
from spry.tasks.causal_lm.kind import CausalLM
from spry.tasks.causal_lm.metrics import LanguageMetrics
from tests.language import TEMPLATE, tokenizer
from tests.tasks.causal_lm.setting import ASKING, KINDS, PAIRS, dataset, documents, make_task, moved, task

BOTH = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def batch():
    return task("llama").encode(dataset()).batch(range(len(PAIRS)))


def reference(found, params, batch):
    """The mean over learnt tokens, of all logits at once, and its gradient."""
    leaves = {name: w.detach().clone().requires_grad_() for name, w in params.items()}
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = call(found.module, leaves, **inputs).logits[:, :-1]
    loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten())
    return loss.detach(), dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@BOTH
@pytest.mark.parametrize("estimator", [backprop(), backprop(checkpoint=True), exact_head()])
def test_gradient_is_that_of_all_logits(kind, estimator, batch):
    found = task(kind)
    params = moved(found)
    value, gradient = reference(found, params, batch)
    estimate = estimator(found.loss(batch, Key(0)), params, Key(0))
    assert estimate.value == pytest.approx(float(value))
    torch.testing.assert_close(dict(estimate.gradient), gradient)


@BOTH
def test_the_residual_guess_is_exact_at_the_top(kind, batch):
    found = task(kind)
    params = moved(found)
    _, gradient = reference(found, params, batch)
    estimate = residual("norm")(found.loss(batch, Key(0)), params, Key(0))
    exact = [n for n in params if ".2." in n or ".1." in n]  # of three blocks the last, and the one below it
    assert exact and len(exact) < len(params)
    torch.testing.assert_close({n: estimate.gradient[n] for n in exact}, {n: gradient[n] for n in exact})


def test_the_head_is_found_while_a_method_listens(batch):
    fresh, known = make_task("llama"), task("llama")
    params = moved(fresh)
    one, other = (residual()(t.loss(batch, Key(0)), params, Key(0)) for t in (fresh, known))
    torch.testing.assert_close(dict(one.gradient), dict(other.gradient))


@BOTH
def test_slopes_beside_an_exact_last_block(kind, batch):
    found = task(kind)
    params = moved(found)
    _, gradient = reference(found, params, batch)
    top = {n for unit in found.units if unit.exact for n in unit.names}
    below = {n: w for n, w in params.items() if n not in top}
    direction = {n: Key(5).normal(n, tuple(w.shape), like=w) for n, w in below.items()}
    result = forward_mode(found.loss(batch, Key(0)), below, [direction], {n: params[n] for n in top})
    assert float(result.slopes) == pytest.approx(float(dot({n: gradient[n] for n in below}, direction)))
    torch.testing.assert_close(dict(result.exact), {n: gradient[n] for n in top})


@BOTH
def test_micro_batches_weigh_by_their_tokens(kind, batch):
    whole = task(kind)
    params = moved(whole)
    small = make_task(kind, micro_batch_size=1).loss(batch, Key(0))
    torch.testing.assert_close(small(params), whole.loss(batch, Key(0))(params))
    assert sum(share for share, _ in small.microbatches()) == pytest.approx(1)


def test_examples_have_their_own_means(batch):
    found = task("llama")
    params = moved(found)
    losses = found.loss(batch, Key(0)).examples(params)
    for row in range(len(PAIRS)):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        torch.testing.assert_close(losses[row], reference(found, params, alone)[0])


@BOTH
def test_padding_on_either_side_gives_one_loss(kind, batch):
    found = task(kind)
    params = moved(found)
    lengths = batch["attention_mask"].sum(1)
    left = {
        n: torch.stack([row.roll(len(row) - int(k)) for row, k in zip(v, lengths, strict=True)])
        for n, v in batch.items()
    }
    left["position_ids"] = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
    torch.testing.assert_close(found.loss(left, Key(0))(params), found.loss(batch, Key(0))(params))


@BOTH
def test_evaluation_counts_tokens_and_answers_as_generate_does(kind):
    found = make_task(kind, CausalLM(prompts="q", answers="a", generate=True, new_tokens=5))
    params, data = moved(found), found.encode(dataset())
    metrics = found.evaluate(params, EvaluationBatches(data=data, batch_size=3))
    value, _ = reference(found, params, data.batch(range(len(PAIRS))))
    assert metrics.loss == pytest.approx(float(value))
    assert metrics.examples == metrics.answered == len(PAIRS)
    with torch.no_grad():
        for name, weight in params.items():
            found.module.get_parameter(name).copy_(weight)
    words = tokenizer()
    for sample in metrics.samples:
        ids = words(sample.prompt + "\n", add_special_tokens=False, return_tensors="pt")["input_ids"]
        said = found.module.generate(input_ids=ids, max_new_tokens=5, do_sample=False, eos_token_id=words.eos_token_id,
                                     attention_mask=torch.ones_like(ids), pad_token_id=words.pad_token_id)  # fmt: skip
        assert sample.answer == words.decode(said[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_a_free_answer_ends_where_the_chat_template_ends_the_turn():
    found = make_task("llama", CausalLM(prompts="q", answers="a", new_tokens=5))
    params, data = moved(found), found.encode(ASKING.unlabelled(["Which topic?"], ()))
    batch, call = data.batch([0]), found.calling(moved(found))
    with holding(call.module, params):
        said = call.module.generate(**found.calling({}).inputs(batch), max_new_tokens=5, do_sample=False)
    first, second = said[0, len(batch["input_ids"][0]) :].tolist()[:2]
    assert first != second
    ended = replace(data, end_of_answer=second)
    assert free_answers(call, [batch["input_ids"][0]], ended, 5) == [
        tokenizer().decode([first, second]).strip()
    ]


def test_weights_are_the_models_own_after_an_answer():
    found = make_task("llama", CausalLM(prompts="q", answers="a", generate=True, new_tokens=2))
    before = {name: weight.clone() for name, weight in found.module.named_parameters()}
    found.evaluate(moved(found), EvaluationBatches(data=found.encode(dataset()), batch_size=2))
    assert all(torch.equal(before[name], weight) for name, weight in found.module.named_parameters())


def test_no_batches_give_no_counts():
    assert task("llama").evaluate({}, []) == LanguageMetrics()


@pytest.mark.parametrize("exact", ["last_block", "auto", "head", "nothing"])
def test_what_is_exact(exact):
    units = make_task("llama", exact=exact).units
    last = [unit for unit in units if unit.exact]
    assert all(unit.names for unit in units)
    if exact in {"head", "nothing"}:
        assert not last
    else:
        assert [unit.name for unit in last] == ["last_block"]
        assert all(".layers.2." in name for name in last[0].names)


def test_the_baseline_is_the_frequency_of_tokens(batch):
    one = {name: value[:1] for name, value in batch.items()}
    value = CausalLM().token_baseline([batch, one], [one], len(tokenizer()))
    assert value is not None and 1 < value < len(tokenizer())
    assert CausalLM().token_baseline([batch], [], len(tokenizer())) is None


def test_a_template_of_ones_own_goes_into_the_tokenizer(tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text(TEMPLATE.replace("<|turn|>", "<|turn|>as "))
    what = CausalLM(prompts="q", answers="a", chat_template=str(file))
    words = copy.deepcopy(tokenizer(None))
    data = what.encode(dataset(), words, max_length=None, most=64, pad=0)
    assert words.decode(data.batch([0])["input_ids"][0]).startswith("<|turn|>as user")
    assert what.options_to_keep["chat_template"] is None and words.chat_template


def test_answers_come_for_prompts_alone():
    found = task("llama")
    data = found.encode(ASKING.unlabelled(["Which topic?", "Hi"], ()))
    said = ASKING.answer(found.calling(moved(found)), data.batch(range(2)), data)
    assert ASKING.columns(said, data, (), every=False) == {"answer": list(said)} and len(said) == 2


def test_documents_are_continued():
    what = CausalLM(new_tokens=3)
    found = make_task("gpt2", what)
    data = found.encode(what.unlabelled(["the quick"], ()))
    assert tokenizer().decode(data.batch([0])["input_ids"][0]) == "the quick"
    assert len(what.answer(found.calling({}), data.batch([0]), data)) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"messages": "m", "prompts": "p", "answers": "a"}, "task.messages is set"),
        ({"prompts": "p"}, "task.answers is unset"),
        ({"answers": "a"}, "task.prompts is unset"),
    ],
)
def test_columns_that_do_not_go_together(options, told):
    with pytest.raises(DataError, match=told):
        _ = CausalLM(**options).target


def test_a_template_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        _ = CausalLM(chat_template=str(tmp_path / "none.jinja")).template


def test_blocks_of_documents():
    found = task("gpt2")
    data = found.encode(documents(["the quick brown fox"] * 5), max_length=16)
    batch = data.batch(range(len(data)))
    assert batch["labels"].shape[1] == 16
    value, _ = reference(found, found.init(), batch)
    torch.testing.assert_close(found.loss(batch, Key(0))(found.init()).detach(), value)

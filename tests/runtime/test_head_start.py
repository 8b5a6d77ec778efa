"""The round of sums over a task's clients: one head whoever has what, counted to the byte, without those that break."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spry.core.errors import DataError, ModelError, TrainingError
from spry.core.keys import Key
from spry.data.clients import make
from spry.data.dataset import Dataset
from spry.data.federation import Federation
from spry.federated.closed_head.codec import Question, encode_head, encode_question, encode_sums
from spry.federated.closed_head.sums import HeadSums
from spry.federated.methods import METHODS
from spry.measure.operations import OperationCounter
from spry.runtime.head_start import closed_form_head
from spry.runtime.rounds import simulate
from spry.tasks.classification import ClassificationTask
from tests.conftest import WORDS
from tests.laws import problem
from tests.models.conftest import make as tiny_classifier

COUNT = 48
LABELS = ("negative", "positive", "mixed")


def reviews(pair=False):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, size=COUNT).tolist()
    texts = [
        " ".join([*draw.choice(WORDS, size=draw.integers(1, 9)), ("bad", "good", "fine")[y]]) for y in labels
    ]
    texts = [(text, "the film") if pair else text for text in texts]
    return Dataset(name="reviews", texts=texts, labels=labels, label_names=LABELS)


def dealt(task, parts, *, held_out=0.0, batch_size=4, pair=False):
    data = task.encode(reviews(pair), max_length=16)
    places = {str(c): np.asarray(part, dtype=np.int32) for c, part in enumerate(parts)}
    clients = make(places, data, Key(0), held_out=held_out)
    return Federation(clients=clients, test=(), batch_size=batch_size)


@pytest.fixture(scope="module")
def task(tiny_model):
    return ClassificationTask(str(tiny_model), labels=LABELS, key=Key(3))


def by_class():
    labels = np.asarray(reviews().labels)
    return [np.flatnonzero(labels == c) for c in range(3)]


PARTS = {
    "one client": [range(COUNT)],
    "by one": [[i] for i in range(COUNT)],
    "by class": by_class(),
    "some empty": [[], range(20), [], range(20, COUNT)],
    "backwards": [range(COUNT - 1, 29, -1), range(29, -1, -1)],
}


@pytest.mark.parametrize("how", PARTS)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_any_deal_and_batch_gives_the_head_of_all_examples(task, how, batch_size):
    whole = closed_form_head(task, dealt(task, PARTS["one client"], batch_size=COUNT))
    found = closed_form_head(task, dealt(task, PARTS[how], batch_size=batch_size))
    head, batch = task.linear_head(), task.encode(reviews()).batch(range(COUNT))
    features = head.read(task.init(), batch)
    left, right = (F.linear(features, h.weights[head.weight], h.weights[head.bias]) for h in (whole, found))
    torch.testing.assert_close(left.softmax(1), right.softmax(1), atol=1e-4, rtol=0)
    assert torch.equal(left.argmax(1), right.argmax(1))
    assert found.cost.examples == COUNT and found.cost.clients == sum(len(part) > 0 for part in PARTS[how])
    assert torch.equal(task.logits({**task.init(), **found.weights}, batch).argmax(1), right.argmax(1))


def test_it_beats_the_drawn_head_and_the_same_twice_is_the_same_bits(task):
    data = dealt(task, PARTS["by class"])
    once, twice = (closed_form_head(task, data) for _ in range(2))
    assert all(torch.equal(once.weights[n], twice.weights[n]) for n in once.weights)
    batches = [task.encode(reviews()).batch(range(COUNT))]
    drawn = task.evaluate(task.init(), batches)
    fitted = task.evaluate({**task.init(), **once.weights}, batches)
    assert fitted.loss < drawn.loss and fitted.accuracy > drawn.accuracy


def test_held_out_examples_are_not_summed(task):
    assert closed_form_head(task, dealt(task, PARTS["one client"], held_out=0.25)).cost.examples == 36


def test_the_ledger_is_what_the_codec_writes_and_what_is_computed(task):
    data, head = dealt(task, PARTS["by class"]), task.linear_head()
    found = closed_form_head(task, data, tell=True)
    up, down, operations, key = 0, 0, 0, Key(0).fold("head features")
    for client in range(3):
        sums = HeadSums.empty(3, head.features)
        with OperationCounter() as counter:
            for batch in data.training_once(client):
                features = head.read(task.init(), batch)
                sums = sums.add(HeadSums.of(features, batch["labels"], 3))
        operations += counter.total
        up += len(encode_sums(client, sums))
        down += len(encode_question(Question(client=client, key=key, features=head.features)))
    assert (found.cost.bytes_up, found.cost.operations) == (up, operations)
    assert found.cost.bytes_down == down + 3 * len(encode_head(found.weights))
    assert closed_form_head(task, data).cost.bytes_down == down
    assert found.cost.seconds > 0 and found.cost.cpu_seconds > 0


def test_random_features_bound_the_bytes(task):
    few = closed_form_head(task, dealt(task, PARTS["by class"]), features=4)
    all_of_them = closed_form_head(task, dealt(task, PARTS["by class"]))
    assert few.cost.features == 4 and few.cost.bytes_up < all_of_them.cost.bytes_up
    head = task.linear_head()
    assert few.weights[head.weight].shape == (3, head.features)
    assert torch.linalg.matrix_rank(few.weights[head.weight]) <= 4


def test_some_clients_only(task):
    parts = np.array_split(np.arange(COUNT), 8)
    some = closed_form_head(task, dealt(task, parts), number=5)
    assert (some.cost.clients, some.cost.examples) == (5, 30)
    assert closed_form_head(task, dealt(task, parts), number=50).cost.clients == 8


def test_more_clients_are_asked_where_a_class_lacks(task):
    """With one class a client, a single one is not enough, whoever is the first."""
    found = closed_form_head(task, dealt(task, PARTS["by class"]), number=1)
    assert found.cost.clients == 3


def broken(task, at):
    """A task whose features are NaN for texts that begin with some token."""

    class Broken(ClassificationTask):
        def linear_head(self):
            head = ClassificationTask.linear_head(self)

            def read(params, batch):
                features = head.read(params, batch)
                features[at(batch)] = float("nan")
                return features

            return replace(head, read=read)

    found = Broken.__new__(Broken)
    found.__dict__ = task.__dict__
    return found


def test_a_client_whose_features_are_not_finite_is_left_out_and_named(task):
    data = dealt(task, np.array_split(np.arange(COUNT), 4))
    poisoned = data.clients[2].data.batch(data.clients[2].train)["input_ids"][0]
    width = len(poisoned)

    def at(batch):
        ids = F.pad(batch["input_ids"], (0, max(0, width - batch["input_ids"].shape[1])))[:, :width]
        return (ids == poisoned).all(1)

    found = closed_form_head(broken(task, at), data)
    assert list(found.cost.left_out) == [2] and "NaN" in found.cost.left_out[2]
    assert found.cost.clients == 3 and found.cost.examples == 36
    rest = closed_form_head(
        task, dealt(task, [p for c, p in enumerate(np.array_split(np.arange(COUNT), 4)) if c != 2])
    )
    assert all(torch.equal(found.weights[n], rest.weights[n]) for n in rest.weights)
    with pytest.raises(TrainingError, match="no client's sums for the head can be used"):
        closed_form_head(broken(task, lambda batch: slice(None)), data)


def test_one_class_only_is_refused(task):
    with pytest.raises(DataError, match="none of number 1, 2"):
        closed_form_head(task, dealt(task, [by_class()[0]]))


def test_a_task_that_does_not_say_what_its_head_reads_is_refused():
    class Toy:
        def init(self):
            return problem.weights()

    with pytest.raises(ModelError, match="Toy does not say what its head reads"):
        closed_form_head(Toy(), Federation(clients=(), test=(), batch_size=1))


def test_pairs_half_precision_and_a_model_without_a_bias(tiny_model, tmp_path, tiny_tokenizer):
    model = tiny_classifier("llama")
    model.model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    for name, dtype, pair in ((tiny_model, torch.bfloat16, True), (tmp_path, torch.float32, False)):
        task = ClassificationTask(str(name), labels=LABELS, dtype=dtype)
        found = closed_form_head(task, dealt(task, PARTS["by class"], pair=pair))
        batches = [task.encode(reviews(pair)).batch(range(COUNT))]
        drawn, fitted = (task.evaluate({**task.init(), **w}, batches) for w in ({}, found.weights))
        assert fitted.loss < drawn.loss and fitted.accuracy > drawn.accuracy, name


def test_simulate_goes_on_from_it(task):
    data = dealt(task, np.array_split(np.arange(COUNT), 4))
    algorithm, head = METHODS["head_only"](task.units), closed_form_head(task, data)
    state = algorithm.init({**task.init(), **head.weights})
    (round,) = simulate(algorithm, task, data, rounds=1, clients_per_round=2, state=state)
    (drawn,) = simulate(algorithm, task, data, rounds=1, clients_per_round=2)
    assert round.loss < drawn.loss


@pytest.mark.slow
def test_on_tweets_it_is_the_linear_probe():
    """Beside torch's own logistic regression on the pooled features: at least its accuracy, within half a point."""
    from benchmarks.head import logistic

    from spry.data.client_data import LabelledText
    from spry.data.datasets import load_splits

    splits = load_splits("tweets", test_fraction=0.2).shortened(1000)
    splits = replace(splits, train=splits.train.select(range(0, len(splits.train), 12)))
    data = LabelledText(splits=splits).partition(clients=50, held_out=0.0, batch_size=32)
    task = ClassificationTask("minilm", labels=data.labels)
    clients = data.encode(task)
    fitted = task.evaluate({**task.init(), **closed_form_head(task, clients).weights}, clients.test)
    head, pooled = task.linear_head(), clients.clients[0].data
    train, test = (
        [(head.read(task.init(), b), b["labels"]) for b in batches]
        for batches in ([pooled.batch(p) for p in np.array_split(np.arange(len(pooled)), 40)], clients.test)
    )
    features, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
    weight, bias = logistic(features.double(), labels, head.classes)
    right = [(F.linear(x.double(), weight, bias).argmax(1) == y).sum() for x, y in test]
    assert fitted.accuracy >= float(sum(right)) / 1000 - 0.005

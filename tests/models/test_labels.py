"""The classes of a trained head keep their numbers, whoever reads the data."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from spry.core.keys import Key
from spry.data.dataset import Dataset
from spry.models.labels import checkpoint_labels, order_labels
from spry.models.load import load_model
from spry.tasks.classification import ClassificationTask

SORTED = ("bad", "good", "mixed")
TRAINED = ("GOOD", "bad ", "Mixed")


def config(*names):
    return SimpleNamespace(id2label=dict(enumerate(names)))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("positive", "negative"), ("positive", "negative")),
        (("LABEL_0", "LABEL_1"), None),
        (("LABEL_1", "LABEL_0"), ("LABEL_1", "LABEL_0")),
        (("a", "A"), None),
        ((), None),
    ],
)
def test_a_config_says_its_classes_unless_they_are_generic_or_ambiguous(names, found):
    assert checkpoint_labels(config(*names)) == found
    assert checkpoint_labels(SimpleNamespace()) is None


def test_numbers_need_not_be_written_in_their_order():
    assert checkpoint_labels(SimpleNamespace(id2label={1: "no", 0: "yes"})) == ("yes", "no")


@pytest.mark.parametrize(
    ("labels", "trained", "numbered"),
    [
        (SORTED, None, SORTED),
        (SORTED, TRAINED, ("good", "bad", "mixed")),
        (SORTED, ("good", "bad", "other"), SORTED),
        (("a", "A"), ("A", "a "), ("a", "A")),
        (3, TRAINED, TRAINED),
        (2, TRAINED, ("0", "1")),
        (2, None, ("0", "1")),
    ],
)
def test_the_same_classes_are_numbered_as_the_checkpoint_does(labels, trained, numbered):
    assert order_labels(labels, trained) == numbered


@pytest.fixture
def trained(tiny_model, tiny_tokenizer, tmp_path):
    """Saves a classifier whose head says the class of a text by its last word's vector, under given names."""

    def save(*names, head=True):
        found = load_model(str(tiny_model), labels=len(names), key=Key(8)).model
        found.config.id2label, found.config.label2id = (
            dict(enumerate(names)),
            {n: i for i, n in enumerate(names)},
        )
        (found if head else found.bert).save_pretrained(tmp_path)
        tiny_tokenizer.save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def test_the_task_numbers_data_as_the_head_does_and_so_understands_it_untrained(trained, reviews):
    """What the checkpoint itself says of the texts, by name, are their labels: all are right before any training."""
    folder = trained(*TRAINED)
    base = load_model(folder, labels=TRAINED, key=Key(0))
    encoded = base.tokenizer(list(reviews.texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        said = [TRAINED[i].strip().lower() for i in base.model(**encoded).logits.argmax(1).tolist()]
    assert len(set(said)) > 1
    data = Dataset(
        name="reviews", texts=reviews.texts, labels=[SORTED.index(name) for name in said], label_names=SORTED
    )
    task = ClassificationTask(folder, labels=data.label_names)
    batch = task.encode(data, max_length=16).batch(range(5))
    assert task.evaluate(task.init(), [batch]).accuracy == pytest.approx(1.0)
    assert task.backbone.label_names == ("good", "bad", "mixed")
    assert task.backbone.notes == ()


def test_data_of_other_classes_is_numbered_by_itself(task, reviews):
    assert task.backbone.label_names == reviews.label_names
    other = Dataset(name="other", texts=reviews.texts, labels=reviews.labels, label_names=("x", "y", "z"))
    assert task.encode(other, max_length=16).batch(range(5))["labels"].tolist() == reviews.labels
    turned = reviews.relabelled(reviews.label_names[::-1])
    assert task.encode(turned, max_length=16).batch(range(5))["labels"].tolist() == reviews.labels


@pytest.mark.parametrize(
    ("names", "head", "labels", "note"),
    [
        (TRAINED, True, SORTED, None),
        (("x", "y", "z"), True, SORTED, "classes of other names (x, y, z); yours are numbered in the order bad, good"),
        (("LABEL_0", "LABEL_1", "LABEL_2"), True, SORTED, "that it does not name; yours are numbered in the order bad"),
        (("LABEL_0", "LABEL_1", "LABEL_2"), True, 3, None),
        (("x", "y"), True, SORTED, "another number (x, y); the head for 3 classes starts anew"),
        (("LABEL_0", "LABEL_1"), True, SORTED, "another number of classes; the head for 3 classes starts anew"),
        (("x", "y", "z"), False, SORTED, None),
    ],
)  # fmt: skip
def test_what_became_of_a_trained_head_is_told(trained, names, head, labels, note):
    notes = load_model(trained(*names, head=head), labels=labels, key=Key(0)).notes
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_whoever_loads_the_adapter_sees_the_names_in_the_heads_order(trained, reviews, tmp_path, monkeypatch):
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification

    task = ClassificationTask(trained(*TRAINED), labels=SORTED)
    task.save_adapter(task.init(), tmp_path / "adapter")
    batch = task.encode(reviews, max_length=16).batch(range(5))
    monkeypatch.chdir(tmp_path / "adapter")
    for load in (AutoPeftModelForSequenceClassification, AutoModelForSequenceClassification):
        read = load.from_pretrained(".").eval()
        assert read.config.id2label == {0: "good", 1: "bad", 2: "mixed"}
        assert read.config.label2id == {"good": 0, "bad": 1, "mixed": 2}
        with torch.no_grad():
            theirs = read(**{n: v for n, v in batch.items() if n != "labels"}).logits
        torch.testing.assert_close(task.logits(task.init(), batch), theirs)


def test_a_run_is_numbered_alike(trained, tiny_csv):
    from spry.experiment.build import build
    from spry.experiment.config import Config

    folder = trained("positive", "negative")
    made = build(
        Config.model_validate({"model": {"name": folder}, "data": {"name": str(tiny_csv), "clients": 4}})
    )
    assert made.task.backbone.label_names == ("positive", "negative")
    labels = torch.cat([batch["labels"] for batch in made.clients.test])
    decoded = [
        made.task.backbone.tokenizer.decode(row, skip_special_tokens=True)
        for batch in made.clients.test
        for row in batch["input_ids"]
    ]
    assert [("good" in text or "great" in text) for text in decoded] == [
        label == 0 for label in labels.tolist()
    ]

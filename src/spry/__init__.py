"""Federated fine-tuning of language models at about the memory of inference.

In one call:

>>> import peft, spry
>>> good = [{"text": f"day {n} was lovely", "label": "good"} for n in range(100)]
>>> bad = [{"text": f"day {n} was awful", "label": "bad"} for n in range(100)]
>>> here = getfixture("tmp_path")
>>> model, history, folder = spry.finetune(
...     "minilm", dataset=good + bad, clients=10, rounds=2, folder=here / "run", progress=False
... )
>>> type(model).__name__, len(history), (folder / "adapter").is_dir()
('PeftModelForSequenceClassification', 2, True)

Round by round, from parts that can be exchanged:

>>> data = spry.load_dataset(good + bad).partition(clients=10, alpha=1.0, key=spry.Key(0), steps=1)
>>> adapter = peft.LoraConfig(r=16, lora_alpha=4)
>>> task = spry.ClassificationTask("minilm", labels=data.labels, adapter=adapter)
>>> steps = {"client": spry.optim.adamw(1e-3), "step_factors": {"head": 0}}
>>> algorithm = spry.methods.residual(task.units, guess="full", **steps)
>>> state = algorithm.init({**task.init(), **spry.closed_form_head(task, data, number=20).weights})
>>> asked = {"rounds": 2, "clients_per_round": 2, "evaluate_every": 2, "state": state}
>>> for round in spry.simulate(algorithm, task, data, **asked):
...     print(round.number, round.score is not None)
0 False
1 True
>>> task.save_adapter(round.weights, here / "adapter")

Every name is loaded when it is asked for: ``import spry`` itself imports neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # for type checkers and editors; tests/test_public.py compares it with what is offered
    from spry import optim as optim
    from spry.compare.compare import compare_methods as compare_methods
    from spry.core.errors import SpryError as SpryError
    from spry.core.keys import Key as Key
    from spry.core.params import Params as Params
    from spry.core.units import Unit as Unit
    from spry.data.client_data import load_dataset as load_dataset
    from spry.estimators.backprop import backprop as backprop
    from spry.estimators.estimate import Estimate as Estimate
    from spry.estimators.exact import exact_head as exact_head
    from spry.estimators.loss import Loss as Loss
    from spry.estimators.projected import forward_gradient as forward_gradient
    from spry.estimators.projected import zeroth_order as zeroth_order
    from spry.experiment.config import Config as Config
    from spry.experiment.config import load_config as load_config
    from spry.experiment.run import run as run
    from spry.federated import split as splits
    from spry.federated.algorithm import Algorithm as Algorithm
    from spry.federated.algorithm import compose as compose
    from spry.federated.methods import METHODS as methods
    from spry.finetuning import finetune as finetune
    from spry.forward.dual import Dual as Dual
    from spry.forward.functional import call as call
    from spry.forward.functional import jvp as jvp
    from spry.forward.registry import rule as rule
    from spry.profile.check import check_model as check_model
    from spry.report.page import write_report as write_report
    from spry.runtime.head_start import closed_form_head as closed_form_head
    from spry.runtime.records import Round as Round
    from spry.runtime.rounds import simulate as simulate
    from spry.tasks.classification import ClassificationTask as ClassificationTask
    from spry.tasks.task import Score as Score
    from spry.tasks.task import Task as Task

_NAMES = {
    # the engine
    "Dual": "spry.forward.dual",
    "call": "spry.forward.functional",
    "check_model": "spry.profile.check",
    "jvp": "spry.forward.functional",
    "rule": "spry.forward.registry",
    # values
    "Key": "spry.core.keys",
    "Params": "spry.core.params",
    "SpryError": "spry.core.errors",
    "Unit": "spry.core.units",
    # gradients
    "Estimate": "spry.estimators.estimate",
    "Loss": "spry.estimators.loss",
    "backprop": "spry.estimators.backprop",
    "exact_head": "spry.estimators.exact",
    "forward_gradient": "spry.estimators.projected",
    "zeroth_order": "spry.estimators.projected",
    # federation
    "Algorithm": "spry.federated.algorithm",
    "Round": "spry.runtime.records",
    "closed_form_head": "spry.runtime.head_start",
    "compose": "spry.federated.algorithm",
    "simulate": "spry.runtime.rounds",
    # tasks and data
    "ClassificationTask": "spry.tasks.classification",
    "Score": "spry.tasks.task",
    "Task": "spry.tasks.task",
    "load_dataset": "spry.data.client_data",
    # runs
    "Config": "spry.experiment.config",
    "compare_methods": "spry.compare.compare",
    "finetune": "spry.finetuning",
    "load_config": "spry.experiment.config",
    "run": "spry.experiment.run",
    "write_report": "spry.report.page",
}

__all__ = ["__version__", "methods", "optim", "splits", *sorted(_NAMES)]


def __getattr__(name: str) -> Any:
    if name == "methods":
        from spry.federated.methods import METHODS

        return METHODS
    if name in {"optim", "splits"}:
        return import_module({"optim": "spry.optim", "splits": "spry.federated.split"}[name])
    if name not in _NAMES:
        raise AttributeError(f"module 'spry' has no attribute {name!r}")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

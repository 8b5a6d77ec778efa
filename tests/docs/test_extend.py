"""The examples of docs/extend run, stay short, and do what their pages say; README keeps its length."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from tests.laws import problem
from tests.laws.test_methods import make
from tests.runtime.stage import Clients, Task

from spry.core.keys import Key
from spry.experiment.config import load_config
from spry.experiment.run import run as run_config
from spry.federated.methods import METHODS
from spry.inference.loading import load_predictor
from spry.models.adapters import ADAPTERS
from spry.runtime.rounds import simulate
from spry.tasks.kinds import TASKS

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.stem for path in (ROOT / "docs" / "extend").glob("*.md") if path.stem != "README")


def run(page):
    text = (ROOT / "docs" / "extend" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    module = ModuleType(f"extend_{page}")  # dataclasses look their annotations up there
    sys.modules[module.__name__] = module
    for block in blocks:
        exec(compile(block, page, "exec"), vars(module))
    return vars(module), blocks


@pytest.fixture(autouse=True)
def _registries():
    methods, adapters, tasks = dict(METHODS), dict(ADAPTERS), dict(TASKS)
    yield
    for table, before in ((METHODS, methods), (ADAPTERS, adapters), (TASKS, tasks)):
        for name in [name for name in table if name not in before]:
            del table[name]


def rounds(algorithm, task=None, clients=None, **given):
    given = {"rounds": 4, "clients_per_round": 2, "key": Key(0), **given}
    return list(simulate(algorithm, task or Task(), clients or Clients(), **given))


@pytest.mark.parametrize("page", PAGES)
def test_every_example_is_short(page):
    *_, blocks = run(page)
    assert blocks and all(len(block.splitlines()) < 20 for block in blocks)


def test_the_method_trains_and_its_option_matters():
    run("method")
    first, second = (rounds(METHODS.damped(problem.UNITS, damping=d))[-1].weights for d in (0.1, 1.0))
    assert any(not torch.equal(first[n], second[n]) for n in first)


def test_the_task_is_trained_judged_by_its_own_score_and_saved(tmp_path):
    scope, _ = run("task")
    task, truth = scope["Regression"](), torch.tensor([1.0, -2.0, 0.5]).double()

    class Points(Clients):
        def batches(self, client, round, key):
            x = key.fold(client, round).normal("x", (16, 3)).double()
            return [(x, x @ truth)]

        def held_out(self, client):
            return self.batches(1000 + client, 0, Key(2))

    clients = Points()
    clients.test = tuple(clients.batches(99, 0, Key(1)))
    found = rounds(METHODS.fedsgd(task.units), task, clients, rounds=60)
    assert found[-1].score < 0.2 * found[0].score
    assert task.score.better(found[-1].score, found[0].score)
    task.save_adapter(found[-1].weights, tmp_path / "adapter")
    torch.testing.assert_close(
        load_file(tmp_path / "adapter" / "adapter.safetensors")["w"], truth, atol=0.2, rtol=0
    )


def test_the_kind_of_task_goes_from_settings_to_a_folder_that_answers(tiny_model, tmp_path):
    scope, _ = run("task")
    lines = [f"{'good' if number % 2 else 'bad'} film {number},{number % 7}" for number in range(40)]
    (tmp_path / "stars.csv").write_text("\n".join(["text,label", *lines]))
    settings = {
        "task.name": "robust", "task.delta": 0.5, "model.name": str(tiny_model), "data.clients": 4,
        "data.name": str(tmp_path / "stars.csv"), "schedule.rounds": 1, "client.steps": 1,
    }  # fmt: skip
    *_, last = run_config(load_config("plain", settings), tmp_path / "run")
    assert last.score_name == "mae" and last.score > 0
    found = load_predictor(tmp_path / "run" / "adapter")
    assert found.kind == scope["Robust"](delta=0.5)
    assert len(found.predict(["a good film"])["score"]) == 1


def test_the_adapter_is_registered():
    run("adapter")
    assert ADAPTERS["dora"](rank=4).rank == 4


def test_the_rule_has_the_derivative_of_autograd():
    from spry.forward import jvp
    from spry.forward.registry import RULES

    before = dict(RULES)
    try:
        run("rule")
        w, v = {"w": torch.linspace(-2, 2, 5).double()}, {"w": torch.ones(5).double()}
        _, slopes = jvp(lambda p: torch.special.expit(p["w"]).sum(), w, [v])
        leaf = w["w"].clone().requires_grad_()
        torch.special.expit(leaf).sum().backward()
        assert slopes.tolist() == pytest.approx([float(leaf.grad.sum())])
    finally:
        RULES.clear()
        RULES.update(before)


@pytest.mark.parametrize("name", ["fedavg", "spry_per_iteration"])
def test_the_transform_rounds_what_is_sent(name):
    scope, _ = run("transform")
    plain, halved = (rounds(make(name, transforms=t))[-1].weights for t in ([], [scope["Half"]()]))
    for n, w in plain.items():
        torch.testing.assert_close(w, halved[n], rtol=1e-2, atol=1e-2)
    assert any(not torch.equal(w, halved[n]) for n, w in plain.items())


def test_the_executor_gives_the_same_weights_and_asks_once_more():
    scope, _ = run("executor")
    plain, patient = (rounds(make("fedavg"), executor=e)[-1].weights for e in (None, scope["Patient"](0.0)))
    assert all(torch.equal(w, patient[n]) for n, w in plain.items())
    tries = Counter()

    def reach(order):
        tries[order] += 1
        if order == "never" or tries[order] == 1:
            raise ConnectionError("no route")
        return order

    late, never = scope["Patient"](0.0).run(["late", "never"], reach)
    assert late == "late" and never.reason == "out of reach: no route"
    assert tries == {"late": 2, "never": 2}


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert len(text.split()) <= 1000


def test_the_readmes_python_is_the_doctest():
    import spry

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = "".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    calls = set(re.findall(r"spry\.[\w.]+|task\.\w+|round\.(?:number|score|weights)", block))
    assert calls <= set(re.findall(r"spry\.[\w.]+|task\.\w+|round\.\w+", spry.__doc__)), calls


@pytest.mark.parametrize(
    "path",
    sorted(
        str(p.relative_to(ROOT))
        for p in [
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/**/*.md"),
            ROOT / "research/README.md",
            ROOT / "src/spry/contrib/README.md",
        ]
    ),
)
def test_links_between_pages_lead_somewhere(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert ((ROOT / path).parent / target).exists(), target


def test_generated_pages_are_up_to_date():
    import importlib.util

    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for page, text in generate.pages().items():
        assert page.read_text(encoding="utf-8") == text, f"run python docs/generate.py: {page.name}"

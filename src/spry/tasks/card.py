"""The README of an adapter's folder: a model card with the lines that load the adapter and use it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spry.models.base import BASE
from spry.tasks.adapter_info import AdapterInfo
from spry.tasks.kind import TaskKind
from spry.tasks.score import Score
from spry.tasks.score_text import score_name, score_with_unit

HERE = "path/to/this/folder"
"""What stands for the adapter's folder in the lines of a card."""
_SHOWN = 20
"""Classes that are listed by name."""


def write_card(info: AdapterInfo, kind: TaskKind) -> str:
    what = f"Adapter (`{info.kind}`) for {_base_name(info)}, {_trained(info)}."
    return _card(info, kind, "peft", what, _use(info, kind))


def write_merged_card(info: AdapterInfo, kind: TaskKind) -> str:
    """Write a card for a model that an adapter was merged into."""
    lines = [*_whole_model(kind, ""), kind.example(info)]
    what = f"{_base_name(info)}, {_trained(info)}, with the adapter merged in."
    return _card(info, kind, "transformers", what, ["```python", *lines, "```"])


def _pipeline(kind: TaskKind) -> str:
    return f'{kind.verb} = pipeline("{kind.pipeline}", model="{HERE}")'


def _card(info: AdapterInfo, kind: TaskKind, library: str, what: str, use: Sequence[str]) -> str:
    title = f"# {kind.title(info.labels)}"
    head = ["---", *_front_matter(info, library=library), "---"]
    return "\n".join([*head, "", title, "", what, "", "## Use", "", *use, "", *_facts(info)])


def _trained(info: AdapterInfo) -> str:
    return f"fine-tuned with Spry {info.spry} on simulated federated clients"


def loading_lines(info: AdapterInfo, kind: TaskKind) -> list[str]:
    """Write the lines of Python that load a folder with nothing but peft and transformers, as a pipeline if it can."""
    base, auto = info.base, kind.model_class.auto
    if base.whole:
        return _whole_model(kind, "  # peft must be installed, too")
    place = {"folder": f'f"{{folder}}/{BASE}"', "hub": json.dumps(base.name)}.get(
        base.place, json.dumps(f"path/to/{base.name}")
    )
    given = {"revision": base.revision, "gguf_file": base.gguf, "dtype": info.dtype}
    arguments = [f"{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    arguments += ["ignore_mismatched_sizes=True"] if base.head_replaced and base.place != "folder" else []
    return [
        "from peft import PeftModel",
        f"from transformers import AutoConfig, {auto}, AutoTokenizer{', pipeline' if kind.piped else ''}",
        "",
        f'folder = "{HERE}"',
        f'config = AutoConfig.from_pretrained(f"{{folder}}/{BASE}")',
        f"base = {auto}.from_pretrained(",
        f"    {', '.join([place, 'config=config', *arguments])}",
        ")",
        "model = PeftModel.from_pretrained(base, folder)",
        f'{kind.verb} = pipeline("{kind.pipeline}", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))'
        if kind.piped
        else "tokenizer = AutoTokenizer.from_pretrained(folder)",
    ]


def _whole_model(kind: TaskKind, note: str) -> list[str]:
    """Load a folder that is one model to transformers, as a pipeline where there is one for the task."""
    if kind.piped:
        return [f"from transformers import pipeline{note}", "", _pipeline(kind)]
    auto = kind.model_class.auto
    return [
        f"from transformers import {auto}, AutoTokenizer{note}",
        "",
        f'model = {auto}.from_pretrained("{HERE}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{HERE}")',
    ]


def _use(info: AdapterInfo, kind: TaskKind) -> list[str]:
    lines = ["```python", *loading_lines(info, kind), kind.example(info), "```"]
    if info.base.place == "folder" and not info.base.gguf:
        lines += [
            "",
            "With peft, from inside this folder, whose base model is named relative to it: "
            f'`AutoPeft{kind.model_class.auto.removeprefix("Auto")}.from_pretrained(".")`.',
        ]
    if not info.base.whole and (info.base.gguf or info.base.place != "folder"):
        lines += [
            "",
            "The base has no head for this task, as transformers may say; the adapter brings its own.",
        ]
    if info.base.place == "elsewhere":
        lines += [
            "",
            f"The weights of the base model are not in this folder: bring `{info.base.name}` along.",
        ]
    return [*lines, "", "With Spry: `spry predict path/to/this/folder --data texts.csv`."]


def _facts(info: AdapterInfo) -> list[str]:
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(info.labels[:_SHOWN]))
    more = len(info.labels) - _SHOWN
    facts = {
        "Outputs, by number": listed + (f", and {more} more (`spry.json`)" if more > 0 else "") or None,
        "Text": None
        if info.text is None
        else "column " + ", then column ".join(f"`{name}`" for name in info.text),
        "Cut after": None if info.max_length is None else f"{info.max_length} tokens",
        "Computed in": info.dtype,
        "Base model": _base_name(info),
        **{name.replace("_", " ").capitalize(): value for name, value in info.training.items()},
    }
    lines = ["## Facts", "", *(f"- {name}: {value}" for name, value in facts.items() if value is not None)]
    if info.scores:
        lines += ["", "## Scores", "", "| part | measure | value |", "|---|---|---|"]
        for key, value in info.scores.items():
            part, score = Score.of_key(key)
            lines.append(f"| {part} | {score_name(score)} | {score_with_unit(value, score)} |")
    return [*lines, ""]


def _front_matter(info: AdapterInfo, *, library: str) -> list[str]:
    base = info.base
    lines = [f"base_model: {json.dumps(base.name)}"] if base.place == "hub" else []
    lines += [f"library_name: {library}", f"pipeline_tag: {info.task}", "tags:"]
    lines += [f"- {tag}" for tag in (info.kind, info.task, "spry", "federated-learning") if tag]
    if info.scores:
        lines += [
            "metrics:",
            *(f"- {score}" for score in dict.fromkeys(Score.of_key(key)[1] for key in info.scores)),
        ]
        lines += _results(info)
    return lines


def _results(info: AdapterInfo) -> list[str]:
    """The scores in the form that the Hub reads; JSON is YAML, too."""
    data = str(info.training.get("data", "unknown"))
    measured: list[Mapping[str, Any]] = [
        {"type": score, "value": value, "name": f"{part} {score}"}
        for (part, score), value in ((Score.of_key(key), value) for key, value in info.scores.items())
    ]
    result = {
        "task": {"type": info.task}, "dataset": {"name": data, "type": data}, "metrics": measured,
    }  # fmt: skip
    return ["model-index:", f"- name: {json.dumps(data)}", f"  results: {json.dumps([result])}"]


def _base_name(info: AdapterInfo) -> str:
    base = info.base
    if base.place == "hub":
        return f"[{base.name}](https://huggingface.co/{base.name})" + (
            f" (revision {base.revision})" if base.revision else ""
        )
    return f"`{base.name}`"

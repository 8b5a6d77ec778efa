"""The README of an adapter's folder: a model card with the lines that load the adapter and classify."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spry.models.base import BASE
from spry.tasks.adapter_info import AdapterInfo

HERE = "path/to/this/folder"
"""What stands for the adapter's folder in the lines of a card."""
_PIPELINE = f'classify = pipeline("text-classification", model="{HERE}")'
_SHOWN = 20
"""Classes that are listed by name."""


def write_card(info: AdapterInfo) -> str:
    what = f"Adapter (`{info.kind}`) for {_base_name(info)}, {_trained(info)}."
    return _card(info, "peft", what, _use(info))


def write_merged_card(info: AdapterInfo) -> str:
    """Write a card for a model that an adapter was merged into."""
    lines = ["from transformers import pipeline", "", _PIPELINE, _call(info)]
    what = f"{_base_name(info)}, {_trained(info)}, with the adapter merged in."
    return _card(info, "transformers", what, ["```python", *lines, "```"])


def _card(info: AdapterInfo, library: str, what: str, use: Sequence[str]) -> str:
    title = f"# Text classification into {len(info.labels)} classes"
    head = ["---", *_front_matter(info, library=library), "---"]
    return "\n".join([*head, "", title, "", what, "", "## Use", "", *use, "", *_facts(info)])


def _trained(info: AdapterInfo) -> str:
    return f"fine-tuned with Spry {info.spry} on simulated federated clients"


def loading_lines(info: AdapterInfo) -> list[str]:
    """Write the lines of Python that make ``classify`` out of a folder, with nothing but peft and transformers."""
    base = info.base
    if base.whole:
        return [
            "from transformers import pipeline  # peft must be installed, too",
            "",
            _PIPELINE,
        ]
    place = {"folder": f'f"{{folder}}/{BASE}"', "hub": json.dumps(base.name)}.get(
        base.place, json.dumps(f"path/to/{base.name}")
    )
    given = {"revision": base.revision, "gguf_file": base.gguf, "dtype": info.dtype}
    arguments = [f"{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    arguments += ["ignore_mismatched_sizes=True"] if base.head_replaced and base.place != "folder" else []
    return [
        "from peft import PeftModel",
        "from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline",
        "",
        f'folder = "{HERE}"',
        f'config = AutoConfig.from_pretrained(f"{{folder}}/{BASE}")',
        "base = AutoModelForSequenceClassification.from_pretrained(",
        f"    {', '.join([place, 'config=config', *arguments])}",
        ")",
        "model = PeftModel.from_pretrained(base, folder)",
        'classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))',
    ]


def _use(info: AdapterInfo) -> list[str]:
    lines = ["```python", *loading_lines(info), _call(info), "```"]
    if info.base.place == "folder" and not info.base.gguf:
        lines += [
            "",
            "With peft, from inside this folder, whose base model is named relative to it: "
            '`AutoPeftModelForSequenceClassification.from_pretrained(".")`.',
        ]
    if not info.base.whole and (info.base.gguf or info.base.place != "folder"):
        lines += [
            "",
            "The base has no head for these classes, as transformers may say; the adapter brings its own.",
        ]
    if info.base.place == "elsewhere":
        lines += [
            "",
            f"The weights of the base model are not in this folder: bring `{info.base.name}` along.",
        ]
    return [*lines, "", "With Spry: `spry predict path/to/this/folder --data texts.csv`."]


def _call(info: AdapterInfo) -> str:
    text = '{"text": "a text", "text_pair": "its second text"}' if info.pair else '"a text"'
    cut = f", truncation=True, max_length={info.max_length}" if info.max_length else ", truncation=True"
    return f"classify({text}{cut})"


def _facts(info: AdapterInfo) -> list[str]:
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(info.labels[:_SHOWN]))
    more = len(info.labels) - _SHOWN
    facts = {
        "Classes, by number": listed + (f", and {more} more (`spry.json`)" if more > 0 else ""),
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
        lines += [
            f"| {' | '.join(_split(name))} | {100 * value:.1f} % |" for name, value in info.scores.items()
        ]
    return [*lines, ""]


def _front_matter(info: AdapterInfo, *, library: str) -> list[str]:
    base = info.base
    lines = [f"base_model: {json.dumps(base.name)}"] if base.place == "hub" else []
    lines += [f"library_name: {library}", "pipeline_tag: text-classification", "tags:"]
    lines += [f"- {tag}" for tag in (info.kind, "text-classification", "spry", "federated-learning") if tag]
    if info.scores:
        lines += [
            "metrics:",
            *(f"- {measure}" for measure in dict.fromkeys(_split(name)[1] for name in info.scores)),
        ]
        lines += _results(info)
    return lines


def _results(info: AdapterInfo) -> list[str]:
    """The scores in the form that the Hub reads; JSON is YAML, too."""
    data = str(info.training.get("data", "unknown"))
    measured: list[Mapping[str, Any]] = [
        {"type": _split(name)[1], "value": value, "name": " ".join(_split(name))}
        for name, value in info.scores.items()
    ]
    result = {
        "task": {"type": "text-classification"}, "dataset": {"name": data, "type": data}, "metrics": measured,
    }  # fmt: skip
    return ["model-index:", f"- name: {json.dumps(data)}", f"  results: {json.dumps([result])}"]


def _split(score: str) -> tuple[str, str]:
    part, _, measure = score.partition("_")
    return part, measure


def _base_name(info: AdapterInfo) -> str:
    base = info.base
    if base.place == "hub":
        return f"[{base.name}](https://huggingface.co/{base.name})" + (
            f" (revision {base.revision})" if base.revision else ""
        )
    return f"`{base.name}`"

"""Lists, versions, and one readable message for every mistake."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import OutOfMemoryError

import spry as package
from spry.cli import failures


def test_version(spry):
    result = spry("--version")
    assert (result.code, result.out) == (0, f"spry {package.__version__}\n")


def test_no_arguments_show_help(spry):
    result = spry()
    for command in ("run", "resume", "compare", "report", "methods", "datasets"):
        assert command in result.out + result.err


def test_methods(spry):
    from spry.federated.methods import METHODS

    assert [row["name"] for row in spry("methods", "--json").document] == list(METHODS)
    assert all(row["about"].endswith(".") for row in spry("methods", "--json").document)
    assert all(name in spry("methods").out for name in METHODS)


def test_datasets(spry):
    rows = spry("datasets", "--json").document
    assert {"name", "about", "package", "installed"} == rows[0].keys()
    result = spry("datasets")
    assert all(row["name"] in result.out for row in rows)
    assert "parquet" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.toml"], "nowhere.toml"),
        (["run", "quickstart", "--set", "client.lrr=1"], "Did you mean 'client.lr'?"),
        (["run", "quickstart", "--set", "seed"], "key=value"),
        (["run", "quickstart", "--set", "schedule.rounds=many"], "schedule.rounds"),
        (["run", "quickstart", "--set", "data.name=nowhere.csv"], "nowhere.csv"),
        (["run", "quickstart", "--set", "method.name=sprry"], "Did you mean 'spry'?"),
        (["run", "quickstart", "--set", "model.device=gpu"], "Allowed here: cpu"),
        (["run", "quickstart", "--frob"], "--frob"),
        (["frob"], "frob"),
    ],
)
def test_bad_input_ends_with_one_message_and_code_2(spry, arguments, message):
    result = spry(*arguments)
    assert result.code == 2, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (AssertionError("Torch not compiled with CUDA enabled"), "model.device"),
        (RuntimeError("PyTorch is not linked with support for mps devices"), "model.device"),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), "resume the run"),
        (MemoryError(), "model.max_length"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 192000000 bytes"),
            "183 MiB",
        ),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"), "2 GiB more"),
        (SafetensorError("Error while deserializing header: incomplete metadata"), "whole"),
        (LocalEntryNotFoundError("cannot find the file in the cache"), "with a network"),
        (OSError(13, "Permission denied", "here"), "here: Permission denied. Choose another place"),
        (OSError(28, "No space left on device"), "Make room"),
        (OSError(30, "Read-only file system", "here"), "can be written"),
    ],
)
def test_failures_of_other_packages_are_a_line_with_a_remedy(error, says):
    told = failures.explain(error)
    assert told is not None and says in told and "\n" not in told


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2"), AssertionError(), KeyError("fedprox"), OSError("no number")]
)
def test_a_defect_is_not_explained_away(error):
    assert failures.explain(error) is None


def test_a_defect_ends_in_a_line_that_names_the_file_with_its_trace(spry, tiny_config, monkeypatch):
    from spry.experiment import run

    def broken(*arguments, **options):
        raise RuntimeError("shapes do not match\nmany lines more")

    monkeypatch.setattr(run, "run", broken)
    result = spry("run", tiny_config)
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("Error: RuntimeError: shapes do not match (test_messages.py, line ")
    assert "in broken)" in line and "a defect of Spry" in line
    (file,) = re.findall(r"\S+spry-trace-\S+\.txt", line)
    trace = Path(file).read_text(encoding="utf-8")
    Path(file).unlink()
    assert trace.startswith("Traceback") and "many lines more" in trace


def test_what_fails_within_the_models_code_is_told_as_such():
    from transformers import BertConfig, BertModel

    model = BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    with pytest.raises(Exception) as caught:
        model(input_ids=torch.tensor([[10**6]]))
    told = failures.report(caught.value)
    assert "the model's code in transformers failed" in told and "spry check MODEL" in told
    Path(re.findall(r"\S+spry-trace-\S+\.txt", told)[0]).unlink()


def test_debug_shows_the_trace_and_keeps_line_and_code(spry):
    result = spry("--debug", "run", "nowhere.toml")
    assert result.code == 2
    assert result.err.startswith("Traceback")
    assert result.err.splitlines()[-1].startswith("Error: there is no configuration")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["frob"], "there is no command 'frob'. Known: "),
        (["metods"], "there is no command 'metods'. Did you mean 'methods'? See spry --help"),
        (["methods", "--frob"], "there is no option --frob. See spry methods --help"),
        (["datasets", "x"], "x is one argument too many. See spry datasets --help"),
        (["memory", "--batch", "many"], "'many' is no whole number. See spry memory --help"),
        (["check"], "Missing argument 'MODEL'. See spry check --help"),
    ],
)
def test_a_mistyped_command_is_one_line_too(spry, arguments, line):
    result = spry(*arguments)
    assert result.code == 2
    (told,) = result.err.splitlines()
    assert told.startswith("Error: ") and line in told


def test_a_terminal_that_knows_few_characters_gets_question_marks(tmp_path):
    few = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "spry", "methods"], env=few, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_out_and_resume_exclude_each_other(spry, tiny_config):
    result = spry("run", tiny_config, "--out", "a", "--resume", "b")
    assert result.code == 2
    assert "exclude each other" in result.err


def test_a_folder_without_a_run_cannot_be_resumed(spry, tmp_path):
    result = spry("resume", tmp_path)
    assert result.code == 1
    assert "is no run folder" in result.err


def test_a_file_in_the_way_is_named(spry, tiny_config, tmp_path):
    (tmp_path / "taken").write_text("")
    result = spry("run", tiny_config, "--out", "taken")
    assert result.code == 1
    assert result.err.startswith("Error: taken: ")

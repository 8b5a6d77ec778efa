"""Lists, versions, and one readable message for every mistake."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError

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
        (["run", "quickstart", "--set", "model.device=gpu"], "Allowed: cpu"),
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
        (SafetensorError("Error while deserializing header: incomplete metadata"), "whole"),
        (LocalEntryNotFoundError("cannot find the file in the cache"), "with a network"),
        (OSError(13, "Permission denied", "here"), "here: Permission denied"),
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

"""What people give by mistake, try by try: each ends in one line with what to do, a status, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Break = Callable[[Path], object]


def edit_config(**changes: object) -> Break:
    def edit(folder: Path) -> None:
        file = folder / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        config |= changes
        file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))

    return edit


def without(pattern: str) -> Break:
    return lambda folder: [file.unlink() for file in folder.glob(pattern)]


def write(name: str, content: bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(content)


def other_shape(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(
            vocab_size=32, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        )
    ).save_pretrained(folder / "other")
    shutil.copy(folder / "other" / "model.safetensors", folder / "model.safetensors")


def pickled(content: bytes) -> Break:
    def turn(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(content)

    return turn


def gguf(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    (folder / "model.gguf").write_bytes(b"GGUF, cut short")


MODELS: dict[str, tuple[Break, str]] = {
    "no tokenizer": (without("token*"), "has no usable tokenizer"),
    "a broken tokenizer": (write("tokenizer.json", b"{not json"), "has no usable tokenizer"),
    "a broken configuration": (write("config.json", b"{not json"), "is not a valid JSON file"),
    "no configuration": (without("config.json"), "but no config.json"),
    "an unknown type": (edit_config(model_type="foobar"), "has model type `foobar`"),
    "no type": (edit_config(model_type=None, architectures=None), "Should have a `model_type` key"),
    "a model of images": (edit_config(model_type="vit"), "of the type 'vit'. Choose another model"),
    "code of its own": (
        edit_config(model_type="mine", auto_map={"AutoConfig": "conf.C", "AutoModel": "conf.M"}),
        "Spry runs no code that comes with a model",
    ),
    "cut weights": (
        lambda folder: write("model.safetensors", (folder / "model.safetensors").read_bytes()[:2000])(folder),
        "whether its files are whole",
    ),
    "empty weights": (write("model.safetensors", b""), "whether its files are whole"),
    "no weights": (without("*.safetensors"), "has a config.json but no weights"),
    "weights of another shape": (other_shape, "Do the weights belong to this config.json?"),
    "a pickle that is none": (pickled(b"garbage"), "whether its files are whole"),
    "a gguf file that is none": (gguf, "whether its files are whole"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_folder_that_is_broken(spry, tiny_config, tiny_model, kind):
    change, says = MODELS[kind]
    shutil.copytree(tiny_model, "model")
    change(Path("model"))
    refused(spry("run", tiny_config, "--set", "model.name=model"), says, 2)


SETTINGS = {
    "model.device=cuda:99": "Allowed here: cpu",
    "model.device=gpu": "Allowed here: cpu",
    "model.device=meta": "Allowed here: cpu",
    "model.dtype=int8": "Known: bfloat16",
    "model.name=https://huggingface.co/bert": "is an address",
    "model.name=": "Give a model folder",
    "model.name=package:nothing_like_it": "is not installed. Run: pip install",
    "model.name=someone/something": "a network or a copy in the local cache",
    "model.max_length=0": "at least 1",
    "data.name=": "is no name of a data set",
    "data.name=https://example.com/a.csv": "download what is there",
    "data.name=nowhere.csv": "no such file",
    "data.name=.": "cannot be read as a data set",
    "data.text=body": "there is no column 'body'",
    "data.text=a,b,c,d": "at most 3 entries",
    "data.clients=100000": "Allowed: 1 to",
    "data.partition=column": "data.column",
    "schedule.clients_per_round=50": "from 1 to 4",
    "schedule.rounds=-1": "at least 0",
    "client.batch_size=10**9": "write an integer",
    "client.lr=inf": "a finite number",
    "client.lr=nan": "a finite number",
    "client.lr=-1": "greater than 0",
    "client.lr.x=1": "there is no setting",
    "client.optimizer=adam_w": "Did you mean 'adamw'?",
    "seed=99999999999999999999999": "less than",
    "peft.alpha=inf": "a finite number",
    "peft.kind=lorra": "Did you mean 'lora'?",
    "peft.targets=nothing_like_it": "fits no linear module",
    "peft.targets=LayerNorm": "fits no linear module",
    "method.k=0": "has no option 'k'",
    "server.ema=1": "less than 1",
    "=3": "there is no setting ''",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_cannot_be(spry, tiny_config, setting):
    refused(spry("run", tiny_config, "--set", setting), SETTINGS[setting], 2)


FILES: dict[str, tuple[bytes, str]] = {
    "Latin-1": ("# café".encode("latin-1"), "Save it as UTF-8"),
    "UTF-16": ("seed = 0".encode("utf-16"), "Save it as UTF-8"),
    "no TOML": (b"[model\n", "is not TOML"),
    "a table that is none": (b"model = 3", "setting model is 3: it must be a table"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_configuration_that_is_none(spry, kind):
    content, says = FILES[kind]
    Path("mine.toml").write_bytes(content)
    refused(spry("run", "mine.toml"), says, 2)


def test_a_mark_at_the_beginning_of_a_configuration_is_passed_over(spry, tiny_config):
    Path("mine.toml").write_bytes(b"\xef\xbb\xbf" + tiny_config.read_bytes())
    assert spry("run", "mine.toml", "--set", "schedule.rounds=0").code == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [("folder", "is a folder. Give a TOML file"), ("quickstrt", "Did you mean 'quickstart'?")],
)
def test_what_is_no_file_is_no_configuration(spry, name, says):
    Path("folder").mkdir()
    refused(spry("run", name), says, 2)


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("taken", "A file is in the way"),
        ("taken/run", "A file is where a folder should be"),
        ("x" * 300, "Choose a shorter name"),
    ],
)
def test_a_place_where_nothing_can_be_written(spry, tiny_config, out, says):
    Path("taken").touch()
    refused(spry("run", tiny_config, "--out", out), says, 1)


def test_a_run_of_another_version_is_named(spry, tiny_config):
    assert spry("run", tiny_config, "--out", "old", "--set", "schedule.rounds=0").code == 0
    with Path("old/config.toml").open("a", encoding="utf-8") as file:
        file.write("[model_of_the_future]\nsize = 3\n")
    refused(spry("resume", "old"), "old/config.toml: there is no setting", 2)


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_model_that_cannot_read_the_texts(spry, tiny_config, tiny_tokenizer, command):
    from transformers import BartConfig, BartModel

    sizes = {
        "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8,
    }  # fmt: skip
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 30, "decoder_start_token_id": 2}
    BartModel(BartConfig(vocab_size=32, max_position_embeddings=32, **sizes, **ends)).save_pretrained("model")
    tiny_tokenizer.save_pretrained("model")  # it ends texts with 3
    arguments = ["run", tiny_config, "--set", "model.name=model"] if command == "run" else ["check", "model"]
    refused(spry(*arguments), "must contain at least one <eos> token", 2)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_model_that_answers_with_what_is_no_number(spry, tiny_config, tiny_model, dtype):
    from transformers import BertModel

    shutil.copytree(tiny_model, "model")
    model = BertModel.from_pretrained("model")
    for weight in model.parameters():
        torch.nn.init.constant_(weight, float("nan"))
    model.save_pretrained("model")
    says = "Are its weights whole?" if dtype == "float32" else "Set model.dtype=bfloat16"
    refused(spry("run", tiny_config, "--set", "model.name=model", "--set", f"model.dtype={dtype}"), says, 2)


def test_a_machine_without_room_for_the_weights(spry, tiny_config, monkeypatch):
    monkeypatch.setattr("spry.room.free_bytes", lambda device: 1000)
    refused(spry("run", tiny_config, "--out", "run"), "1000 B are free", 2)
    assert not Path("run").exists()


def test_steps_too_long_to_learn_by(spry, tiny_config):
    result = spry(
        "run",
        tiny_config,
        "--set",
        "client.optimizer=sgd",
        "--set",
        "client.lr=1e30",
        "--set",
        "head.start=drawn",
    )
    assert result.code == 1
    last = result.err.splitlines()[-1]
    assert last.startswith("Error: round 0: no client's reply could be used") and "Lower the client's" in last


def refused(result, says: str, code: int) -> None:
    """One line, the status, and no run begun."""
    assert result.code == code, result.err
    (line,) = result.err.splitlines()
    assert line.startswith("Error: ") and says in line
    assert len(line) < 900
    assert result.out == ""
    assert not Path("runs").exists()

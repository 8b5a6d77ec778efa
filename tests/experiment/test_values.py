"""What is typed becomes what the setting takes: text stays as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from spry.core.errors import ConfigError
from spry.experiment.config import Config, read_config
from spry.experiment.values import annotation_of, parse_value

ODD = [
    "2024",
    "2024-01-01",
    "true",
    "1e3",
    "null",
    "none",
    "[x]",
    "{a}",
    "0x10",
    "12:30",
    "'",
    '"a" and "b"',
    "",
]
Split = Literal["cyclic", "everything"] | list[float] | None


@pytest.mark.parametrize("text", ODD)
def test_text_is_taken_as_it_is_written(text):
    assert parse_value(text, str) == text


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ('"2024"', str, "2024"),
        ("'a\"b'", str, 'a"b'),
        (" padded ", str, "padded"),
        ("2024", str | None, "2024"),
        ("none", str | None, None),
        ("", int | None, None),
        ('"none"', str | None, "none"),
        ("7", int | None, 7),
        ("7", int, 7),
        ("1e3", int, 1000),
        ("1_000", int, 1000),
        ("-7", int, -7),
        ("0x10", int, 16),
        ("007", int, 7),
        ("5e-2", float, 0.05),
        ("1", float, 1.0),
        ("3", Annotated[int, Field(ge=1)], 3),
        ("true", bool, True),
        ("False", bool, False),
        ("off", bool, False),
        ("iid", Literal["iid", "column"], "iid"),
        ('"iid"', Literal["iid", "column"], "iid"),
        ("none", Literal["none", "previous"] | None, "none"),
        ('["a", "b"]', list[str], ["a", "b"]),
        ("[a, b]", list[str], ["a", "b"]),
        ("[2024]", list[str], ["2024"]),
        ("body", list[str], ["body"]),
        ("premise,hypothesis", list[str], ["premise", "hypothesis"]),
        ("[]", list[str], []),
        ("", list[str], []),
        ('["a, b"]', list[str], ["a, b"]),
        ("[0.5, 1]", list[float], [0.5, 1]),
        ("0.5,1", list[float], [0.5, 1.0]),
        ("cyclic", Split, "cyclic"),
        ("[0.5]", Split, [0.5]),
        ("none", Split, None),
        ("{lr = 1e-3}", dict[str, Any], {"lr": 1e-3}),
        ("{lr = 1e-3}", Mapping[str, Any], {"lr": 1e-3}),
        ("{lr = 1}", type(Config().client), {"lr": 1}),
        ("[1, 2]", Any, [1, 2]),
        ("word", Any, "word"),
    ],
)  # fmt: skip
def test_values_have_the_type_of_their_setting(text, annotation, value):
    got = parse_value(text, annotation)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation", "says"),
    [
        ("many", int, "an integer"),
        ("2.5", int, "an integer"),
        ("inf", int, "an integer"),
        ("fast", float, "a number"),
        ("perhaps", bool, "true or false"),
        ("dirichelt", Literal["iid", "dirichlet"], "Did you mean 'dirichlet'"),
        ("many", int | None, "an integer"),
        ("half", list[float], "a number"),
        ("lr", dict[str, Any], "{key = value}"),
    ],
)
def test_other_text_is_answered_with_what_is_allowed(text, annotation, says):
    with pytest.raises(ValueError, match=says):
        parse_value(text, annotation)


def test_types_are_found_by_key():
    assert annotation_of(Config, "data.label") is str
    assert annotation_of(Config, "data.text") == list[str]
    assert annotation_of(Config, "data") is type(Config().data)
    assert annotation_of(Config, "seed") is int
    for unknown in ("data.lable", "nothing", "tune.grid.client.lr", "seed.more"):
        assert annotation_of(Config, unknown) is Any


@pytest.mark.parametrize("name", ["2024", "2024-01-01", "true"])
def test_a_column_or_model_may_be_called_like_a_number_or_a_date(name):
    config = read_config(
        "paper",
        [f"data.label={name}", f"model.name={name}", f"data.text={name}", f"methods.spry.data.column={name}"],
    )
    assert (config.data.label, config.model.name, config.data.text) == (name, name, [name])
    assert config.for_method("spry", 0).data.column == name


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("label = 2024", 'it must be text. Write label = "2024" under [data], or --set data.label=2024'),
        (
            'text = "body"',
            """it must be a list. Write text = ["body"] under [data], or --set 'data.text=["body"]'""",
        ),
        ("text = [1]", 'Write text = ["1"] under [data]'),
        (
            'clients = "many"',
            "it must be a whole number. For example clients = 8 under [data], or --set data.clients=8",
        ),
        ('alpha = "high"', "it must be a number. For example alpha = 0.01 under [data]"),
        ("clients = 0", "setting data.clients is 0: it must be at least 1."),
        ('partition = "even"', "it must be 'iid', 'dirichlet' or 'column'."),
    ],
)
def test_a_file_shows_how_to_write_it(tmp_path, line, shown):
    (tmp_path / "c.toml").write_text(f"[data]\n{line}\n")
    with pytest.raises(ConfigError) as refused:
        read_config(tmp_path / "c.toml")
    assert shown in str(refused.value)

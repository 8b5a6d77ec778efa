"""What a run is made of: the whole configuration as frozen values, read from TOML and ``key=value`` settings."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field, ValidationError

from spry.core.errors import ConfigError, nearest
from spry.experiment import retired
from spry.experiment.schema import (
    ClientSettings,
    DataSettings,
    MethodSettings,
    ModelSettings,
    PeftSettings,
    ScheduleSettings,
    ServerSettings,
    Settings,
    TuneSettings,
)
from spry.experiment.values import annotation_of, annotation_of_option, parse_value
from spry.federated.methods import METHODS

PRESETS = ("quickstart", "paper")
FREE = (["tune", "grid"], ["tune", "methods"])
"""Tables whose entries appear as they are named, beside ``methods``."""


class Config(Settings):
    """A whole run, and in ``methods`` and ``tune`` what only comparisons read: what is a method's own."""

    seed: int = 0
    model: ModelSettings = ModelSettings()
    peft: PeftSettings = PeftSettings()
    data: DataSettings = DataSettings()
    method: MethodSettings = MethodSettings()
    client: ClientSettings = ClientSettings()
    server: ServerSettings = ServerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    methods: dict[str, dict[str, Any]] = Field(default={})
    tune: TuneSettings = TuneSettings()

    def with_settings(self, settings: Mapping[str, Any]) -> Config:
        """Change settings by their dotted keys, such as ``{"client.lr": 1e-3}``.

        Raises:
            ConfigError: If a key is unknown or a value not allowed.
        """
        tree = self.model_dump()
        name = settings.get("method.name", self.method.name)
        if name != self.method.name:  # options are the method's own
            tree["method"] = {"name": name}
        for key, value in settings.items():
            _place(tree, key, value)
        return _validate(tree)

    def for_method(self, name: str, seed: int) -> Config:
        """Choose a method, or a table in ``methods`` that says ``method.name``, and a seed: one run of a comparison."""
        own = flatten(self.methods.get(name, {}))
        return self.with_settings({"method.name": name, "seed": seed, **own}).alone()

    def alone(self) -> Config:
        """Leave out what only comparisons read; two runs are the same if the rest is equal."""
        return self.model_copy(update={"methods": {}, "tune": TuneSettings()})

    def flat(self) -> dict[str, Any]:
        return flatten(self.model_dump())

    def dump(self) -> str:
        """Write the configuration as TOML, which ``read_config`` reads back; settings that are unset are left out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def read_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file or a preset such as ``quickstart``; overrides are ``key=value`` with dotted keys.

    Raises:
        ConfigError: If the file is missing or not TOML, a key is unknown, or a value is not allowed.
    """
    if str(source) in PRESETS:
        text = (resources.files("spry.experiment") / "presets" / f"{source}.toml").read_text(encoding="utf-8")
    else:
        path = Path(source)
        if not path.is_file():
            raise ConfigError(
                f"there is no configuration {str(source)!r}. Give a TOML file or one of: {', '.join(PRESETS)}"
            )
        text = path.read_text(encoding="utf-8")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error
    return _validate(tree).with_settings(dict(map(_parse, overrides)))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read the configuration of one run: what ``methods`` has for its method counts, too, unless it is overridden.

    Args:
        source: A TOML file, or the name of a preset such as ``quickstart``.
        overrides: Settings ``key=value`` with dotted keys; ``method.name`` chooses a method or a table in ``methods``.

    Returns:
        The configuration of the run by itself.

    Raises:
        ConfigError: If the file is missing or not TOML, a key is unknown, or a value is not allowed.
    """
    asked = dict(map(_parse, overrides))
    name = asked.pop("method.name", None)
    shared = read_config(source).with_settings(asked)
    return shared.for_method(name or shared.method.name, shared.seed).with_settings(asked).alone()


def _parse(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"setting {override!r} has no '='. Write key=value, for example client.lr=1e-3")
    key = key.strip()
    plain = (
        key.split(".", 2)[2] if key.startswith("methods.") and key.count(".") > 1 else key
    )  # a method's own
    table, _, option = plain.partition(".")
    own = table == "method" and option != "name"
    annotation = (
        annotation_of_option((info.options for info in METHODS.values()), option)
        if own
        else annotation_of(Config, plain)
    )
    try:
        return key, parse_value(text, annotation)
    except ValueError as error:
        raise ConfigError(f"setting {key} is {text.strip()!r}: {error}") from error


def _place(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    if path == ["method"]:  # its own options are checked by the method
        tree["method"][last] = value
        return
    _refuse_retired(key)
    node: Any = tree
    free = path[:1] == ["methods"] or path[:2] in FREE  # the keys in them are checked when used
    for part in path:
        node = node.setdefault(part, {}) if free else node.get(part)
        if not isinstance(node, dict):
            raise ConfigError(f"there is no setting {key!r}. {nearest(key, _keys())}")
    if not free and last not in node:
        raise ConfigError(f"there is no setting {key!r}. {nearest(key, _keys())}")
    node[last] = value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Bring nested tables under dotted keys that begin with ``prefix``, such as ``{"client.lr": 1e-3}``."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _unknown_options(tree: Mapping[str, Any]) -> list[str]:
    """All settings but those options that the tree's own method has today."""
    info = METHODS.get(tree.get("method", {}).get("name", "spry"))
    own = {f"method.{option}" for option in info.option_names} if info else set[str]()
    return [key for key in flatten(tree) if key not in own]


def _refuse_retired(key: str) -> None:
    plain = key.split(".", 2)[2] if key.startswith("methods.") and key.count(".") > 1 else key
    if plain in retired.RETIRED_KEYS:
        raise ConfigError(f"there is no setting {key!r} any more: {retired.RETIRED_KEYS[plain]}")


def _keys() -> list[str]:
    return list(Config().flat())


def _validate(tree: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        for key in _unknown_options(tree):
            _refuse_retired(key)
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if key == "method" and first["type"] == "value_error":  # the method's own words
            raise ConfigError(first["msg"].removeprefix("Value error, ")) from error
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"there is no setting {key!r}. {nearest(key, _keys())}") from error
        raise ConfigError(
            f"setting {key} is {first.get('input')!r}: {first['msg'].removeprefix('Value error, ')}{_spelling(first)}"
        ) from error


def _spelling(error: Mapping[str, Any]) -> str:
    """How to write in a file what was written as another type."""
    name, given = error["loc"][-1], error.get("input")
    match error["type"]:
        case "string_type" if isinstance(given, (int, float, date)):
            return f'. Write it in quotes: {name} = "{given}"'
        case "list_type" if isinstance(given, str):
            return f'. Write it in brackets: {name} = ["{given}"]'
        case _:
            return ""

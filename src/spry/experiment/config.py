"""What a run is made of: the whole configuration as frozen values, read from TOML and ``key=value`` settings."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from spry.core.errors import ConfigError, nearest
from spry.experiment import mistakes, recipe
from spry.experiment.cookbook import find_recipe
from spry.experiment.overrides import parse_override
from spry.experiment.privacy_settings import PrivacySettings
from spry.experiment.recipe import BASES, DEFAULT_BASE, PLAIN, PRESETS, Base, flatten
from spry.experiment.retired import refuse_retired
from spry.experiment.runtime_settings import RuntimeSettings
from spry.experiment.schema import (
    ClientSettings,
    DataSettings,
    HeadSettings,
    MethodSettings,
    ModelSettings,
    PeftSettings,
    ScheduleSettings,
    ServerSettings,
    Settings,
    StepFactorSettings,
    TaskSettings,
    TuneSettings,
)
from spry.experiment.toml import read_toml, write_toml
from spry.experiment.values import UNSAID, annotation_of, annotation_of_option, may_be_unset
from spry.federated.methods import METHODS
from spry.tasks.kinds import TASKS

__all__ = ["PRESETS", "Config", "flatten", "load_config", "read_config", "read_record"]

VALIDATION_SHARE = 0.1
"""Held out of the training part where a round is to be chosen and nothing is said."""
FREE = (["tune", "grid"], ["tune", "methods"])
"""Tables whose entries appear as they are named, beside ``methods``."""
TABLES = (
    "task", "model", "peft", "head", "data", "method", "client", "server", "step_factors", "privacy", "schedule",
    "runtime", "tune"
)  # fmt: skip
Overrides = Sequence[str] | Mapping[str, Any]
RECORD, BESIDE_RECORD = "config.toml", "meta.json"
"""What a run folder's configuration is called, and what lies beside it there."""


class Config(Settings):
    """A whole run, and in ``methods`` and ``tune`` what only comparisons read: what is a method's own."""

    base: Base = Field(
        default=PLAIN,
        description="The recipe that fills in what is not said: quickstart, which a file rests on unless it names "
        "another; paper; or plain, under which each setting and each method is what it is by itself.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="The root of every random draw.")
    start: str | None = Field(
        default=None,
        description="An adapter's folder or a run folder, whose weights training begins with; base model, classes and "
        "peft settings must be the same.",
    )
    task: TaskSettings = TaskSettings()
    model: ModelSettings = ModelSettings()
    peft: PeftSettings = PeftSettings()
    head: HeadSettings = HeadSettings()
    data: DataSettings = DataSettings()
    method: MethodSettings = MethodSettings()
    client: ClientSettings = ClientSettings()
    server: ServerSettings = ServerSettings()
    step_factors: StepFactorSettings = StepFactorSettings()
    privacy: PrivacySettings = PrivacySettings()
    schedule: ScheduleSettings = ScheduleSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    methods: dict[str, dict[str, Any]] = Field(
        default={},
        description="What is one method's own, such as client.lr under [methods.fedavg]. A table of another name says "
        "with method.name which method it is of.",
    )
    tune: TuneSettings = TuneSettings()

    @model_validator(mode="after")
    def _with_validation(self) -> Self:
        """Say in the configuration, too, what is held out to choose a round by."""
        if self.schedule.chooses and not self.data.validation:
            held = self.data.model_copy(update={"validation": VALIDATION_SHARE})
            vars(self)["data"] = held  # it is frozen, but still being made
        return self

    def with_settings(self, settings: Mapping[str, Any]) -> Config:
        """Change settings by their dotted keys, such as ``{"client.lr": 1e-3}``.

        What is said for all methods takes the place of what ``methods`` had for single ones.

        Raises:
            ConfigError: If a key is unknown or a value not allowed.
        """
        settings = _spread(settings)
        tree = self.model_dump()
        name = settings.get("method.name", self.method.name)
        if name != self.method.name:  # options are the method's own
            tree["method"] = {"name": name}
        if settings.get("task.name", self.task.name) != self.task.name:
            tree["task"] = {"name": settings["task.name"]}
        tree["methods"] = recipe.yielding(tree["methods"], settings, name)
        for key, value in settings.items():
            _place(tree, key, value)
        return _validate(tree)

    def for_method(self, name: str, seed: int) -> Config:
        """Choose a method, or a table in ``methods`` that says ``method.name``, and a seed: one run of a comparison."""
        own = flatten(self.methods.get(name, {}))
        return self.with_settings({"method.name": name, "seed": seed, **own}).alone()

    def alone(self) -> Config:
        """Leave out what only comparisons read."""
        return self.model_copy(update={"methods": {}, "tune": TuneSettings()})

    @property
    def plans_rounds(self) -> bool:
        """Whether steps depend on how many rounds there will be, so that a run cannot be made longer."""
        return self.method.info.plans_rounds or self.schedule.decay != "none" or self.plans_noise

    @property
    def plans_noise(self) -> bool:
        """Whether the noise of every round follows from how many there will be."""
        return self.privacy.mechanism != "none" and self.privacy.noise is None

    def is_same_run(self, other: Config) -> bool:
        """Tell whether both give the same weights; which recipe the settings came from does not matter."""
        return self.alone().flat() == other.alone().flat()

    def flat(self) -> dict[str, Any]:
        """List the settings by dotted key, without ``base``, which only says where they came from."""
        return flatten(self.model_dump(exclude={"base"}))

    def dump(self) -> str:
        """Write the whole configuration as TOML, in which what is unset is ``"none"``.

        What only comparisons read is left out where there is nothing of it.
        """
        nothing = {name for name in ("methods", "tune") if getattr(self, name) == getattr(Config(), name)}
        return write_toml(self.model_dump(exclude=nothing))


def read_config(source: str | Path, overrides: Overrides = ()) -> Config:
    """Read a TOML file, a preset such as ``quickstart``, or a recipe such as ``recipes/ag-news``.

    Overrides are ``key=value``, or values by dotted key. What neither says is what the file's ``base`` says, which is
    ``quickstart`` if the file names none.

    Raises:
        ConfigError: If the file is missing or not TOML, a key is unknown, or a value is not allowed.
    """
    return _read(source, overrides)[0]


def load_config(source: str | Path, overrides: Overrides = ()) -> Config:
    """Read the configuration of one run: what ``methods`` has for its method counts, too, unless it is overridden.

    Args:
        source: A TOML file, or the name of a preset or recipe, such as ``quickstart`` or ``recipes/ag-news``.
        overrides: Settings ``key=value`` with dotted keys, or values by dotted key, such as ``{"client.lr": 1e-3}``;
            ``method.name`` chooses a method or a table in ``methods``.

    Returns:
        The configuration of the run by itself.

    Raises:
        ConfigError: If the file is missing or not TOML, a key is unknown, or a value is not allowed.
    """
    shared, name = _read(source, overrides)
    return shared.for_method(name, shared.seed)


def read_record(path: Path, overrides: Overrides = ()) -> Config:
    """Read what ``Config.dump`` wrote, which says everything: its ``base`` is the recipe's name and adds nothing.

    What an earlier version wrote lacks what was unset, and ``base``.
    """
    return _from_record(read_toml(path), str(path)).with_settings(_asked(overrides))


def parse_record(text: str) -> Config:
    """Read the text of what ``Config.dump`` wrote."""
    return _from_record(tomllib.loads(text), "the federation's configuration")


def _from_record(tree: dict[str, Any], where: str) -> Config:
    said = recipe.as_layer(tree)
    base = said.pop("base", PLAIN)
    try:
        return Config(base=base if base in BASES else PLAIN).with_settings(said)
    except ConfigError as error:
        told = str(error).rstrip(".")
        raise ConfigError(
            f"{where}: {told}. Was the run made by another version of Spry? Read it with that"
        ) from error


def _asked(overrides: Overrides) -> dict[str, Any]:
    if isinstance(overrides, Mapping):
        return dict(overrides)
    return dict(parse_override(override, Config) for override in overrides)


def _read(source: str | Path, overrides: Overrides) -> tuple[Config, str]:
    """Lay the file and the overrides over the recipe; also the method or table in ``methods`` that was chosen."""
    if is_record(Path(source)):
        config = read_record(Path(source), overrides)
        return config, config.method.name
    asked = _asked(overrides)
    said = recipe.as_layer(_file(source))
    base = _base(asked.pop("base", said.pop("base", DEFAULT_BASE)))
    user = {**said, **asked}
    below = dict(recipe.preset(base))
    below = recipe.fitting(below | recipe.inherited(below, user), user)
    config = Config(base=base)
    name, known = config.method.name, {**below, **user}
    for layer in (below, said, asked):
        if "method.name" in layer:
            name = layer["method.name"]
            layer = {**layer, "method.name": recipe.algorithm_of(name, known)}
        config = config.with_settings(layer)
    recipe.check_methods(config.methods)
    return config, name


def _file(source: str | Path) -> dict[str, Any]:
    if str(source) in BASES:
        return {"base": str(source)}
    found = find_recipe(source)
    return read_toml(Path(source)) if found is None else found.read()


def is_record(path: Path) -> bool:
    """Tell whether a file is the one that a run folder has."""
    return path.name == RECORD and (path.parent / BESIDE_RECORD).is_file()


def _base(given: Any) -> Base:
    for base in BASES:
        if given == base:
            return base
    raise ConfigError(f"base is {given!r}: there is no such recipe. {nearest(str(given), BASES)}")


def _spread(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Bring tables that are given as a value under dotted keys, but for what is free or one value."""
    spread: dict[str, Any] = {}
    for key, value in settings.items():
        tabled = isinstance(value, dict) and value and key in TABLES
        spread |= flatten(value, f"{key}.") if tabled else {key: value}
    return spread


def _place(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    if path in (["method"], ["task"]):  # their own options are checked by the method and the task
        optional = path == ["task"] and may_be_unset(annotation_of_option(TASKS.values(), last))
        tree[path[0]][last] = None if value == UNSAID and optional else value
        return
    if key == "base":
        raise ConfigError("base is chosen where a configuration is read: write it at the top of the file")
    refuse_retired(key)
    node: Any = tree
    free = path[:1] == ["methods"] or path[:2] in FREE  # the keys in them are checked when used
    for part in path:
        node = node.setdefault(part, {}) if free else node.get(part)
        if not isinstance(node, dict):
            raise mistakes.unknown_setting(key, _keys())
    if not free and last not in node:
        raise mistakes.unknown_setting(key, _keys())
    if value == {} and key in {*TABLES, "methods"}:
        return  # a table of a file without a line
    node[last] = None if value == UNSAID and not free and may_be_unset(annotation_of(Config, key)) else value


def _unknown_options(tree: Mapping[str, Any]) -> list[str]:
    """All settings but those options that the tree's own method has today, and those of its task."""
    info = METHODS.get(tree.get("method", {}).get("name", "spry"))
    own = {f"method.{option}" for option in info.option_names} if info else set[str]()
    return [key for key in flatten(tree) if key not in own and not key.startswith("task.")]


def _keys() -> list[str]:
    return ["base", *Config().flat()]


def _validate(tree: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        for key in _unknown_options(tree):
            refuse_retired(key)
        raise ConfigError(mistakes.describe_mistake(error)) from error

"""All settings: what each means, what it takes, and what it is where nothing is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from pydantic.fields import FieldInfo

from spry.experiment.config import TABLES, Config, load_config, read_config
from spry.experiment.mistakes import unknown_setting
from spry.experiment.recipe import DEFAULT_BASE, Base, describes_data
from spry.experiment.retired import for_all, refuse_retired
from spry.experiment.values import UNSAID, may_be_unset
from spry.federated.methods import METHODS, MethodInfo
from spry.tasks.kind import TaskKind
from spry.tasks.kinds import TASKS

BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "at least", "max_length": "at most"}
"""Attributes of constraints, and how they are written."""
TYPES: Mapping[Any, str] = {
    str: "text", int: "integer", float: "number", bool: "true or false", list[str]: "list of text", str | None: "text",
    int | None: "integer", float | None: "number", tuple[float, ...]: "list of numbers", dict: "table",
}  # fmt: skip
TOP, METHOD, TASK = "", "method", "task"
ABOUT = {
    TOP: "What stands above all tables.",
    METHOD: "Which algorithm, and its own options.",
    TASK: "What is learnt, and the task's own options.",
}
"""Groups that have no table of their own to say what they are about."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting.

    Args:
        allowed: What values it takes, in words.
        default: What it is where nothing is said, a method's own table left aside.
        plain: The same where nothing is said and the base is ``plain``.
        methods: Which methods, or tasks, have it; none named if all have.
    """

    key: str
    meaning: str
    allowed: str
    default: Any
    plain: Any
    methods: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


def list_settings(methods: Iterable[MethodInfo] | None = None) -> list[Setting]:
    """List all settings by their groups; of options, those of the methods given, or of all."""
    top = [name for name in Config.model_fields if name not in TABLES]
    found = [_setting(name, Config.model_fields[name]) for name in top]
    for table in TABLES:
        kind: Any = Config.model_fields[table].annotation
        found += [_setting(f"{table}.{name}", field) for name, field in kind.model_fields.items()]
        if table == METHOD:
            found += _options(METHODS.values() if methods is None else methods)
        if table == TASK:
            found += _merged(option for kind in TASKS.values() for option in task_options(kind))
    return found


def about(group: str) -> str:
    """What a group of settings is about."""
    kind: Any = Config.model_fields[group].annotation if group in TABLES else None
    return ABOUT[group] if group in ABOUT else kind.__doc__.split("\n")[0]


def find_settings(key: str) -> list[Setting]:
    """Find a setting, the settings of a table, or those of all tables that have this name.

    Raises:
        ConfigError: If there is none; it names the nearest, or says what became of it.
    """
    wanted = for_all(key.strip("[]"))
    known = list_settings()
    for matches in (
        [one for one in known if one.key == wanted],
        [one for one in known if one.group == wanted != TOP],
        [one for one in known if one.name == wanted],
    ):
        if matches:
            return matches
    refuse_retired(wanted)  # after what plugins still have under an old name
    names = [*dict.fromkeys(one.key for one in known), *TABLES]
    raise unknown_setting(key, names)


def recipe_values(setting: Setting, base: Base) -> dict[str, Any]:
    """What a recipe has for a setting, by method: for the one that runs if none is named, and for its own tables."""
    return {
        name: run[setting.key]
        for name, run in _runs(base).items()
        if setting.key in run and (not setting.methods or run[f"{setting.group}.name"] in setting.methods)
    }


@cache
def _runs(base: Base) -> Mapping[str, Mapping[str, Any]]:
    config = read_config(base)
    return {
        name: config.for_method(name, 0).flat()
        for name in dict.fromkeys([config.method.name, *config.methods])
    }


def allowed_values(field: FieldInfo, annotation: Any) -> str:
    """Say what values a setting takes."""
    words, others = [], []  # the words that a Literal lists, and what a union allows beside them
    for part in get_args(annotation):
        words += [word for word in (part, *get_args(part)) if isinstance(word, str)]
        others += [TYPES[part]] if part in TYPES and part is not str else []
    if words:
        others += [f"`{UNSAID}`"] if may_be_unset(annotation) else []
        return " or ".join([*(f"`{word}`" for word in words), *others])
    bounds = [
        f"{sign} {getattr(one, at)}"
        for one in field.metadata
        for at, sign in BOUNDS.items()
        if hasattr(one, at)
    ]
    unset = [f"or `{UNSAID}`"] if may_be_unset(annotation) else []
    return ", ".join([TYPES.get(annotation, "table"), *bounds, *unset])


def options_of(info: MethodInfo) -> list[Setting]:
    """List a method's own options."""
    return _fields_of(info.options, METHOD, info.name)


def task_options(kind: type[TaskKind]) -> list[Setting]:
    """List a task's own options."""
    return _fields_of(kind, TASK, kind.name)


def _fields_of(options: Any, table: str, owner: str) -> list[Setting]:
    full, plain = (get_type_hints(options, include_extras=extras) for extras in (True, False))
    made = []
    for one in dataclasses.fields(options):
        field = next(part for part in get_args(full[one.name]) if isinstance(part, FieldInfo))
        made.append(
            Setting(
                key=f"{table}.{one.name}",
                meaning=field.description or "",
                allowed=allowed_values(field, plain[one.name]),
                default=one.default,
                plain=one.default,
                methods=(owner,),
            )
        )
    return made


def _options(methods: Iterable[MethodInfo]) -> list[Setting]:
    return _merged(option for info in methods for option in options_of(info))


def _merged(options: Iterable[Setting]) -> list[Setting]:
    """Bring options that several owners have alike into one."""
    found: dict[Setting, list[str]] = {}
    for option in options:
        found.setdefault(dataclasses.replace(option, methods=()), []).extend(option.methods)
    merged = [dataclasses.replace(option, methods=tuple(names)) for option, names in found.items()]
    return sorted(merged, key=lambda option: option.key)


@cache
def _default_run() -> Mapping[str, Any]:
    return {"base": DEFAULT_BASE, **load_config(DEFAULT_BASE).flat()}


def _setting(key: str, field: FieldInfo) -> Setting:
    return Setting(
        key=key,
        meaning=field.description or "",
        allowed=allowed_values(field, field.annotation),
        default=field.default if describes_data(key) else _default_run().get(key, field.default),
        plain=field.default,
    )

"""Where a named file lies: a name may begin with ``~`` or with a variable of the environment, as recipes' do."""

from __future__ import annotations

import os
import re
from pathlib import Path

from spry.core.errors import DataError

_VARIABLE = re.compile(r"\$(\w+|\{\w+\})(?=[/\\]|$)")


def locate(name: str | os.PathLike[str]) -> Path:
    """Turn a name into a path: ``$SPRY_DATA/reviews.csv``, ``~/reviews.csv``, or as it is.

    Raises:
        DataError: If there is no such variable.
    """
    said = os.fspath(name)
    found = _VARIABLE.match(said)
    if found is not None:
        variable = found[1].strip("{}")
        if not os.environ.get(variable):
            raise DataError(
                f"{said}: the environment has no variable {variable}. Set it to the folder that holds the file, or "
                "name the file: data.name=FILE"
            )
        said = os.environ[variable] + said[found.end() :]
    return Path(os.path.expanduser(said))  # ruff: ignore[os-path-expanduser]  # Path.expanduser may raise

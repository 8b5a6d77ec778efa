"""The folder of a Flower app: what its pyproject, its keys and its two halves are."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template

from spry.core.errors import ConfigError
from spry.experiment.config import Config

APP, CONFIG_FILE = "spry_app.py", "config.toml"
SERVER, BRIDGE = "server_app(CONFIG)", "bridge_app()"
"""What the server's half is: a whole run, or what a run elsewhere asks."""
_TEMPLATES = "spry.experiment.flower"
_OWN = (
    "Each node has its own file (`data`) and number (`client`, from 0); the file never leaves it. It needs the columns "
    "$columns$labels."
)
_DEALT = "Every node reads the data that `config.toml` names, and plays the clients that it is asked to."


def write_app(folder: Path, config: Config, *, server: str = SERVER, name: str = "spry") -> Path:
    """Write the files that Flower needs, and return the folder."""
    folder.mkdir(parents=True)
    server_half = server.partition("(")[0]
    lines = [
        '"""The two halves of this app; config.toml is their run."""\n\nfrom pathlib import Path\n\n',
        f"from spry.experiment.flower_app import {', '.join(sorted(['client_app', server_half]))}\n\n",
        f'CONFIG = Path(__file__).with_name("{CONFIG_FILE}")\n',
        f"client = client_app(CONFIG)\nserver = {server}\n",
    ]
    (folder / APP).write_text("".join(lines), encoding="utf-8")
    (folder / CONFIG_FILE).write_text(config.alone().dump(), encoding="utf-8")
    (folder / "pyproject.toml").write_text(_filled("app.toml", name=name, out=name), encoding="utf-8")
    return folder


def write_deployment(folder: Path, config: Config, name: str) -> None:
    """Write an app with all that a deployment needs beside it: connection, certificates, instructions.

    Raises:
        ConfigError: If the folder is there.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already. Name another folder, or move it away")
    write_app(folder, config, name=name)
    own = config.runtime.data == "nodes"
    columns = ", ".join((*config.data.text, config.data.label))
    labels = f", and of labels only {', '.join(config.runtime.labels)}" if config.runtime.labels else ""
    texts = {
        "connection.toml": {"name": name, "folder": folder.resolve().as_posix()},
        "certificates.sh": {"name": name},
        "README.md": {
            "name": name,
            "out": name,
            "facts": 'data="FILE" client=N' if own else "partition-id=N",
            "data": Template(_OWN).substitute(columns=columns, labels=labels) if own else _DEALT,
        },
    }
    for file, values in texts.items():
        (folder / file).write_text(_filled(file, **values), encoding="utf-8")
    (folder / "certificates.sh").chmod(0o755)
    (folder / ".gitignore").write_text("keys/\n", encoding="utf-8")


def _filled(file: str, **values: str) -> str:
    text = (resources.files(_TEMPLATES) / file).read_text(encoding="utf-8")
    return Template(text).substitute(values)

"""Networks of their own for processes of this machine (Linux): one link leads out, which can be cut and slowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

NETWORKS = 1 << 15
"""Networks of four addresses in 198.18.0.0/15, which is set aside for measurements (RFC 2544)."""


def why_not() -> str | None:
    """Say why this process cannot make networks; None if it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root makes network namespaces"
    missing = [program for program in ("ip", "tc") if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} (iproute2) make network namespaces, and are not installed"
    try:
        with Network(0):
            return None
    except subprocess.CalledProcessError as error:
        return f"this machine makes no network namespaces: {error.stderr.strip()}"


@dataclass(frozen=True)
class Network:
    """A network namespace that a pair of virtual interfaces joins to this process's.

    Args:
        index: Which of this process's networks, 0 to 3.
    """

    index: int
    _process: int = field(default_factory=os.getpid, init=False, repr=False)

    @property
    def name(self) -> str:
        """The name of the namespace, and of the interface that leads to it."""
        return f"spry{self._number}"

    @property
    def server(self) -> str:
        """The address of this side."""
        return self._address(1)

    def command(self, *command: str) -> list[str]:
        """What runs a command within."""
        return ["ip", "netns", "exec", self.name, *command]

    def __enter__(self) -> Self:
        _run("ip", "netns", "add", self.name)
        try:
            _run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "out", "netns", self.name)
            _run("ip", "address", "add", f"{self.server}/30", "dev", self.name)
            _run("ip", "-n", self.name, "address", "add", f"{self._address(2)}/30", "dev", "out")
            for end in ("lo", "out"):
                _run("ip", "-n", self.name, "link", "set", end, "up")
            self.join()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def cut(self) -> None:
        """Let nothing through, in either direction; nobody is told."""
        _run("ip", "link", "set", self.name, "down")

    def join(self) -> None:
        """Let everything through again."""
        _run("ip", "link", "set", self.name, "up")

    def slow(self, kbit: int) -> None:
        """Let so many kilobits a second out of the namespace."""
        limits = ["rate", f"{kbit}kbit", "burst", "16kb", "latency", "1s"]
        _run(*self.command("tc", "qdisc", "replace", "dev", "out", "root", "tbf", *limits))

    def full_speed(self) -> None:
        """Take the limit of ``slow`` away, if there is one."""
        subprocess.run(
            self.command("tc", "qdisc", "delete", "dev", "out", "root"), check=False, capture_output=True
        )

    def _remove(self) -> None:
        # the interface first: processes that still run would keep a namespace, and with it the link
        for command in (["ip", "link", "delete", self.name], ["ip", "netns", "delete", self.name]):
            subprocess.run(command, check=False, capture_output=True)

    @property
    def _number(self) -> int:
        return (4 * self._process + self.index) % NETWORKS

    def _address(self, end: int) -> str:
        number = 4 * self._number + end
        return f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)

"""A deployment of Flower's on this machine: superlink and nodes, over TLS with node authentication."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from ssl import create_default_context
from types import TracebackType
from typing import Any, Self

import psutil
from benchmarks.network import Network

from spry.runtime.flower.engine import SILENT, find_program, free_port

MARK = "SPRY_DEPLOYMENT"
ASK_SECONDS = 60.0
"""How often Flower is asked how a run fares."""


@dataclass
class Deployment:
    """A superlink with nodes for one app folder, which has ``certificates.sh``.

    Args:
        app: The app's folder, as ``spry flower init`` writes it.
        home: Where Flower's state, logs and the run folder are.
        facts: The configuration of each node.
        environment: Variables of all processes.
        mark: The value of ``MARK`` in their environment, by which they are found.
        networks: The network of each node; without any all share the superlink's.
    """

    app: Path
    home: Path
    facts: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    networks: Sequence[Network] = ()
    port: int = field(default_factory=free_port)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        hosts = [network.server for network in self.networks]
        subprocess.run(["bash", self.app / "certificates.sh", str(len(self.facts)), *hosts], check=True)
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{self._key("ca.crt")}"\n',
            encoding="utf-8",
        )
        try:
            self._start_superlink()
            for number, facts in enumerate(self.facts):
                self._flwr("supernode", "register", self._key(f"node{number}.pub"), "here")
                self._start_node(number, facts)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, seconds: float, done: Path, app: Path | None = None) -> str:
        """Run the app, or another one, to its end; returns how it ended, such as ``finished:completed``.

        Args:
            seconds: How long it may take.
            done: The file that a run writes last; Flower itself is asked seldom, for that starts a process.
            app: The other app's folder.
        """
        self._flwr("run", str(app or self.app), "here")
        ends, ask = time.monotonic() + seconds, time.monotonic() + ASK_SECONDS
        while time.monotonic() < ends:
            if done.exists() or time.monotonic() > ask:
                ask = time.monotonic() + ASK_SECONDS
                if (status := self._status()).startswith("finished"):
                    return status
            time.sleep(0.5)
        raise TimeoutError(f"the run did not end within {seconds} s; {self.log('superlink')}")

    def _status(self) -> str:
        listed = json.loads(self._flwr("list", "here", "--format", "json"))
        return max(listed["runs"], key=lambda one: one.get("pending-at") or "")["status"]

    def log(self, name: str) -> str:
        """Read the end of what a process wrote: ``superlink``, or a node such as ``node0``."""
        return self.whole_log(name)[-8000:]

    def whole_log(self, name: str) -> str:
        """Read all that a process wrote."""
        return (self.home / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End all processes."""
        for end in (psutil.Process.terminate, psutil.Process.kill):
            left = self.processes()
            for process in left:
                with contextlib.suppress(psutil.Error):
                    end(process)
            psutil.wait_procs(left, timeout=5)

    def processes(self) -> list[psutil.Process]:
        """Find what it has started, and what that has."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def _key(self, name: str) -> str:
        return str(self.app / "keys" / name)

    def _start_superlink(self) -> None:
        self._start(
            "superlink", "flower-superlink", "--ssl-ca-certfile", self._key("ca.crt"), "--ssl-certfile",
            self._key("server.pem"), "--ssl-keyfile", self._key("server.key"), "--host",
            "0.0.0.0" if self.networks else "127.0.0.1", "--port", str(self.port), "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
        )  # fmt: skip
        context, ends = create_default_context(cafile=self._key("ca.crt")), time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"https://127.0.0.1:{self.port}/health", timeout=2, context=context)
                return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > ends:
                    raise TimeoutError(f"the superlink did not start: {self.log('superlink')}") from None
                time.sleep(0.2)

    def _start_node(self, number: int, facts: str) -> None:
        network = self.networks[number] if self.networks else None
        self._start(
            f"node{number}", "flower-supernode", "--root-certificates", self._key("ca.crt"), "--superlink",
            f"{network.server if network else '127.0.0.1'}:{self.port}", "--host", "127.0.0.1", "--port",
            str(free_port()), "--auth-supernode-private-key", self._key(f"node{number}"), "--node-config", facts,
            network=network,
        )  # fmt: skip

    def _start(self, name: str, program: str, *arguments: str, network: Network | None = None) -> None:
        command = [find_program(program), *arguments]
        with (self.home / f"{name}.log").open("wb") as log:
            subprocess.Popen(
                network.command(*command) if network else command,
                cwd=self.home, env=self._variables(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _flwr(self, *arguments: str) -> str:
        done = subprocess.run(
            [find_program("flwr"), *arguments], env=self._variables(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"flwr {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _variables(self) -> dict[str, Any]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"FLWR_HOME": str(self.home), MARK: self.mark, "PATH": path}
        return {**os.environ, **SILENT, **self.environment, **own}

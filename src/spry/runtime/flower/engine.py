"""A simulation engine of Flower's for one run: its own superlink, port and home, gone with the run in any case."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from spry.core.errors import ConfigError, TrainingError
from spry.runtime.flower.bridge import SOCKET, BridgeCourier
from spry.runtime.pipe import Pipe, listening

MARK = "SPRY_FLOWER_ENGINE"
"""The variable by which all processes of an engine are found; some of them leave its group."""
CONNECTION = "spry"
SILENT: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
    "RAY_worker_register_timeout_seconds": "300",
}
"""Nothing is told to anybody, nobody is asked for updates, and a busy machine may take its time."""
END_SECONDS = 5.0
LOG_LINES, LOG_SECONDS = 15, 30.0


@contextmanager
def flower_engine(
    app: Path, *, nodes: int, cores: int, seconds: float, threads: int
) -> Generator[BridgeCourier]:
    """Start an engine that runs a Flower app whose server app is a bridge to here.

    Args:
        app: The app's folder.
        nodes: How many nodes are simulated.
        cores: How many clients train at a time.
        seconds: How long the start may take.
        threads: Of torch, in each client.

    Raises:
        ConfigError: If Flower is not installed.
        TrainingError: If the engine does not start.
    """
    find_program("flower-superlink")
    with ExitStack() as held:
        home = Path(tempfile.mkdtemp(prefix="spry-flower-"))
        held.callback(shutil.rmtree, home, ignore_errors=True)
        place, ends = home / "socket", time.monotonic() + seconds
        environment = {
            **os.environ, **SILENT, "FLWR_HOME": str(home), SOCKET: str(place), MARK: uuid.uuid4().hex,
            "OMP_NUM_THREADS": str(threads), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        server = held.enter_context(listening(place))
        engine = _Engine(home / "log", environment, free_port())
        held.callback(engine.stop)
        engine.start(ends)
        engine.submit(app, nodes=nodes, cores=cores, ends=ends)
        pipe = held.enter_context(contextlib.closing(_accept(server, engine, ends)))
        yield BridgeCourier(pipe, engine.ended)


def find_program(name: str) -> str:
    """Find one of Flower's programs; ConfigError if Flower is not installed."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise ConfigError(
            f"runtime.name is 'flower', and Flower is not installed (there is no {name}). Install it with pip install "
            "'spry-fl[flower]', or set runtime.name=simulate"
        )
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class _Engine:
    """The superlink and whatever it starts."""

    def __init__(self, log: Path, environment: Mapping[str, str], port: int) -> None:
        self.log, self.environment, self.port = log, environment, port
        self.process: subprocess.Popen[bytes] | None = None
        self.run_id: str | None = None

    def start(self, ends: float) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    find_program("flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess",
                    "--host", "127.0.0.1", "--port", str(self.port), "--disable-runtime-dependency-installation",
                ],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        while not self._healthy():
            self.check(ends)
            time.sleep(0.1)

    def submit(self, app: Path, *, nodes: int, cores: int, ends: float) -> None:
        home = Path(self.environment["FLWR_HOME"])
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f'address = "127.0.0.1:{self.port}"\ninsecure = true\n',
            encoding="utf-8",
        )
        simulated = f"num-supernodes={nodes} client-resources-num-cpus=1 init-args-num-cpus={cores}"
        arguments = ["run", str(app), CONNECTION, "--federation-config", simulated, "--format", "json"]
        told = self._flwr(*arguments, seconds=max(1.0, ends - time.monotonic()))
        found = re.search(r'"run-id": "(\d+)"', told)
        if found is None:  # the status may be 0 all the same
            raise TrainingError(f"Flower's engine refused the app: {' '.join(told.split())}")
        self.run_id = found[1]

    def check(self, ends: float) -> None:
        """Raise a TrainingError if the engine has ended, or takes too long."""
        if self.process is None or self.process.poll() is not None:
            raise TrainingError(self.ended())
        if time.monotonic() > ends:
            raise TrainingError(f"Flower's engine did not start in time (runtime.wait). {self.ended()}")

    def ended(self) -> str:
        """Say what is known of an engine that does not answer."""
        written = self.log.read_text(encoding="utf-8", errors="replace")
        if self.run_id:
            written += self._flwr("log", self.run_id, CONNECTION, "--show", seconds=LOG_SECONDS)
        lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in written.splitlines()]
        told = " / ".join([line for line in lines if line][-LOG_LINES:])
        return f"Flower's engine does not answer. Its last lines: {told or 'none'}"

    def _flwr(self, *arguments: str, seconds: float) -> str:
        """Call Flower's command line; what it says, whatever its status, or nothing if that takes too long."""
        try:
            done = subprocess.run(
                [find_program("flwr"), *arguments], env=self.environment, stdin=subprocess.DEVNULL,
                capture_output=True, check=False, timeout=seconds, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ""
        return f"{done.stdout.decode(errors='replace')}\n{done.stderr.decode(errors='replace')}"

    def stop(self) -> None:
        """End all of its processes, those too that have left its group: first asked to, then at once."""
        left = _marked(self.environment[MARK])
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, left = psutil.wait_procs(left, timeout=END_SECONDS)
        for process in {*left, *_marked(self.environment[MARK])}:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait(END_SECONDS)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


def _accept(server: socket.socket, engine: _Engine, ends: float) -> Pipe:
    """Wait for the server app to connect."""
    server.settimeout(0.5)
    while True:
        engine.check(ends)
        with contextlib.suppress(TimeoutError):
            return Pipe(server.accept()[0])


def _marked(mark: str) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found

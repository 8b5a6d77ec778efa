"""A warm client: what short-lived processes pass on is answered, and whoever breaks off harms nobody else."""

from __future__ import annotations

import importlib.util
import socket
import stat
import subprocess
import sys
import threading

import msgspec
import pytest

from spry.core.errors import TrainingError, WireError
from spry.experiment.warm import Answered, Passed, keep_warm, pass_on
from spry.runtime.pipe import MAX_BYTES, Pipe, connected, listening


def passed(message, known=None):
    return Passed("seed = 1", {"client": 3, "data": "x.csv"}, 3, message, known)


@pytest.fixture
def warm(tmp_path):
    """The socket of a client that turns messages round, and counts them in what it knows."""
    ready, seen = threading.Event(), []

    def answer(one):
        seen.append(one)
        return Answered(one.message[::-1], (one.known or b"") + b"!")

    place = tmp_path / "client.sock"
    threading.Thread(target=keep_warm, args=(place, answer), kwargs={"ready": ready.set}, daemon=True).start()
    assert ready.wait(10)
    return place, seen


def test_messages_are_answered_one_after_the_other(warm):
    place, seen = warm
    assert pass_on(place, passed(b"abc")) == Answered(b"cba", b"!")
    large = bytes(range(256)) * 20_000
    assert pass_on(place, passed(large, b"!")) == Answered(large[::-1], b"!!")
    assert seen[0] == passed(b"abc") and seen[1].known == b"!"


def test_only_its_owner_may_open_the_socket(warm):
    place, _ = warm
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_whoever_breaks_off_harms_nobody_else(warm):
    place, _ = warm
    for sent in (b"", b"\x05", b"\x08" + bytes(7) + b"half", b"\x03" + bytes(7) + b"abc"):
        with socket.socket(socket.AF_UNIX) as broken:
            broken.connect(str(place))
            broken.sendall(sent)
    assert pass_on(place, passed(b"ab")).data == b"ba"


def test_whoever_says_nothing_keeps_others_waiting_for_a_while_only(warm, monkeypatch):
    monkeypatch.setattr("spry.experiment.warm.SILENT_SECONDS", 0.3)
    place, _ = warm
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(place))
        assert pass_on(place, passed(b"ab")).data == b"ba"


def test_a_client_that_is_not_there_is_told_with_the_remedy(tmp_path):
    with pytest.raises(TrainingError, match=r"no warm client listens at .*gone\.sock.*spry client --serve"):
        pass_on(tmp_path / "gone.sock", passed(b""))


def test_a_client_that_ends_meanwhile_is_told(tmp_path):
    place = tmp_path / "client.sock"
    with listening(place) as server:

        def hang_up():
            connection, _ = server.accept()
            connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(TrainingError, match="warm client"):
            pass_on(place, passed(b""))
    assert not place.exists()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ((MAX_BYTES + 1).to_bytes(8, "little"), "at most"),
        ((3).to_bytes(8, "little") + b"abc", "no Passed"),
        ((1).to_bytes(8, "little") + msgspec.msgpack.encode({}), "no Passed"),
    ],
)
def test_what_is_no_message_is_refused(sent, told, tmp_path):
    with listening(tmp_path / "s") as server, connected(tmp_path / "s") as pipe:
        server.accept()[0].sendall(sent)
        with pytest.raises(WireError, match=told):
            pipe.receive(Passed, 5)


def test_silence_ends_after_as_long_as_is_waited(tmp_path):
    with listening(tmp_path / "s") as server, connected(tmp_path / "s") as pipe:
        other = Pipe(server.accept()[0])
        assert not pipe.ready()
        with pytest.raises(TimeoutError):
            pipe.receive(Answered, 0.05)
        other.send(Answered(b"", None))
        assert pipe.receive(Answered, 5) == Answered(b"", None)
        other.close()
        assert pipe.receive(Answered, 5) is None


@pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None, reason="Flower is not installed (the extra flower)"
)
def test_a_process_that_only_passes_messages_on_loads_no_model_library():
    code = "import sys, spry.experiment.flower_app; assert not {'torch', 'transformers'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)

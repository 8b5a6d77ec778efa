"""The Hub is asked once: an answer is an answer, and the rest is a reason."""

from __future__ import annotations

from huggingface_hub.errors import HFValidationError

from spry.data.reach import why_unreachable


def failing(error):
    def ask(hub):
        raise error

    return ask


def test_any_answer_will_do():
    assert why_unreachable(lambda hub: hub.endpoint) is None
    assert why_unreachable(failing(HFValidationError("no such name"))) is None


def test_what_is_no_answer_is_told_with_the_address():
    told = why_unreachable(failing(OSError("Name or service not known\nmore")), "https://hub.example")
    assert told == "https://hub.example cannot be reached (Name or service not known)"

"""The memory law at few rows, with the engine's own sizes: its workspace shrinks with the batch."""

from __future__ import annotations

import pytest

from spry.measure.meter import peak_of
from spry.profile.case import Case
from spry.profile.measure import build_subject
from spry.profile.steps import inference_step, spry_step


@pytest.mark.parametrize(("batch", "layers"), [(1, 2), (2, 2), (1, 12)])
def test_a_pass_over_one_text_takes_about_what_inference_takes(batch, layers):
    subject = build_subject(Case(model="bert-base", method="spry", batch=batch, length=128, layers=layers))
    spry_step(subject)
    inference = peak_of(lambda: inference_step(subject))
    assert peak_of(lambda: spry_step(subject)) <= 1.05 * inference

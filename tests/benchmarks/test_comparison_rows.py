"""Every row of the comparison is a configuration that can be run, at each step size that it may try."""

from __future__ import annotations

import pytest
from benchmarks.comparison import CONFIG
from benchmarks.comparison_rows import ROWS

from spry.experiment.build import check_settings
from spry.experiment.config import read_config


@pytest.mark.parametrize("name", ROWS)
def test_its_settings_are_allowed_at_each_step_size(name):
    row = ROWS[name]
    method = {f"method.{option}": value for option, value in row.method.items()}
    alike, skewed = row.tries(1.0), row.tries(0.1)
    assert len(alike) == len(skewed) == 3 and sorted({*alike, *skewed}) == [*row.body]
    assert max(skewed) < max(alike) and min(skewed) < min(alike)
    fixed = {} if name == "last_block" else {"step_factors.head": 0.0}  # its other unit is of a real model
    for lr in row.body:
        tried = {f"{row.stepper}.lr": lr, **fixed}
        check_settings(read_config(CONFIG).with_settings({**row.settings, **method, **tried}))

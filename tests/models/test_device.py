"""A device is refused before anything is loaded if this machine does not have it."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import ConfigError
from spry.models.device import check_device


@pytest.mark.parametrize("name", ["gpu", "tpu", "cuda:99", "", "meta", "cpu:x"])
def test_what_is_not_here_is_refused_with_what_is(name):
    with pytest.raises(ConfigError, match="Allowed here: cpu") as told:
        check_device(name)
    assert repr(name) in str(told.value) and "\n" not in str(told.value)


def test_what_is_here_is_not():
    check_device("cpu")
    if torch.cuda.is_available():
        check_device("cuda:0")

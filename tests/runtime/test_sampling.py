"""Who is asked, which replies count, and what nobody trained."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit
from spry.runtime.sampling import sample, untrained, validate_reply
from spry.wire.messages import Gradient, Reply, Slopes, Weights


def test_each_client_is_asked_at_most_once_and_all_in_time():
    seen = Counter()
    for round in range(200):
        chosen = sample([3, 5, 8, 13, 21], 2, round, Key(0))
        assert len(set(chosen)) == 2
        seen.update(chosen)
    assert set(seen) == {3, 5, 8, 13, 21}
    assert all(abs(count - 80) < 5 * (200 * 0.4 * 0.6) ** 0.5 for count in seen.values())


@pytest.mark.parametrize("count", [0, -1, 6])
def test_too_many_or_too_few_clients_are_refused(count):
    with pytest.raises(ConfigError, match="from 1 to 5"):
        sample([3, 5, 8, 13, 21], count, 0, Key(0))


NAN, OK = torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 2.0])
PAYLOADS = [Weights, Gradient, lambda v: Slopes(v["a"]), lambda v: Slopes(OK, v)]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_is_not_finite_does_not_count(payload):
    def reply(values, loss=0.5):
        return Reply(round=0, client=0, examples=1, payload=payload({"a": values}), steps=1, loss=loss)

    assert validate_reply(reply(OK)) is None
    assert "NaN" in (validate_reply(reply(NAN)) or "")
    assert "1e+15" in (validate_reply(reply(1e16 * OK)) or "")
    assert "inf" in (validate_reply(reply(OK, float("inf"))) or "")


def test_untrained_units_keep_the_models_order():
    units = [Unit(name=name, names=(name,)) for name in "abc"]
    assert untrained(units, {"b"}) == ("a", "c")

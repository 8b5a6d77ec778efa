"""Who is asked, and what nobody trained."""

from __future__ import annotations

from collections import Counter

import pytest

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit
from spry.runtime.sampling import sample, untrained


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


def test_untrained_units_keep_the_models_order():
    units = [Unit(name=name, names=(name,)) for name in "abc"]
    assert untrained(units, {"b"}) == ("a", "c")

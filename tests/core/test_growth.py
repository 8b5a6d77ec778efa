"""Numbers that grow over the rounds, by hand."""

from __future__ import annotations

import pytest

from spry.core.errors import ConfigError
from spry.core.growth import Growth


@pytest.mark.parametrize(
    ("growth", "wanted"),
    [
        (Growth(start=8, factor=2, phases=3, rounds=6), [8, 8, 16, 16, 32, 32, 32, 32]),
        (Growth(start=1, factor=3, phases=2, rounds=5), [1, 1, 1, 3, 3, 3]),
        (
            Growth(start=1, factor=2, phases=4, rounds=2),
            [1, 4, 8],
        ),  # more phases than rounds: some are skipped
        (Growth(start=5, factor=1, phases=3, rounds=6), [5] * 8),
        (Growth(start=5, factor=2, phases=1, rounds=6), [5] * 8),
        (Growth(start=5, factor=2, phases=3), [5] * 8),
    ],
)
def test_by_hand(growth, wanted):
    assert [growth.at(n) for n in range(len(wanted))] == wanted
    assert growth.grows == (len(set(wanted)) > 1)
    assert growth.last == growth.at(10**9)


@pytest.mark.parametrize("field", ["start", "factor", "phases"])
def test_nothing_shrinks(field):
    with pytest.raises(ConfigError, match="at least 1"):
        Growth(rounds=3, **{field: 0})

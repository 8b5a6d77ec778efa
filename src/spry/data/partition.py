"""Deals examples to clients: evenly, skewed by class, or by natural ids. Every example is dealt exactly once.

The Dirichlet dealing is ``flwr-datasets``'; we shuffle first, with our own key, because it cuts the examples of
each class in the order in which they stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data.dataset import Dataset

Places = NDArray[np.int32]
"""Places of examples in a data set."""

_MOST_EVEN = 1e9  # far above, the sum over clients overflows and one client would get everything


def iid(dataset: Dataset, clients: int, key: Key) -> dict[str, Places]:
    """Deal the shuffled examples evenly, to clients ``"0"``, ``"1"``, ...; sizes differ by at most one."""
    _check_clients(dataset, clients)
    return _named(np.array_split(_shuffled(dataset, key), clients))


def dirichlet(dataset: Dataset, clients: int, alpha: float, key: Key) -> dict[str, Places]:
    """Deal each class to clients ``"0"``, ``"1"``, ... in proportions drawn from a symmetric Dirichlet distribution.

    Targets without classes may have strata in their place, such as tenths of a range of numbers.

    Small ``alpha`` (0.01 is extreme, 0.1 strong, 1.0 moderate) gives each client few classes and very different
    sizes, so some clients may get nothing; large ``alpha`` approaches even shares.

    Raises:
        DataError: If ``alpha`` is not in (0, 1e9], there are fewer clients than 1 or more than examples, or the
            examples have no classes.

    Source:
        Yurochkin et al. 2019, arXiv 1905.12022, without the balancing of sizes that their code adds.
    """
    from datasets import Dataset as Table
    from flwr_datasets.partitioner import DirichletPartitioner

    _check_clients(dataset, clients)
    if not 0 < alpha <= _MOST_EVEN:
        raise DataError(
            f"The Dirichlet alpha is {alpha}. Allowed: above 0, at most {_MOST_EVEN:g}; try 1.0, or 0.1 for a "
            "strong skew."
        )
    if dataset.strata is None:
        raise DataError(
            f"{dataset.name}: its examples have no classes to be dealt unevenly by alpha. Deal them iid, or by a "
            "column of client ids."
        )
    seed = int(key.generator("proportions").integers(2**63))
    partitioner = DirichletPartitioner(
        clients, "label", float(alpha), min_partition_size=0, shuffle=False, seed=seed
    )
    order = _shuffled(dataset, key)
    partitioner.dataset = Table.from_dict({"place": order, "label": np.asarray(dataset.strata)[order]})
    return _named(partitioner.load_partition(client)["place"][:] for client in range(clients))


def natural(dataset: Dataset) -> dict[str, Places]:
    """Make one client of each natural id, in the order of their first examples."""
    if dataset.groups is None:
        raise DataError(
            f"{dataset.name}: has no natural client ids. Name the column that holds them, or deal the "
            "examples iid or by Dirichlet."
        )
    found: dict[str, list[int]] = {}
    for place, group in enumerate(dataset.groups):
        found.setdefault(group, []).append(place)
    return {group: np.asarray(places, dtype=np.int32) for group, places in found.items()}


def sizes(dealt: Mapping[str, Sequence[int] | Places]) -> tuple[int, int, int]:
    """The smallest and the largest client's number of examples, and how many clients have none."""
    counts = [len(places) for places in dealt.values()]
    return min(counts), max(counts), counts.count(0)


def _shuffled(dataset: Dataset, key: Key) -> Places:
    return np.asarray(key.permutation(len(dataset), "order"), dtype=np.int32)


def _named(dealt: Iterable[Sequence[int] | Places]) -> dict[str, Places]:
    return {str(client): np.asarray(places, dtype=np.int32) for client, places in enumerate(dealt)}


def _check_clients(dataset: Dataset, clients: int) -> None:
    if not 1 <= clients <= len(dataset):
        rows = dataset.reading.rows if dataset.reading else len(dataset)
        rest = (
            f" ({rows} rows less test examples, their duplicates and rows left out)"
            if rows > len(dataset)
            else ""
        )
        raise DataError(
            f"{clients} clients were asked for. Allowed: 1 to {len(dataset)}, the number of training "
            f"examples of {dataset.name!r}{rest}."
        )

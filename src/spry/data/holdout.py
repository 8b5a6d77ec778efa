"""Holds out a fixed test part where a source has none of its own, and a validation part to choose by."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data.dataset import Dataset, Splits
from spry.data.reading import quantity


def stratified(labels: Sequence[int], fraction: float, key: Key) -> tuple[list[int], list[int]]:
    """Divide examples in two so that both parts have the classes in about the same proportions.

    Of a class with ``n`` examples ``round(fraction * n)`` go to the second part, at most ``n - 1``, 0 < ``fraction``
    < 1. Indices come back in ascending order.
    """
    if not 0 < fraction < 1:
        raise DataError(f"The held-out fraction is {fraction}. Allowed: above 0 and below 1.")
    every = np.asarray(labels)
    second = np.zeros(len(every), dtype=bool)
    for label in np.unique(every):
        places = np.flatnonzero(every == label)
        count = min(round(fraction * len(places)), len(places) - 1)
        second[places[key.permutation(len(places), f"class {label}")[:count]]] = True
    return np.flatnonzero(~second).tolist(), np.flatnonzero(second).tolist()


def hold_out(dataset: Dataset, fraction: float, part: str = "test part") -> Splits:
    """Hold out the same stratified part of a data set in every run, whatever the run's seed.

    Training examples whose very text is in the held-out part are dropped. Parts of other names are drawn
    independently.
    """
    strata = dataset.strata
    alike = [0] * len(dataset) if strata is None else strata
    bundles, key = dataset.target.bundles(dataset), Key(0).fold(part, dataset.name)
    kept, held = stratified(alike, fraction, key) if bundles is None else _whole(bundles, fraction, key)
    if not held and bundles is not None:
        raise DataError(
            f"{dataset.name}: no {part} can be held out: a share of {fraction:g} of its "
            f"{quantity(len(set(bundles)), 'passage')} is none. Give more of them, or a test part of its own."
        )
    if not held and not dataset.label_names:
        raise DataError(
            f"{dataset.name}: no {part} can be held out: a share of {fraction:g} of "
            f"{quantity(len(dataset), 'example')} is none. Give more examples, or a test part of its own."
        )
    if not held:
        name, most = max(dataset.counts.items(), key=lambda count: count[1])
        raise DataError(
            f"{dataset.name}: no {part} can be held out: a share of {fraction:g} is taken of each of the "
            f"{len(dataset.label_names)} labels, and the commonest, {name!r}, has only {quantity(most, 'example')} of "
            f"{len(dataset):,}. Is {name!r} a class? Name the column of classes, give more examples of each, or a test "
            "part of its own."
        )
    tested = {dataset.texts[place] for place in held}
    unseen = [place for place in kept if dataset.texts[place] not in tested]
    if len({alike[place] for place in unseen}) < min(2, len(set(alike))):
        few = ", of fewer than two classes" if dataset.label_names else ""
        raise DataError(
            f"{dataset.name}: its {len(dataset)} examples are duplicates: of those not held out for testing, "
            f"{len(kept) - len(unseen)} have the same text as one in the {part} and are left out, so {len(unseen)} "
            f"are left to train on{few}. Remove the duplicates and give more texts."
        )
    return Splits(train=dataset.select(unseen), test=dataset.select(held), duplicates=len(kept) - len(unseen))


def _whole(bundles: Sequence[Hashable], fraction: float, key: Key) -> tuple[list[int], list[int]]:
    """Divide examples in two so that those of one bundle stay together; as ``stratified``, by bundles."""
    known = list(dict.fromkeys(bundles))
    _, second = stratified([0] * len(known), fraction, key)
    held = {known[place] for place in second}
    return (
        [place for place, bundle in enumerate(bundles) if bundle not in held],
        [place for place, bundle in enumerate(bundles) if bundle in held],
    )


def hold_out_validation(splits: Splits, fraction: float) -> Splits:
    """Hold the same validation part out of the training part in every run; the test part stays as it is."""
    made = hold_out(splits.train, fraction, "validation part")
    return replace(
        splits, train=made.train, validation=made.test, duplicates=splits.duplicates + made.duplicates
    )

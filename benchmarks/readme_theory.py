"""The tables of research/theory_notes.md."""

from __future__ import annotations

from statistics import median
from typing import Any

from readme_layout import origin, table


def credit(result: dict[str, Any]) -> str:
    """What crediting a token with later losses alone does to the error, by the number of segments."""
    names = {"layer": "maps of one layer", "all": "maps of all layers"}
    rows = [
        [
            str(row["C"]),
            names[row["maps"]],
            f"{row['error']:,.0f} ± {row['error_se']:,.0f}",
            f"{row['predicted']:,.0f}",
        ]
        for row in result["rows"]
        if row["predicted"] is not None
    ]
    note = (
        f"SmolLM2 on real text, {result['B']} x {result['T']} tokens, LoRA's A alone, K = {result['K']}: relative "
        f"squared error against autograd, mean and standard error of {result['draws']} draws, and the formula's."
    )
    heads = ["segments", "moved", "error", "predicted"]
    return table(heads, rows) + f"\n\n{note} {origin(result, 'research/credit.py')}"


def signal(result: dict[str, Any]) -> str:
    """How far estimates of a round err, in units of the gradient's square, by map and estimator."""
    rows = result["rows"]
    found = {(row["map"], row["estimator"]): row for row in rows}
    maps, estimators = (list(dict.fromkeys(row[key] for row in rows)) for key in ("map", "estimator"))
    parts = {"all_clients": "all clients, all maps", "one_client": "one client, this map alone"}
    lines = [
        [name.rpartition("layer.")[2].replace(".attention.self.", " "), told]
        + [f"{found[name, how][part]:,.0f}" for how in estimators]
        for name in maps
        for part, told in parts.items()
    ]
    setting = result["setting"]
    note = (
        f"Relative squared error, mean of {setting['draws']} draws: MiniLM on SST-2 after {setting['steps']} steps, "
        f"{setting['clients']} clients with {setting['batch_size']} examples, K = 1, LoRA's A alone; against "
        f"backpropagation over {setting['examples_of_true']} other examples."
    )
    heads = ["map", "who estimates", *estimators]
    return table(heads, lines) + f"\n\n{note} {origin(result, 'research/signal_to_noise.py')}"


def basis(result: dict[str, Any]) -> str:
    """How much of a layer's gradient each choice of B holds, by rank, at the start and after some steps."""
    rows, setting = result["rows"], result["setting"]
    found = {(row["at"], row["basis"], row["rank"], row["maps"]): median(row["shares"]) for row in rows}
    names, ranks = (list(dict.fromkeys(row[key] for row in rows)) for key in ("basis", "rank"))
    lines = [
        [name]
        + [
            " and ".join(f"{100 * found[at, name, rank, maps]:.1f}" for maps in ("query", "value"))
            if (at, name, rank, "query") in found
            else ""
            for at in ("start", "trained")
            for rank in ranks
        ]
        for name in sorted(names, key=lambda name: (name.startswith("the best"), names.index(name)))
    ]
    times = {"start": "at the start", "trained": f"after {setting['steps']} steps"}
    heads = ["columns of B", *(f"{said}, rank {rank}" for said in times.values() for rank in ranks)]
    note = (
        "Percent of the squared mean gradient of a layer's weight that lies in the columns: medians over five query "
        f"and over five value layers of MiniLM on SST-2, {setting['examples']} examples, {setting['texts']} random "
        "texts; without `anew` these saw the model as it was at the start."
    )
    return table(heads, lines) + f"\n\n{note} {origin(result, 'research/basis.py')}"

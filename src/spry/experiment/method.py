"""From a configuration to the method that it names, with what keeps it private."""

from __future__ import annotations

from collections.abc import Sequence

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit
from spry.experiment.config import Config
from spry.experiment.private import NOT_PRIVATE, Private, private
from spry.federated.algorithm import Algorithm
from spry.federated.ema import averaged
from spry.federated.privacy.accounting import Spending
from spry.federated.robust import Aggregation
from spry.federated.transforms import Clip, UpdateTransform
from spry.optim.named import Named, optimizer
from spry.optim.transform import Transform
from spry.tasks.head_fit import HeadFit


def build_algorithm(
    config: Config, units: tuple[Unit, ...], *, closed_form: bool = False, parts: Private = NOT_PRIVATE
) -> Algorithm:
    """Make the method that a configuration names, for the units of a task.

    Args:
        closed_form: Whether the head starts in closed form, and something else is trained.
        parts: What keeps it private.

    Raises:
        ConfigError: If an optimizer is unknown, or named without its step size, or nothing would be trained.
    """
    info = config.method.info
    client = _optimizer("client", config.client.optimizer, config.client.lr, info.client)
    server = _optimizer("server", config.server.optimizer, config.server.lr, info.server)
    transforms: tuple[UpdateTransform, ...] = (Clip(config.client.clip),) if config.client.clip else ()
    algorithm = info(
        units,
        client=client,
        server=server,
        rounds=config.schedule.rounds,
        step_factors=config.step_factors.by_group(closed_form=closed_form),
        step_decay=config.schedule.decay if config.schedule.rounds else "none",
        max_steps=config.client.steps,
        transforms=(*transforms, *parts.transforms),
        summing=parts.summing,
        example_slopes=parts.example_slopes,
        aggregation=Aggregation(
            rule=config.server.aggregate, trim=config.server.trim, clip=config.server.clip
        ),
        **(config.method.model_extra or {}),
    )
    return averaged(algorithm, config.server.ema) if config.server.ema else algorithm


def trains_more_than_head(algorithm: Algorithm) -> bool:
    """Whether a head in closed form is kept as it is: else nothing would be trained."""
    return any(unit.group != "head" for unit in algorithm.units)


def private_algorithm(
    config: Config,
    units: tuple[Unit, ...],
    clients: Sequence[int],
    asked: int,
    key: Key,
    *,
    head: HeadFit | None,
    counted: Spending | None = None,
    secret: Key | None = None,
) -> tuple[Algorithm, Private]:
    """Make the method that a configuration names for some clients, and the parts that keep it private.

    Args:
        head: What a head that starts in closed form learns; None if none does.
        counted: See ``private``, like all others.

    Raises:
        ConfigError: If settings do not fit each other.
        PrivacyError: If the rounds cost more than the budget.
    """
    kept = head is not None and trains_more_than_head(build_algorithm(config, units))
    factors = config.step_factors.by_group(closed_form=kept)
    parts = private(
        config, units, clients, asked, key, factors=factors, counted=counted, head=head, secret=secret
    )
    return build_algorithm(config, units, closed_form=kept, parts=parts), parts


def _optimizer(section: str, name: str | None, lr: float | None, own: Named | None) -> Transform | None:
    """The clients' or the server's; None leaves it to the method."""
    if name is None and (lr is None or own is None):
        return None  # the method's own, or there is nothing that would step
    if lr is None:
        optimizer(str(name), lr=1.0)  # an unknown name is the first thing to tell
        raise ConfigError(
            f"{section}.lr is missing: {name} needs a step size of its own, such as --set {section}.lr=0.01"
        )
    return optimizer(name or (own.name if own else ""), lr=lr)

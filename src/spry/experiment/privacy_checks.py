"""Settings of privacy that do not fit each other or what a run does, refused before anything is loaded."""

from __future__ import annotations

from spry.core.errors import ConfigError
from spry.experiment.config import Config
from spry.experiment.privacy_settings import PrivacySettings
from spry.tasks.head_fit import HeadFit


def check_privacy(config: Config) -> None:
    """Refuse settings of noise that do not fit."""
    settings = config.privacy
    clip_of(settings)
    if settings.epsilon is None and settings.noise is None:
        raise ConfigError(
            "privacy.epsilon and privacy.noise are both unset. Set the budget, from which the noise of the planned "
            "rounds follows, such as privacy.epsilon=8, or the noise multiplier, such as privacy.noise=1"
        )
    if settings.unit == "example" and config.client.steps != 1:
        raise ConfigError(
            f"privacy.unit is 'example' and client.steps is {config.client.steps}: an example may be in one batch of a "
            "round only. Set client.steps=1, or privacy.unit=client"
        )
    if settings.seed == "secret" and config.schedule.checkpoint_every != 1:
        raise ConfigError(
            f"privacy.seed is 'secret' and schedule.checkpoint_every is {config.schedule.checkpoint_every}: rounds "
            "that a resumed run repeats would be noised twice. Set schedule.checkpoint_every=1"
        )
    check_sums(config)


def check_sums(config: Config) -> None:
    """Refuse what shows more of replies than their sum, or keeps no privacy."""
    if config.server.send == "slopes":
        raise ConfigError(
            "server.send is 'slopes', which tells every client the slopes of the others. Set server.send = 'weights'"
        )


def check_noise_is_agreed(config: Config) -> None:
    """Refuse nodes that add noise themselves, and would each have to find out how much."""
    if config.privacy.mechanism == "local" and config.privacy.noise is None:
        raise ConfigError(
            "privacy.noise is unset, and each node adds noise of its own. Write the federation's app with spry flower "
            "init, which finds the noise that privacy.epsilon asks for, or set privacy.noise"
        )


def clip_of(settings: PrivacySettings) -> float:
    """The norm that has to be set."""
    if settings.clip is None:
        raise ConfigError(
            "privacy.clip is unset: it is the norm to which what a client, or an example, adds is shortened. Set it to "
            "about the norm of a usual one, such as privacy.clip=1.0"
        )
    return settings.clip


def check_head(config: Config, head: HeadFit) -> None:
    """Refuse a head in closed form whose sums would not be private."""
    why = ""
    if config.privacy.secure_aggregation:
        why = "clients' sums for it are not masked:"
    elif config.privacy.mechanism != "central":
        why = "clients' own sums have no noise:"
    elif head is not HeadFit.CLASSES:
        why = "only sums of classes have noise:"
    elif config.head.clients is not None:
        why = "whom head.clients asks depends on the classes that clients have: unset it, or"
    elif config.privacy.head_clip is None:
        why = "privacy.head_clip is unset: set it to about the norm of the head's inputs, such as 1.0, or"
    if why:
        raise ConfigError(f"the head starts in closed form (head.start), and {why} set head.start=drawn")

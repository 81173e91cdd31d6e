"""Learning-rate schedules of scikit-learn's networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

# Below this rate the adaptive schedule gives up, as in scikit-learn.
_SMALLEST_RATE = 1e-6


class HasGroups(Protocol):
    """An optimiser, as far as a schedule is concerned."""

    param_groups: list[dict[str, Any]]


@dataclass
class Schedule:
    """A constant learning rate, and what the other schedules have in common.

    Attributes
    ----------
    optimiser : HasGroups
        Whose learning rate is set.
    initial : float
        The learning rate at the start.
    """

    optimiser: HasGroups
    initial: float

    @property
    def rate(self) -> float:
        """The learning rate that the next step takes."""
        return float(self.optimiser.param_groups[0]["lr"])

    def _set(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def end_epoch(self, n_samples_seen: int) -> None:
        """Prepare the next epoch, `n_samples_seen` samples after the start."""

    def stops_at_plateau(self) -> bool:
        """Say whether training ends now that there is no more progress, or goes on slower."""
        return True


@dataclass
class InverseScaling(Schedule):
    """rate = initial / (t + 1)^power_t, with t the number of samples seen."""

    power_t: float = 0.5

    def end_epoch(self, n_samples_seen: int) -> None:
        """Prepare the next epoch, `n_samples_seen` samples after the start."""
        self._set(self.initial / (n_samples_seen + 1) ** self.power_t)


@dataclass
class Adaptive(Schedule):
    """A fifth of the rate whenever progress ends, until it is as small as 1e-6."""

    def stops_at_plateau(self) -> bool:
        """Say whether training ends now that there is no more progress, or goes on slower."""
        if self.rate <= _SMALLEST_RATE:
            return True
        self._set(self.rate / 5.0)
        return False


def make_schedule(name: str, optimiser: HasGroups, *, initial: float, power_t: float) -> Schedule:
    """Build the schedule that the parameter ``learning_rate`` names."""
    if name == "invscaling":
        return InverseScaling(optimiser, initial, power_t)
    if name == "adaptive":
        return Adaptive(optimiser, initial)
    return Schedule(optimiser, initial)

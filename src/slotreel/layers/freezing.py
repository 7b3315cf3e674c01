"""Backbones that are frozen for ever, for the first steps, or not at all."""

from __future__ import annotations

import torch

from slotreel.errors import ConfigError
from slotreel.interfaces import Backbone
from slotreel.types import Phase


class Freezable(Backbone):
    """A backbone with the arguments ``frozen`` and ``frozen_until``.

    While no parameter is trainable, nothing of the forward pass is kept and there is no backward.
    """

    frozen_until: int = 0

    def freeze(self, frozen: bool, frozen_until: int) -> None:
        """Called last by the constructor.

        Args:
            frozen: features never change; the network stays in evaluation mode.
            frozen_until: step from which it is trained; before it is frozen, but in training mode.

        Raises:
            ConfigError: a step below 0, or one for a backbone that is never trained.
        """
        if frozen_until < 0 or (frozen and frozen_until):
            raise ConfigError(
                f"backbone.frozen_until={frozen_until} is a step from which the backbone is "
                f"trained, and backbone.frozen={str(frozen).lower()}; type backbone.frozen=false, "
                "or backbone.frozen_until=0"
            )
        self.frozen, self.frozen_until = frozen, frozen_until
        if frozen:
            self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Freezable:
        """Training mode, which a frozen network never enters."""
        super().train(mode and not self.frozen)
        return self

    def without_gradient(self) -> set[str]:
        """Everything if frozen."""
        return {name for name, _ in self.named_parameters()} if self.frozen else set()

    def phases(self) -> list[Phase]:
        """Frozen up to ``frozen_until``, trained from there on."""
        if not self.frozen_until:
            return []
        return [Phase(0, {"*": False}), Phase(self.frozen_until, {"*": True})]

    def grad_enabled(self) -> bool:
        """Whether a forward pass should keep what a backward needs."""
        return torch.is_grad_enabled() and not self.frozen

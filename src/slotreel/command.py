"""What every entry point shares: failures that are logged, words for the user."""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from collections.abc import Callable

from omegaconf import DictConfig
from rich.console import Console

from slotreel.errors import UserError

log = logging.getLogger(__name__)
Command = Callable[[DictConfig], int | None]


def command(function: Command) -> Callable[[DictConfig], None]:
    """An entry point whose every failure is logged and leaves with a code of its own.

    Exceptions do not leave it, because Hydra's job runner would print its own line and submitit
    would report success.
    """

    @functools.wraps(function)
    def run(cfg: DictConfig) -> None:
        try:
            code = function(cfg)
        except UserError as error:
            log.error("%s", error)
            code = 1
        except Exception:
            log.error("%s", traceback.format_exc())
            code = 1
        if code:
            sys.exit(code)

    return run


def say(text: str) -> None:
    """Print for the user, as it is."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)

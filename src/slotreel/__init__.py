"""slotreel: experiments on self-supervised object-centric learning in video.

``load`` and ``compose`` give a model to call on videos; nothing else is promised to stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slotreel.api import compose, load

__version__ = "0.1.0"
__all__ = ["__version__", "compose", "load"]


def __getattr__(name: str) -> Any:
    """The two functions, imported when they are first asked for: torch takes seconds."""
    if name in __all__:
        from slotreel import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is public, and what every module has."""
    return sorted({*globals(), *__all__})

"""What the numbers of slot health say in words, and which of them are symptoms.

Nothing here judges a score: a symptom names a section of the documentation and stops nothing.
Thresholds lie between runs that worked and runs that failed in one known way, at small scale (32x32
clips, masks of the grouper, one or two seeds each): signposts, not constants of nature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Health = Mapping[str, Mapping[str, float]]  # mask source -> name -> value
PAGE = "docs/troubleshooting.md"
CONTENT = 0.4  # place bias below which masks follow content: worked 0.15 to 0.20, fresh slots 0.48


class Threshold(NamedTuple):
    """From where on a number is a symptom."""

    name: str
    above: bool  # a symptom above the bound, else below it
    bound: float

    def crossed(self, values: Mapping[str, float]) -> bool:
        """Whether the number exists and lies beyond the bound."""
        value = values.get(self.name)
        if value is None:
            return False
        return value > self.bound if self.above else value < self.bound

    def show(self, values: Mapping[str, float]) -> str:
        """The number with its bound."""
        side = "above" if self.above else "below"
        return f"{self.name} {values[self.name]:.2f}, {side} {self.bound:g}"


ONE_SLOT = Threshold("effective_slots", False, 1.5)  # identical slots 1: the first wins all cells
BY_PLACE = Threshold("place_bias", True, 0.6)  # worked 0.15 to 0.20; cut by place 0.72 to 1.00
SYMPTOMS = {  # heading of a section of PAGE -> numbers any of which leads there
    "All slots are alike": (
        Threshold("slot_cosine", True, 0.85),  # identical slots 1.00, the worst others 0.75
        ONE_SLOT,
    ),
    "Slots cut the frame by place": (BY_PLACE,),
    "Slots change places from frame to frame": (
        Threshold("switch_rate", True, 0.3),  # worked 0.02, new slots in each frame 0.76
        Threshold("identity_margin", False, 0.0),  # worked 0.72, new slots in each frame -0.15
    ),
    "No slot wins": (
        Threshold("undecided", True, 0.7),  # worked 0.45, failed 0.80 to 1.00
    ),
    "Masks that cannot be trusted": (
        Threshold("agreement", False, 0.3),  # worked 0.48, failed 0.14 and 0.21
        Threshold("fragments", True, 1.5),  # one piece each is 1; no run was tried for it
    ),
    "Slots that own nothing": (
        Threshold("always_dead", True, 0.0),  # by definition; no run was tried for it
    ),
}


def anchor(heading: str) -> str:
    """The link to a heading, as Markdown pages are rendered."""
    return heading.lower().replace(" ", "-")


def symptoms(values: Mapping[str, float]) -> dict[str, str]:
    """What is wrong with slots, by heading: the numbers that show it and where to read on.

    Args:
        values: health of one mask source.
    """
    found = {}
    for heading, thresholds in SYMPTOMS.items():
        shown = [bound.show(values) for bound in thresholds if bound.crossed(values)]
        if shown and values.get("num_slots") != 1:
            text = f"{heading[0].lower()}{heading[1:]} ({'; '.join(shown)})"
            found[heading] = f"{text}: see {PAGE}#{anchor(heading)}"
    return found


def health_in_words(source: str, values: Mapping[str, float]) -> str:
    """One line, e.g. ``health (grouper): 4.1 of 7 slots in use, 0 dead, masks follow content ...``.

    Args:
        source: whose masks.
        values: their health.
    """
    num_slots = values["num_slots"]
    dead = round(values["always_dead"] * num_slots)
    parts = [f"{values['effective_slots']:.1f} of {num_slots:g} slots in use, {dead} dead"]
    if "place_bias" in values and not ONE_SLOT.crossed(values):  # one slot cuts nothing
        bias = values["place_bias"]
        what = "place" if BY_PLACE.crossed(values) else "content"
        what = "content and place" if CONTENT <= bias <= BY_PLACE.bound else what
        parts.append(f"masks follow {what} (place bias {bias:.2f})")
    if "switch_rate" in values:
        margin = values.get("identity_margin")
        lost = f"identity lost in {100 * values['switch_rate']:.0f} % of steps"
        parts.append(lost if margin is None else f"{lost} (margin {round(margin, 2) + 0.0:.2f})")
    if "undecided" in values:
        parts.append(f"undecided {values['undecided']:.2f}")
    if "agreement" in values:
        parts.append(f"grouper and decoder agree {values['agreement']:.2f}")
    return f"health ({source}): {', '.join(parts)}"


def flat_health(name: str, health: Health) -> dict[str, float]:
    """Values to log: ``health/<set>/<source>/<number>``.

    Args:
        name: of the set of videos.
        health: of its mask sources.
    """
    return {
        f"health/{name}/{source}/{number}": value
        for source, values in health.items()
        for number, value in values.items()
    }

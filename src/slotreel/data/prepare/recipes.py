"""The published data sets that ``scripts/prepare.py`` knows, by name."""

from __future__ import annotations

from slotreel.data.prepare import coco, davis, fbms59, jhmdb, movi, segtrack_v2, vip, ytvis, ytvos

RECIPES = {
    recipe.name: recipe
    for recipe in (
        *davis.RECIPES,
        segtrack_v2.RECIPE,
        fbms59.RECIPE,
        jhmdb.RECIPE,
        vip.RECIPE,
        ytvos.RECIPE,
        *movi.RECIPES,
        *ytvis.RECIPES,
        coco.RECIPE,
    )
}

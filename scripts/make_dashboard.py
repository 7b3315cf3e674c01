#!/usr/bin/env python
"""Build the workspace of docs/dashboards.md: seven sections that compare variants of runs in wandb.

    python scripts/make_dashboard.py runs/latest --entity me             # save it in the project
    python scripts/make_dashboard.py runs/latest --json dashboard.json   # only look: no login

RUN, one or several run directories, tells which sets, protocols and losses there are. Needs
`pip install -e .[dashboard]`, and for saving a login (`wandb login`).
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from slotreel.errors import ConfigError, DataError, UserError
from slotreel.files import write_text
from slotreel.runtime.rows import read_rows
from slotreel.runtime.wandb_sink import has_login

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws

NAME = "slotreel: what works, why, where it fails"
HEADLINES = ("fg_ari_video", "mbo_video", "jf", "mean_iou", "pck_0.1")
HEALTH = (  # shown together and beside a score: each of them alone praises some failure
    "identity_margin", "place_bias", "switch_rate", "agreement", "undecided", "effective_slots",
)  # fmt: skip
FAILURES = {  # title -> patterns of health/<set>/<source>/...
    "FG-ARI by number of objects": ("fg_ari_*object*",),
    "FG-ARI by frame of the clip (drift)": ("fg_ari_frames_*",),
    "mBO by size": ("mbo_*",),
    "Too many slots, too few, lost objects": (
        "slots_per_object", "objects_per_slot", "background_leak", "id_switches", "identity_cost",
        "same_slot_after_gap",
    ),
}  # fmt: skip
COSTS = {  # title -> patterns
    "Loss terms": ("train/loss/*",),
    "Shares of the loss": ("train/share/*",),
    "Explained variance of the target": ("train/*r2",),
    "Contrast: found at first, chance": ("train/contrast_*",),
    "Gradient norms": ("train/grad_norm/*",),
    "Learning rates": ("train/lr/*",),
    "Clips per second": ("perf/clips_s",),
    "Step and waiting for data, ms": ("perf/step_ms", "perf/data_ms"),
    "Peak memory, GB": ("perf/peak_gb",),
}
MATTERS = ("variant", "choice/grouper", "choice/losses", "choice/backbone", "num_slots", "seed")


class Keys:
    """Keys that runs logged.

    Args:
        keys: of ``metrics.jsonl``.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.all = sorted(set(keys))

    def like(self, *patterns: str) -> list[str]:
        """Those that match any of the shell patterns."""
        return [k for k in self.all if any(fnmatch.fnmatchcase(k, p) for p in patterns)]

    def columns(self) -> list[str]:
        """``<set>/<protocol>`` of every score."""
        return sorted({"/".join(key.split("/")[1:3]) for key in self.like("val/*/*/*")})

    def headlines(self, column: str) -> list[str]:
        """The scores of a column that titles name."""
        return [key for name in HEADLINES if (key := f"val/{column}/{name}") in self.all]

    def health(self, column: str, *patterns: str) -> list[str]:
        """Numbers of slot health of a column's set, of every mask source."""
        of_set = column.split("/")[0]
        return self.like(*(f"health/{of_set}/*/{pattern}" for pattern in patterns))


def build(keys: Keys, entity: str, project: str) -> ws.Workspace:
    """The workspace of seven sections, runs grouped by ``variant``: mean over seeds and band.

    Raises:
        ConfigError: wandb-workspaces is not installed; DataError: no score was logged.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ConfigError(f"{error}; type pip install -e .[dashboard]") from error
    columns = keys.columns()
    if not columns:
        raise DataError("expected runs that were validated; none of them logged val/…")
    panels = _Panels(wr)
    first = columns[0]
    scores = [key for column in columns for key in keys.headlines(column)]
    skills = keys.like(*(f"{key}/skill" for key in scores))
    sections = {
        "1 Scoreboard": [
            *(panels.bar(key, [key]) for key in [*scores, *skills]),
            *(panels.scatter(*keys.headlines(c)[:2]) for c in columns if keys.headlines(c)[1:]),
            *(panels.bar(key, [key]) for key in keys.health(first, *HEALTH)),
        ],
        "2 Curves": [
            *(panels.line(f"{key} over {x}", [key], x) for key in scores for x in
              ("clips_seen", "gpu_hours")),
            *(panels.line(key, [key], "clips_seen") for key in keys.health(first, *HEALTH)),
        ],
        "3 Health": [
            panels.line(f"{column.split('/')[0]}: {name}", found)
            for column in columns
            for name in HEALTH
            if (found := keys.health(column, name))
        ] + [panels.line(key, [key]) for key in skills],
        "4 Where it fails": [
            panels.bar(f"{column.split('/')[0]}: {title}", found)
            for column in columns
            for title, patterns in FAILURES.items()
            if (found := keys.health(column, *patterns))
        ] + [wr.WeavePanelSummaryTable(table_name=f"eval/{column}") for column in columns],
        "5 Masks": [panels.masks(column.split("/")[0]) for column in columns],
        "6 Optimisation and cost": [
            panels.line(title, found)
            for title, patterns in COSTS.items()
            if (found := keys.like(*patterns))
        ],
        "7 What mattered": [*panels.reasons(keys.headlines(first))],
    }  # fmt: skip
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            ws.Section(name=name, panels=found, is_open=True) for name, found in sections.items()
        ],
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=100),
        runset_settings=ws.RunsetSettings(groupby=[ws.Config("variant")]),
    )


class _Panels:
    """Panels with runs grouped by ``variant``.

    Args:
        wr: the module ``wandb_workspaces.reports.v2``, which is not always installed.
    """

    def __init__(self, wr: Any) -> None:
        self.wr = wr
        self.grouped = {
            "groupby": wr.Config("variant"),
            "groupby_aggfunc": "mean",
            "groupby_rangefunc": "stddev",
        }

    def bar(self, title: str, metrics: list[str]) -> Any:
        """Last values: rows without training stand among the runs."""
        return self.wr.BarPlot(title=title, metrics=metrics, **self.grouped)

    def line(self, title: str, metrics: list[str], x: str = "step") -> Any:
        """A curve per variant and key."""
        return self.wr.LinePlot(title=title, x=x, y=metrics, **self.grouped)

    def scatter(self, x: str, y: str) -> Any:
        """One score over the other: which variants win only one of them."""
        metric = self.wr.SummaryMetric
        return self.wr.ScatterPlot(title=f"{y} over {x}", x=metric(x), y=metric(y))

    def masks(self, name: str) -> Any:
        """The same clips of all runs, with a slider over steps."""
        clips = [f"media/{name}/clip_{index:02d}" for index in range(8)]
        return self.wr.MediaBrowser(title=f"{name}: masks", media_keys=clips, num_columns=2)

    def reasons(self, headlines: list[str]) -> list[Any]:
        """Which settings go with the score, and in which runs differ."""
        found = [self.wr.RunComparer(diff_only="split")]
        for headline in headlines[:1]:
            column = self.wr.ParallelCoordinatesPlotColumn
            axes = [column(metric=self.wr.Config(name)) for name in MATTERS]
            axes.append(column(metric=self.wr.SummaryMetric(headline)))
            found.append(self.wr.ParallelCoordinatesPlot(title="Settings", columns=axes))
            found.append(self.wr.ParameterImportancePlot(with_respect_to=headline))
        return found


def read_keys(runs: list[Path]) -> Keys:
    """All keys that the runs logged.

    Raises:
        DataError: one of them is no run directory.
    """
    for run in runs:
        if not (run / "metrics.jsonl").is_file():
            raise DataError(f"{run}: expected a run directory, there is no metrics.jsonl")
    rows = [row for run in runs for row in read_rows(run / "metrics.jsonl").by_step.values()]
    return Keys(key for row in rows for key in row)


def _project(run: Path) -> str:
    config = run / "config.yaml"
    stored = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return (stored.get("logger") or {}).get("project") or "slotreel"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories")
    parser.add_argument("--entity", help="user or team of wandb; default: WANDB_ENTITY")
    parser.add_argument("--project", help="default: that of the first run")
    parser.add_argument("--json", type=Path, help="write the workspace here instead of saving it")
    options = parser.parse_args(arguments)
    try:
        entity = options.entity or os.environ.get("WANDB_ENTITY", "")
        project = options.project or _project(options.runs[0])
        if not options.json and not (entity and has_login()):
            raise ConfigError(
                "saving a workspace needs an account: type wandb login, then --entity NAME; "
                "or --json FILE to look at what would be saved"
            )
        workspace = build(read_keys(options.runs), entity or "nobody", project)
        if options.json:
            model = workspace._to_model()  # the only way to see what save() would send
            write_text(options.json, model.model_dump_json(by_alias=True, indent=2) + "\n")
            print(f"wrote {options.json}: {len(workspace.sections)} sections")
        else:
            workspace.save()
            print(f"saved {workspace.url}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # whatever wandb raises: no network, no such project
        print(f"error: wandb did not save the workspace: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""J&F tables in the files and columns of the DAVIS-2017 evaluation."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from slotreel.files import replacing
from slotreel.protocols.score_table import ScoreTable

GLOBAL = {  # official column -> our metric
    "J&F-Mean": "jf",
    "J-Mean": "j",
    "J-Recall": "j_recall",
    "J-Decay": "j_decay",
    "F-Mean": "f",
    "F-Recall": "f_recall",
    "F-Decay": "f_decay",
}


def has_davis_columns(table: ScoreTable) -> bool:
    """Whether all official numbers were measured."""
    return set(GLOBAL.values()) <= table.means().keys()


def davis_columns(table: ScoreTable) -> list[tuple[str, str]]:
    """Official columns with their values in 0..1, three decimals."""
    means = table.means()
    return [(column, f"{means[metric]:.3f}") for column, metric in GLOBAL.items()]


def write_davis_csv(directory: Path, table: ScoreTable, split: str) -> list[Path]:
    """Write ``global_results-SPLIT.csv`` and ``per-sequence_results-SPLIT.csv``.

    Rows of the second are objects, called SEQUENCE_1, SEQUENCE_2, ... in the order of their ids.
    Differs: the unsupervised official program names objects by matched proposal; ours are the
    truth's ids. Means are not affected.

    Args:
        directory: where the files go.
        table: scores with J and F of every object.
        split: part of the files' names, e.g. ``val``.
    """
    columns = davis_columns(table)
    head, values = zip(*columns, strict=True)
    objects = [
        [f"{video}_{name}", f"{scores['j']:.3f}", f"{scores['f']:.3f}"]
        for video, facts in sorted(table.facts.items())
        for name, scores in facts.per_object.items()
        if {"j", "f"} <= scores.keys()
    ]
    return [
        _write(directory / f"global_results-{split}.csv", head, [values]),
        _write(
            directory / f"per-sequence_results-{split}.csv",
            ("Sequence", "J-Mean", "F-Mean"),
            objects,
        ),
    ]


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
    return path

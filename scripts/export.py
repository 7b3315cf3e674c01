#!/usr/bin/env python
"""Make one folder of a run: weights, configuration, scores and a model card, to keep or to publish.

    python scripts/export.py runs/latest my_model
    python scripts/export.py runs/latest my_model --licence cc-by-4.0 --push user/my_model

RUN is a run directory (its newest readable checkpoint), a checkpoint file or such a folder.
slotreel.load("my_model"), ./eval.py checkpoint=my_model and ./predict.py checkpoint=my_model read
the folder. Frozen weights that can be had again are left out; --full writes them too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from slotreel.errors import CheckpointError, UserError
from slotreel.files import write_json, write_text
from slotreel.loading import load_checkpoint, run_directory
from slotreel.training import checkpoint
from slotreel.training.exported import CONFIG, WEIGHTS, write_exported

SCORES, TABLE, CARD, SUMS = "scores.json", "scores.md", "README.md", "SHA256SUMS"
FILES = (WEIGHTS, CONFIG, SCORES, TABLE, CARD)  # all that is written, summed and uploaded
PARTS = (
    "backbone", "projector", "initializer", "grouper", "predictor", "decoder", "tokenizer",
)  # fmt: skip


def export(run: Path, out: Path, *, licence: str | None = None, full: bool = False) -> list[Path]:
    """Write the folder.

    Args:
        run: what ``checkpoint=`` takes.
        out: the folder; an earlier export there is replaced.
        licence: stated in the model card.
        full: also write frozen weights that could be had again.

    Returns:
        The files.

    Raises:
        CheckpointError: no such run, or ``out`` holds something else.
    """
    path, content = checkpoint.find(run)
    if out.exists() and not (out / WEIGHTS).is_file() and (out.is_file() or any(out.iterdir())):
        raise CheckpointError(f"{out} holds something else; name a new folder")
    if out.resolve() == path.parent.resolve():
        raise CheckpointError(f"{out} is where the weights come from; name another folder")
    if full and not checkpoint.holds_everything(content):
        whole = load_checkpoint(path).objective.state_dict()
        content = {**content, "objective": whole, "frozen": {}}
    write_exported(out, content)
    scores = _copy_scores(run_directory(path), out, content["step"])
    write_text(out / CARD, card(out.resolve().name, content, scores, licence))
    files = [out / name for name in FILES if (out / name).is_file()]
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    write_text(out / SUMS, "".join(sums))
    return [*files, out / SUMS]


def _copy_scores(source: Path, out: Path, step: int) -> dict[str, Any] | None:
    """Scores of the run if they are of this step, with their table; older ones are removed."""
    for name in (SCORES, TABLE):
        (out / name).unlink(missing_ok=True)
    if not all((source / name).is_file() for name in (SCORES, TABLE)):
        return None
    scores: dict[str, Any] = json.loads((source / SCORES).read_text(encoding="utf-8"))
    protocols = [one for of_set in scores["sets"].values() for one in of_set.values()]
    if not any(row["step"] == step for one in protocols for row in one["rows"]):
        return None
    scores["checkpoint"] = WEIGHTS  # where it was trained means nothing elsewhere
    write_json(out / SCORES, scores)
    shutil.copyfile(source / TABLE, out / TABLE)
    scores["table"] = (source / TABLE).read_text(encoding="utf-8").strip()
    return scores


# --- the model card --------------------------------------------------------------------------


def card(
    name: str, content: dict[str, Any], scores: dict[str, Any] | None, licence: str | None
) -> str:
    """The model card as Markdown.

    Args:
        name: of the model.
        content: of the checkpoint.
        scores: of the run, with their ``table``; None if there are none of this step.
        licence: of the weights.
    """
    config = yaml.safe_load(content["config"])
    head = {"library_name": "slotreel", "tags": ["video", "object-centric-learning"]}
    if licence:
        head["license"] = licence
    table = scores["table"] if scores else "None of this step were found beside the checkpoint."
    rows = "".join(f"| {key} | {value} |\n" for key, value in _facts(content, config, scores))
    return f"""---
{yaml.safe_dump(head, sort_keys=False)}---

# {name}

A slotreel model that segments video into objects.

    import slotreel
    m = slotreel.load("{name}")  # this folder
    out = m(video)  # uint8 (T, H, W, 3) -> out.slots, out.masks, out.labels

Or `./predict.py checkpoint={name} input=VIDEO.mp4 output=out`, `./eval.py checkpoint={name}`.

| | |
|---|---|
{rows}| licence | {licence or "not stated"} |

## Scores

{table}
"""


def _facts(
    content: dict[str, Any], config: dict[str, Any], scores: dict[str, Any] | None
) -> list[tuple[str, Any]]:
    parts = [
        f"{part} `{_target(config[part])}`" for part in PARTS if _target(config.get(part) or {})
    ]
    data = config.get("dataset") or {}
    sets = [*(data.get("validation") or {}), *(config.get("validate") or {})]
    code = f"slotreel {content['version']}"
    if scores and scores.get("git"):
        code += f", git {scores['git']}" + (" with changes" if scores.get("dirty") else "")
    facts = [
        ("model", f"`{_target(config.get('model') or {})}`: {', '.join(parts)}"),
        ("losses", ", ".join(f"`{loss}`" for loss in config.get("losses") or {})),
        ("slots", config.get("num_slots")),
        ("frames", f"{config.get('image_size')} pixels, clips of {config.get('clip_length')}"),
        ("data", f"`{_target(data.get('source') or {})}`"),
        ("validated on", ", ".join(f"`{name}`" for name in sets) or "nothing"),
        ("steps", content["step"]),
        ("seed", config.get("seed")),
        ("code", code),
    ]
    for prefix, reference in (content.get("frozen") or {}).items():
        where = f"`{reference['origin']}`, sha256 `{reference['sha256']}`"
        facts.append((f"`{prefix}`", f"frozen and not in this folder: {where}"))
    return facts


def _target(spec: dict[str, Any]) -> str:
    """The class a part of the configuration names."""
    return str(spec.get("_target_") or "").rpartition(".")[2]


# --- publishing ------------------------------------------------------------------------------


def push(folder: Path, repository: str) -> str:
    """Upload the files to the Hugging Face hub; returns the address.

    Raises:
        CheckpointError: huggingface_hub is missing, or the hub refuses.
    """
    by_hand = f"or upload the files of {folder} by hand at https://huggingface.co/new"
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise CheckpointError(
            f"--push needs huggingface_hub; type pip install huggingface_hub, {by_hand}"
        ) from error
    try:
        hub = HfApi()
        hub.create_repo(repository, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=[*FILES, SUMS])
    except Exception as error:  # it has many kinds: login, network, names
        raise CheckpointError(
            f"could not upload to {repository} ({type(error).__name__}: {error}); log in with "
            f"`hf auth login` and name it USER/NAME, {by_hand}"
        ) from error
    return f"https://huggingface.co/{repository}"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory or a checkpoint")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument("--licence", help="of the weights, e.g. cc-by-4.0; stated in the card")
    parser.add_argument("--full", action="store_true", help="also frozen weights of known origin")
    parser.add_argument("--push", metavar="USER/NAME", help="upload to the Hugging Face hub")
    options = parser.parse_args(arguments)
    try:
        files = export(options.run, options.out, licence=options.licence, full=options.full)
        lines = [f"{file.stat().st_size:>12}  {file}" for file in files]
        if options.push:
            lines.append(f"uploaded to {push(options.out, options.push)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Console(soft_wrap=True).print("\n".join(lines), highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

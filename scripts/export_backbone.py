#!/usr/bin/env python
"""Cut the backbone out of a checkpoint into a weights file of its own.

    python scripts/export_backbone.py runs/latest tiny_vit.safetensors

RUN is a run directory (its newest readable checkpoint) or a .pt file. `backbone.weights=FILE` reads
the result; the shipped weights were made this way from `experiment=tiny_vit`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from slotreel.errors import CheckpointError, UserError
from slotreel.files import replacing
from slotreel.training.checkpoint import find

PREFIXES = ("model.backbone.", "backbone.")  # of a slot model, of a pretraining objective


def backbone_of(objective: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """The backbone's tensors by its own names.

    Args:
        objective: state dict of the whole objective.
        where: the checkpoint, for errors.

    Raises:
        CheckpointError: it has no backbone with parameters.
    """
    for prefix in PREFIXES:
        cut = {k[len(prefix) :]: v for k, v in objective.items() if k.startswith(prefix)}
        if cut:
            return {name: value.contiguous() for name, value in cut.items()}
    parts = ", ".join(sorted({name.split(".")[0] for name in objective})) or "nothing"
    raise CheckpointError(
        f"{where}: expected names that begin with {' or '.join(PREFIXES)}, found {parts}; give a "
        "run whose backbone has weights, e.g. of ./train.py experiment=tiny_vit"
    )


def export(run: Path, out: Path) -> tuple[str, int]:
    """Write the backbone of a run; the file appears under its name once it is complete.

    Args:
        run: a run directory or a checkpoint.
        out: the .safetensors file to write.

    Returns:
        SHA-256 and size in bytes of the file.

    Raises:
        CheckpointError: no such run, no backbone in it, or ``out`` has another suffix.
    """
    if out.suffix != ".safetensors":
        raise CheckpointError(f"expected OUT to end in .safetensors, got {out}")
    path, content = find(run)
    tensors = backbone_of(content["objective"], str(path))
    with replacing(out) as temporary:
        save_file(tensors, temporary)
    written = out.read_bytes()
    return hashlib.sha256(written).hexdigest(), len(written)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory or a .pt file")
    parser.add_argument("out", type=Path, metavar="OUT", help="the .safetensors file to write")
    options = parser.parse_args(arguments)
    try:
        digest, size = export(options.run, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    console = Console(soft_wrap=True)
    console.print(f"{options.out}: {size} bytes, sha256 {digest}", highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

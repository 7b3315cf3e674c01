"""Who may import whom: the direction of style, checked on the source itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "slotreel"
BASE = {"types", "interfaces", "noise", "errors"}
COMPONENTS = {
    "backbones", "projectors", "initializers", "groupers", "predictors", "decoders", "losses",
    "tokenizers",
}  # fmt: skip
ALLOWED = {
    "errors": set(),
    "noise": set(),
    "types": set(),
    "interfaces": BASE,
    "layers": BASE | {"layers"},
    **{name: BASE | {"layers"} for name in COMPONENTS},
    "data": BASE | {"data"},
    "metrics": BASE | {"metrics"},
    "streaming": BASE | {"data"},
    "protocols": BASE | {"data", "inference", "layers", "protocols", "streaming"},
    "propagation": BASE | {"layers", "propagation", "streaming"},
    "features_only": BASE,
    "results": BASE | {"data", "files", "protocols"},
    "baselines": BASE | {"baselines", "streaming"},
    "model": BASE,
    "slot_stream": BASE | {"model"},
    "ema": {"errors"},
    "objective": BASE | {"slot_stream", "model", "ema"},
    "runtime": {"errors", "files", "runtime"},
    "frozen": BASE,
    "feature_cache": BASE
    | {"assemble", "data", "feature_cache", "files", "fingerprint", "frozen", "model", "runtime"},
    "training": BASE | {"training", "frozen", "runtime", "protocols", "data", "files", "__init__"},
}
FILES = sorted(SRC.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Second part of every ``slotreel.x`` imported anywhere in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("slotreel.")}
    return found


def room(path: Path) -> str:
    """Top-level module or package of a file."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def test_files_are_found() -> None:
    assert len(FILES) > 40


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_direction(path: Path) -> None:
    name = room(path)
    if name in ALLOWED:
        extra = imports(path) - ALLOWED[name]
        assert not extra, f"{path.name} may not import slotreel.{', slotreel.'.join(extra)}"


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if room(p) in COMPONENTS],
    ids=lambda p: p.relative_to(SRC).as_posix(),
)
def test_options_do_not_import_each_other(path: Path) -> None:
    tree = ast.parse(path.read_text())
    modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    siblings = [m for m in modules if m.startswith(f"slotreel.{room(path)}")]
    assert not siblings, f"what {path.name} shares with {siblings} belongs in slotreel.layers"


@pytest.mark.parametrize("name", ["training", "runtime", "model", "objective"])
def test_the_loop_never_sees_the_configuration(name: str) -> None:
    for path in FILES:
        if room(path) == name:
            imported = [n for n in ast.walk(ast.parse(path.read_text())) if _is_import(n)]
            text = " ".join(ast.unparse(node) for node in imported)
            assert "omegaconf" not in text, path
            assert "hydra" not in text, path


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)

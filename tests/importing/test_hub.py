"""hub:NAME: fetched, checked and imported once, or told what to fetch and where to put it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from slotreel.errors import CheckpointError
from slotreel.importing import hub
from slotreel.importing.convert import PRESETS, import_checkpoint
from slotreel.loading import load_checkpoint
from slotreel.training import checkpoint
from tests.importing import published_layout as layout
from tests.running import CONF

KIND = layout.KINDS["slotcontrast", "movi_c"]
NAME = "slotcontrast/movi_c"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slotreel"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """The published file, where its authors keep it."""
    path = tmp_path / "remote" / "movi_c.ckpt"
    path.parent.mkdir()
    torch.save(layout.lightning(layout.hollow_state(layout.shapes(KIND))), path)
    return path


@pytest.fixture
def table(tmp_path: Path, remote: Path) -> Callable[..., Path]:
    """A table of one name."""

    def write(**changes: Any) -> Path:
        entry = {"url": remote.as_uri(), "sha256": None, "source": "slotcontrast"}
        entry |= {"preset": "movi_c", "licence": "MIT", "published": [69.3, 32.7]}
        path = tmp_path / "table.yaml"
        path.write_text(yaml.safe_dump({NAME: entry | changes}))
        return path

    return write


def test_a_name_is_fetched_once(cache: Path, remote: Path, table: Callable[..., Path]) -> None:
    sha256 = hashlib.sha256(remote.read_bytes()).hexdigest()
    where = hub.locate(f"hub:{NAME}", table(sha256=sha256))
    assert where == cache / "checkpoints" / NAME
    _, content = checkpoint.find(where)
    assert content["imported"]["sha256"] == sha256
    assert checkpoint.holds_everything(content)  # nothing else has to be fetched
    assert not list((cache / "downloads").rglob("*.ckpt"))
    remote.unlink()
    assert hub.locate(f"hub:{NAME}", table()) == where


def test_two_at_once_fetch_once(
    table: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    written = table()
    threads = [threading.Thread(target=hub.locate, args=(f"hub:{NAME}", written)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("fetching" in record.message for record in caplog.records) == 1


def test_another_file_than_the_published_one(cache: Path, table: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=f"is {'0' * 64}; remove the file and fetch file:"):
        hub.locate(f"hub:{NAME}", table(sha256="0" * 64))
    assert not (cache / "checkpoints" / NAME).exists()


def test_without_a_network(cache: Path, remote: Path, table: Callable[..., Path]) -> None:
    put = cache / "downloads" / "slotcontrast" / "movi_c.ckpt"
    away = remote.rename(remote.with_suffix(".away"))
    with pytest.raises(CheckpointError) as caught:
        hub.locate(f"hub:{NAME}", table())
    assert f"fetch {remote.as_uri()} where there is a network, put it at {put}" in str(caught.value)
    away.rename(put)
    assert hub.locate(f"hub:{NAME}", table()).is_dir()
    assert put.is_file()  # the user's own file stays


def test_a_file_behind_a_page_for_people(
    cache: Path, remote: Path, table: Callable[..., Path]
) -> None:
    put = cache / "downloads" / "slotcontrast" / "mine.ckpt"
    by_hand = table(url="https://example.org/page", file="mine.ckpt")
    with pytest.raises(CheckpointError) as caught:
        hub.locate(f"hub:{NAME}", by_hand)
    assert f"Open https://example.org/page and follow its link, put the file at {put}" in str(
        caught.value
    )
    put.parent.mkdir(parents=True)
    remote.rename(put)
    assert hub.locate(f"hub:{NAME}", by_hand).is_dir()


def test_an_unknown_name() -> None:
    with pytest.raises(CheckpointError, match=r"did you mean: .*slotcontrast/movi_c"):
        hub.locate("hub:slotcontrast/movi_d")


def test_paths_are_left_alone() -> None:
    assert hub.locate("runs/latest") == Path("runs/latest")


def test_commands_take_a_name(cache: Path, tmp_path: Path) -> None:
    small = layout.random_state(layout.shapes(KIND._replace(depth=1, P=16)))
    torch.save(layout.lightning(small), tmp_path / "x.ckpt")
    typed = ["+backbone.model_args.depth=1", "image_size=56"]
    out = cache / "checkpoints" / NAME
    import_checkpoint(
        tmp_path / "x.ckpt", "slotcontrast", "movi_c", out, full=True, overrides=typed
    )
    loaded = load_checkpoint(f"hub:{NAME}")
    assert loaded.directory == out
    state = loaded.objective.state_dict()
    assert torch.equal(state["model.initializer.slots"], small["initializer.slots"])


def test_the_table_agrees_with_the_experiments() -> None:
    every = hub.entries()
    assert set(every) == {f"{source}/{preset}" for source in PRESETS for preset in PRESETS[source]}
    for name, entry in every.items():
        assert name == f"{entry.source}/{entry.preset}"
        assert entry.url.startswith("https://")
        assert entry.url.endswith(".ckpt") or entry.file == f"{entry.preset}.pth"
        experiment = CONF / "experiment" / f"{entry.source}_{entry.preset}.yaml"
        papers = yaml.safe_load(experiment.read_text())["published"]
        assert entry.published == [pytest.approx(100 * paper["value"]) for paper in papers]

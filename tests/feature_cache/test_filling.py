"""Killed, out of room or told twice: what is whole stays, and the same command goes on."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slotreel.errors import ConfigError, DataError
from slotreel.feature_cache.store import FeatureStore
from slotreel.files import held
from tests.feature_cache.conftest import filling


def failing(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> list[int]:
    """Make the write after so many fail; returns the numbers of shards that were written."""
    done: list[int] = []
    real = FeatureStore.write

    def write(self: FeatureStore, shard: int, features: dict[str, Tensor]) -> None:
        if len(done) == after:
            raise error
        real(self, shard, features)
        done.append(shard)

    monkeypatch.setattr(FeatureStore, "write", write)
    return done


def test_a_killed_command_goes_on(
    tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        done = failing(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            filling(tmp_path).write()
        assert done == [0, 1, 2]
    (tmp_path / ".00003.123.safetensors").write_bytes(b"half")  # what a SIGKILL leaves
    torn = FeatureStore(tmp_path).path(1)
    torn.write_bytes(torn.read_bytes()[:-1])
    again = filling(tmp_path)
    assert "2 of 8 shards are there" in again.announce()
    done = failing(monkeypatch, 99, KeyboardInterrupt())
    store = again.write()
    assert done == [1, 3, 4, 5, 6, 7]
    assert not list(tmp_path.glob(".0*"))
    exact = FeatureStore(features)
    for video in range(4):
        stored, wanted = (s.read(video, range(6), variant=1) for s in (store, exact))
        assert torch.equal(stored["tokens"], wanted["tokens"])


def test_a_full_disk_keeps_what_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, 2, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DataError, match=r"No space left.*2 of 8 shards are whole and stay.*again"):
        filling(tmp_path).write()
    assert FeatureStore(tmp_path).missing() == [2, 3, 4, 5, 6, 7]
    assert all(FeatureStore(tmp_path).whole(shard) for shard in (0, 1))


def test_too_small_a_disk_is_said_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    planned = filling(tmp_path / "new" / "folder")
    planned.check_room()
    bytes_needed = planned.layout.total_bytes
    assert bytes_needed == 4 * 6 * 16 * 128 * 4 * 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, bytes_needed - 1))
    with pytest.raises(DataError, match=r"needs 0\.39 MB more.*0\.39 MB left.*--dtype fp8"):
        planned.check_room()
    assert not (tmp_path / "new").exists()


def test_two_commands_do_not_write_at_once(tmp_path: Path) -> None:
    with held(tmp_path / ".lock"), pytest.raises(ConfigError, match="another process writes"):
        filling(tmp_path).write()


def test_other_features_are_not_mixed_in(features: Path) -> None:
    with pytest.raises(ConfigError, match="dtype: fp32 there, bf16 here"):
        filling(features, dtype="bf16")
    with pytest.raises(ConfigError, match="--dtype fp16"):
        filling(features, dtype="fp16")
    with pytest.raises(ConfigError, match=r"weights: [0-9a-f]+ there"):
        filling(features, "seed=1")

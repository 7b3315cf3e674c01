"""What is written is what is read, whichever frames are asked for; damage is named."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slotreel.errors import DataError
from slotreel.feature_cache.layout import DTYPES, Layout, name_of, pack, unpack
from slotreel.feature_cache.store import FeatureStore

FIELDS = {"tokens": (2, 3), "cls": (3,)}


def written(
    folder: Path, lengths: list[int], variants: int = 1, dtype: str = "fp32", shard: int = 64
) -> tuple[FeatureStore, dict[str, Tensor]]:
    """A cache of random numbers, and those numbers laid end to end."""
    layout = Layout.plan(lengths, variants, FIELDS, dtype, shard_bytes=shard)
    store = FeatureStore.create(folder, layout, (1, 2), {"what": "numbers"}, {})
    total = sum(lengths)
    whole = {
        name_of(v, f): torch.randn(total, *shape)
        for v in range(variants)
        for f, shape in FIELDS.items()
    }
    for shard in range(layout.num_shards):
        rows = slice(shard * layout.frames_per_shard, (shard + 1) * layout.frames_per_shard)
        store.write(shard, {name: x[rows] for name, x in whole.items()})
    return FeatureStore(folder), whole


@settings(max_examples=15, deadline=None)
@given(data=st.data(), lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
       variants=st.integers(1, 2), shard=st.integers(1, 400))  # fmt: skip
def test_any_frames_read_back_as_written(
    data: st.DataObject, lengths: list[int], variants: int, shard: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, whole = written(Path(folder), lengths, variants, shard=shard)
        video = data.draw(st.integers(0, len(lengths) - 1))
        frames = data.draw(st.lists(st.integers(0, lengths[video] - 1), min_size=1, max_size=6))
        variant = data.draw(st.integers(0, variants - 1))
        found = store.read(video, frames, variant)
        rows = [sum(lengths[:video]) + frame for frame in frames]
        assert found.keys() == FIELDS.keys()
        for field, x in found.items():
            assert torch.equal(x, whole[name_of(variant, field)][rows])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(sum), st.integers(1, 12))
def test_shards_hold_every_frame_once(lengths: list[int], per_shard: int) -> None:
    layout = Layout(tuple(lengths), 1, FIELDS, "fp32", per_shard)
    held = [
        (video, frame, shard)
        for shard in range(layout.num_shards)
        for video, frames in layout.pieces(shard)
        for frame in frames
    ]
    assert [(v, f) for v, f, _ in held] == [(v, f) for v, n in enumerate(lengths) for f in range(n)]
    assert all(layout.place(video, frame)[0] == shard for video, frame, shard in held)


@given(st.floats(1e-6, 1e6), st.integers(0, 99))
def test_smaller_types_lose_what_their_digits_say(size: float, seed: int) -> None:
    x = size * torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(seed))
    bf16 = unpack(*stored(x, "bf16"))
    assert ((bf16.float() - x).abs() <= x.abs() * 2**-8).all()
    fp8 = unpack(*stored(x, "fp8")).float()
    largest = x.abs().amax(-1, keepdim=True)  # below it is a floor: 2 ** -10 of a unit of 1 / 224
    assert ((fp8 - x).abs() <= x.abs() * 2**-4 + largest * 2**-10 / 224).all()


def stored(x: Tensor, dtype: str) -> tuple[Tensor, Tensor | None]:
    packed = pack("x", x, dtype)
    assert packed["x"].dtype == DTYPES[dtype]
    return packed["x"], packed.get("x.scale")


def test_zeros_survive_fp8() -> None:
    assert torch.equal(unpack(*stored(torch.zeros(2, 3), "fp8")).float(), torch.zeros(2, 3))


def test_size_is_announced_to_the_byte_but_for_headers(tmp_path: Path) -> None:
    for dtype in DTYPES:
        store, _ = written(tmp_path / dtype, [4, 3], 2, dtype, shard=10**6)
        data = store.path(0).stat().st_size - 8
        header = int.from_bytes(store.path(0).read_bytes()[:8], "little")
        assert data - header == store.layout.total_bytes


def test_a_copy_in_another_process_reads_the_same(tmp_path: Path) -> None:
    store, whole = written(tmp_path, [3])
    store.read(0, [0])  # opens a shard, which cannot be sent
    copy = pickle.loads(pickle.dumps(store))
    assert torch.equal(copy.read(0, [2])["cls"], whole["0.cls"][2:])


def test_damage_is_named(tmp_path: Path) -> None:
    store, _ = written(tmp_path / "a", [9])
    other, _ = written(tmp_path / "b", [9, 1])
    assert all(store.whole(n) for n in range(store.layout.num_shards))
    content = bytearray(store.path(0).read_bytes())
    content[-1] ^= 1  # one bit of one number
    store.path(0).write_bytes(content)
    assert not FeatureStore(store.folder).whole(0)
    store.path(1).write_bytes(store.path(1).read_bytes()[:-5])
    store.path(2).write_bytes(other.path(2).read_bytes())
    store.path(3).unlink()
    fresh = FeatureStore(store.folder)
    per = fresh.layout.frames_per_shard
    for shard, words in ((1, "damaged"), (2, "another cache"), (3, "is missing")):
        with pytest.raises(DataError, match=f"{fresh.path(shard).name}.*{words}"):
            fresh.read(0, [shard * per])
    assert fresh.missing() == [3]


def test_a_folder_without_features_says_how_to_write_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cache_features\.py --out"):
        FeatureStore(tmp_path)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        FeatureStore(tmp_path)

"""The masked autoencoder, the export of its backbone, and the weights in the package."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from slotreel.backbones.tiny_vit import TinyViT, shipped_weights
from slotreel.data.sources.mixed import MixedVideos
from slotreel.data.sources.moving_shapes import MovingShapes
from slotreel.errors import CheckpointError, ConfigError
from slotreel.noise import Noise
from slotreel.pretraining.masked_autoencoder import MaskedAutoencoder
from slotreel.training.checkpoint import checkpoint_path
from slotreel.types import Batch, Progress, VideoInfo
from tests import running

SIZE = (32, 48)  # a grid of 4 x 6
SPEC = importlib.util.spec_from_file_location(
    "export_backbone", running.ROOT / "scripts" / "export_backbone.py"
)
assert SPEC is not None
assert SPEC.loader is not None
export_backbone = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(export_backbone)


def autoencoder(**knobs: object) -> MaskedAutoencoder:
    torch.manual_seed(1)
    backbone = TinyViT(width=32, depth=2, weights="random", frozen=False)
    options = {"decoder_width": 16, **knobs}
    return MaskedAutoencoder(backbone=backbone, noise=Noise(5), image_size=SIZE, **options)


def clips(num: int = 2, frames: int = 3) -> Tensor:
    return torch.rand(num, frames, 3, *SIZE, generator=torch.Generator().manual_seed(2))


def batch(video: Tensor) -> Batch:
    return Batch((video,), torch.zeros(video.shape[:2]), torch.arange(len(video)))


@pytest.mark.parametrize(("ratio", "hidden"), [(0.75, 18), (0.5, 12), (0.04, 1)])
def test_the_ratio_says_how_many_patches_are_hidden(ratio: float, hidden: int) -> None:
    model = autoencoder(mask_ratio=ratio)
    order = model.shuffle(clips(), Noise(0))
    assert order.shape == (6, 24)
    assert torch.equal(order.sort().values, torch.arange(24).expand(6, 24))
    assert model.errors(clips().flatten(0, 1), order).shape == (6, hidden)


def test_masks_depend_on_seed_step_and_clip_only() -> None:
    model, video = autoencoder(), clips(4)
    first, again = (model.training_step(batch(video), Progress(7, 10)).total for _ in range(2))
    other = model.training_step(batch(video), Progress(8, 10)).total
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    whole = model.shuffle(video, Noise(3))
    halves = enumerate(video.chunk(2))
    parts = [model.shuffle(half, Noise(3, rank=rank, world_size=2)) for rank, half in halves]
    assert torch.equal(torch.cat(parts), whole)
    assert len(whole.unique(dim=0)) == len(whole)  # frames of a clip have masks of their own


def test_only_hidden_patches_count(monkeypatch: pytest.MonkeyPatch) -> None:
    model, frames = autoencoder(), clips().flatten(0, 1)
    order = model.shuffle(clips(), Noise(0))
    before = model.errors(frames, order)
    target = model.targets(frames)
    visible = order[:, model.num_hidden :].unsqueeze(-1).expand(-1, -1, target.shape[-1])
    disturbed = target.scatter(1, visible, 9.0)
    assert not torch.equal(disturbed, target)
    monkeypatch.setattr(model, "targets", lambda _: disturbed)
    assert torch.equal(model.errors(frames, order), before)
    monkeypatch.setattr(model, "targets", lambda _: target + 1.0)
    assert not torch.equal(model.errors(frames, order), before)


def test_hidden_pixels_do_not_reach_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    model, frames = autoencoder(), clips().flatten(0, 1)
    order = model.shuffle(clips(), Noise(0))
    hidden = torch.zeros(6, 24).scatter(1, order[:, : model.num_hidden], 1.0)
    pixels = hidden.reshape(6, 1, 4, 6).repeat_interleave(8, 2).repeat_interleave(8, 3)
    target = model.targets(frames)
    monkeypatch.setattr(model, "targets", lambda _: target)
    scrambled = torch.where(pixels.bool(), 1 - frames, frames)
    assert torch.equal(model.errors(scrambled, order), model.errors(frames, order))
    assert not torch.equal(model.errors(1 - frames, order), model.errors(frames, order))


def test_targets_are_the_pixels_of_each_patch() -> None:
    frames = clips(1, 1).flatten(0, 1)
    patch = frames[0, :, 8:16, 16:24].flatten()  # row 1, column 2 of 4 x 6
    plain = autoencoder(normalise_target=False).targets(frames)
    torch.testing.assert_close(plain[0, 8], patch)
    normal = autoencoder().targets(frames)[0, 8]
    torch.testing.assert_close(normal, (patch - patch.mean()) / patch.std(), atol=1e-4, rtol=1e-4)


def test_a_patch_is_painted_where_it_belongs() -> None:
    """The order in which a frame's hidden patches are listed changes nothing but that order."""
    model, frames = autoencoder().double(), clips(1, 1).flatten(0, 1).double()
    order = torch.randperm(24)[None]
    swapped = order.clone()
    swapped[0, : model.num_hidden] = order[0, : model.num_hidden].flip(0)
    torch.testing.assert_close(model.errors(frames, swapped), model.errors(frames, order).flip(1))


def test_gradient_reaches_every_parameter() -> None:
    model = autoencoder()
    model.training_step(batch(clips()), Progress(0, 10)).total.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert idle == []


def test_what_cannot_be_trained_is_refused() -> None:
    frozen = TinyViT(width=32, depth=2, weights="random")
    with pytest.raises(ConfigError, match=r"backbone\.frozen=false"):
        MaskedAutoencoder(backbone=frozen, noise=Noise(0), image_size=SIZE)
    for ratio in (0.0, 1.0):
        with pytest.raises(ConfigError, match=r"model\.mask_ratio=0\.75"):
            autoencoder(mask_ratio=ratio)
    with pytest.raises(ConfigError, match=r"type model\.decoder_width=16"):
        autoencoder(decoder_width=18)
    with pytest.raises(ConfigError, match=r"model\.decoder_heads"):
        autoencoder(decoder_heads=3)
    with pytest.raises(ConfigError, match="validate=none"):
        autoencoder().stream(VideoInfo("x", 1, SIZE))


def test_experiment_trains_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = (
        "experiment=tiny_vit", "backbone.width=32", "backbone.depth=2", "image_size=32",
        "trainer.num_steps=3", "trainer.batch_size=4", "trainer.num_workers=0",
        "dataset.num_videos=8",
    )  # fmt: skip
    run = running.train(tmp_path / "run", *small, tiny=False)
    out = tmp_path / "weights" / "small.safetensors"
    assert export_backbone.main([str(run), str(out)]) == 0
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert f"{out.stat().st_size} bytes, sha256 {digest}" in capsys.readouterr().out
    stored = torch.load(checkpoint_path(run, 3), weights_only=True)["objective"]
    trained = TinyViT(width=32, depth=2, weights="random")
    trained.load_state_dict(
        {k.removeprefix("backbone."): v for k, v in stored.items() if k.startswith("backbone.")}
    )
    loaded = TinyViT(width=32, depth=2, weights=str(out))
    assert torch.equal(loaded(clips()).tokens, trained(clips()).tokens)
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_export_refuses_what_it_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match="found decoder, grouper"):
        export_backbone.backbone_of({"grouper.w": torch.ones(1), "decoder.w": torch.ones(1)}, "x")
    cut = export_backbone.backbone_of({"model.backbone.embed.weight": torch.ones(1)}, "x")
    assert list(cut) == ["embed.weight"]
    assert export_backbone.main([str(tmp_path), str(tmp_path / "w.pt")]) == 1
    assert "end in .safetensors" in capsys.readouterr().err


def test_mixed_videos_come_from_each_source_in_turn() -> None:
    plain, hard = (
        MovingShapes(level="plain", num_videos=3),
        MovingShapes(level="hard", num_videos=5),
    )
    mixed = MixedVideos(sources=[plain, hard])
    assert len(mixed) == 6
    assert len({mixed.info(i).id for i in range(6)}) == 6
    for index, source in ((2, plain), (3, hard)):
        clip = mixed.read(index, [4, 1])
        assert (clip.video == source.read(1, [4, 1]).video).all()
        assert clip.frames.tolist() == [4, 1]
        assert clip.labels is None
        assert clip.hints == {}
    with pytest.raises(IndexError):
        mixed.read(6, [0])
    with pytest.raises(ConfigError, match="sources is empty"):
        MixedVideos(sources=[])


def test_shipped_weights_are_those_the_readme_describes() -> None:
    path = shipped_weights()
    assert path.stat().st_size <= 5 * 2**20
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(path).values())
    readme = path.with_name("README.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert re.findall(r"\b[0-9a-f]{64}\b", readme) == [digest]


def test_shipped_features_tell_object_from_background() -> None:
    """A linear probe on them beats one on random weights by far."""
    torch.manual_seed(0)
    shipped, random = (probe(TinyViT(weights=weights)) for weights in ("shipped", "random"))
    assert shipped > random + 0.2


def probe(backbone: TinyViT) -> float:
    """R2 on unseen videos of a ridge regression from tokens to the share of object pixels."""
    x, y = tokens_and_truth(backbone, "train", 60)
    unseen, truth = tokens_and_truth(backbone, "validation", 20)
    ridge = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]), x.T @ y)
    return float(1 - (unseen @ ridge - truth).square().mean() / truth.var())


def tokens_and_truth(backbone: TinyViT, split: str, num_videos: int) -> tuple[Tensor, Tensor]:
    source = MovingShapes(level="plain", split=split, num_videos=num_videos)
    raw = [source.read(i, [0, 6]) for i in range(num_videos)]
    video = torch.stack([torch.from_numpy(clip.video) for clip in raw]).movedim(-1, 2) / 255
    masks = torch.stack([torch.from_numpy(clip.labels) for clip in raw if clip.labels is not None])
    truth = torch.nn.functional.avg_pool2d((masks > 0).float(), backbone.patch_size).flatten()
    tokens = backbone(video).tokens.flatten(0, 2)
    return torch.cat([tokens, torch.ones(len(tokens), 1)], dim=1), truth

"""Device-side augmentation: per clip, whoever holds the clip."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from slotreel.data.augment import Augmentation, HorizontalFlip, Resize, augment_batch
from slotreel.data.augment_colour import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    TeacherView,
)
from slotreel.errors import ConfigError
from slotreel.types import Batch, FrameFeatures


def make_batch(B: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    views = tuple(torch.rand(B, 2, 3, 6, 8, generator=generator) for _ in range(2))
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.4], [0, 0, 0, 0]]).repeat(B, 2, 1, 1)
    labels = torch.randint(0, 5, (B, 2, 6, 8), generator=generator, dtype=torch.uint8)
    return Batch(
        views,
        torch.zeros(B, 2, dtype=torch.int64),
        torch.arange(40, 40 + B),
        labels=labels,
        hints={"boxes": boxes},
        teacher_view=views[0].clone(),
    )


ALL: list[Augmentation] = [
    HorizontalFlip(),
    TeacherView(),
    Grayscale(0.2),
    ColorJitter(0.4, 0.3, 0.2, 0.1, p=0.8, random_order=True),
    GaussianBlur(3),
]


def test_same_numbers_for_any_world_size() -> None:
    batch = make_batch()
    whole = augment_batch(batch, ALL, seed=5, step=3)
    parts = [
        augment_batch(batch.clips(part), ALL, 5, 3)
        for part in (slice(0, 4), slice(4, 6), slice(6, 8))
    ]
    for n in range(2):
        assert torch.equal(torch.cat([part.views[n] for part in parts]), whole.views[n])
    assert whole.labels is not None
    assert torch.equal(torch.cat([p.labels for p in parts if p.labels is not None]), whole.labels)
    for other in (augment_batch(batch, ALL, 6, 3), augment_batch(batch, ALL, 5, 4)):
        assert not torch.equal(other.views[0], whole.views[0])


def test_flip_moves_everything_together() -> None:
    batch = make_batch(32)
    out = augment_batch(batch, [HorizontalFlip()], 0, 0)
    assert out.labels is not None
    assert batch.labels is not None
    assert out.teacher_view is not None
    flipped = [not torch.equal(a, b) for a, b in zip(out.views[0], batch.views[0], strict=True)]
    assert 6 < sum(flipped) < 26
    assert torch.equal(out.teacher_view, out.views[0])
    for n, turned in enumerate(flipped):
        step = [-1] if turned else []
        assert torch.equal(out.views[1][n], batch.views[1][n].flip(step))
        assert torch.equal(out.labels[n], batch.labels[n].flip(step))
        expected = [0.1, 0.6, 0.5, 0.8] if turned else [0.1, 0.2, 0.5, 0.4]
        assert torch.allclose(out.hints["boxes"][n, 0, 0], torch.tensor(expected))
        assert (out.hints["boxes"][n, :, 1] == 0).all()


def test_brightness_is_one_factor_per_clip_and_view() -> None:
    batch = make_batch()
    dim = batch._replace(views=tuple(0.2 + view * 0.4 for view in batch.views))
    out = augment_batch(dim, [ColorJitter(brightness=0.5)], 0, 0)
    factors = [(a / b).flatten(1) for a, b in zip(out.views, dim.views, strict=True)]
    for factor in factors:
        assert torch.allclose(factor, factor[:, :1].expand_as(factor), atol=1e-5)
        assert 0.499 < factor.min() < factor.max() < 1.501
    assert not torch.allclose(factors[0][:, 0], factors[1][:, 0])


def test_contrast_and_saturation_keep_what_they_should() -> None:
    batch = make_batch()
    calm = batch._replace(views=tuple(0.4 + 0.2 * view for view in batch.views))
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    contrast, saturation = (
        augment_batch(calm, [jitter], 0, 0).views[0]
        for jitter in (ColorJitter(contrast=0.9), ColorJitter(saturation=0.9))
    )
    before = (calm.views[0] * luma).sum(2)
    kept = (contrast * luma).sum(2).mean((-2, -1))
    assert torch.allclose(kept, before.mean((-2, -1)), atol=1e-3)  # torchvision rounds its luma
    assert torch.allclose((saturation * luma).sum(2), before, atol=1e-3)
    for changed in (contrast, saturation):
        assert not torch.allclose(changed, calm.views[0], atol=1e-2)


def test_resize_scales_every_view_and_keeps_labels_and_boxes() -> None:
    batch = make_batch(3)
    batch = batch._replace(views=tuple(view.round() for view in batch.views))  # edges overshoot
    out = augment_batch(batch, [Resize((9, 20), "bicubic", antialias=False)], 0, 0)
    views = [*zip(out.views, batch.views, strict=True), (out.teacher_view, batch.teacher_view)]
    for new, old in views:
        assert new is not None
        assert old is not None
        frames = old.double().flatten(0, 1)
        wanted = torch.nn.functional.interpolate(frames, (9, 20), mode="bicubic")
        assert new.shape == (3, 2, 3, 9, 20)
        assert (new.flatten(0, 1) - wanted.clamp(0, 1)).abs().max() < 1e-5
    assert out.views[0].min() == 0
    assert out.views[0].max() == 1
    assert out.labels is batch.labels
    assert out.hints["boxes"] is batch.hints["boxes"]
    assert augment_batch(batch, [Resize((6, 8))], 0, 0).views[0] is batch.views[0]


def test_nothing_to_do_changes_nothing() -> None:
    batch = make_batch()
    assert augment_batch(batch, [], 0, 0) is batch
    out = augment_batch(batch, [ColorJitter(), HorizontalFlip(0)], 0, 0)
    assert torch.allclose(out.views[0], batch.views[0], atol=1e-6)


def test_what_cannot_be_is_refused() -> None:
    batch = make_batch()
    with pytest.raises(ConfigError, match=r"p=-1"):
        HorizontalFlip(-1)
    with pytest.raises(ConfigError, match=r"contrast=2: expected a strength from 0 to 1"):
        ColorJitter(contrast=2)
    cached = batch._replace(features=FrameFeatures(torch.zeros(8, 2, 4, 4), (2, 2)))
    with pytest.raises(ConfigError, match=r"cached features .*dataset.augment=\[\]"):
        augment_batch(cached, ALL, 0, 0)
    flow = batch._replace(hints={"flow": torch.zeros(8, 2, 6, 8, 2)})
    with pytest.raises(ConfigError, match=r"cannot move the hint 'flow'"):
        augment_batch(flow, [HorizontalFlip()], 0, 0)
    with pytest.raises(ConfigError, match=r"Resize cannot move the hint 'flow'"):
        augment_batch(flow, [Resize(4)], 0, 0)
    with pytest.raises(ConfigError, match=r"interpolation=cubic: did you mean: bicubic"):
        Resize(4, "cubic")
    joints = batch._replace(hints={"keypoints": torch.zeros(8, 2, 15, 2)})
    with pytest.raises(ConfigError, match=r"dataset.augment: HorizontalFlip would turn left"):
        augment_batch(joints, [HorizontalFlip()], 0, 0)


def test_the_teacher_sees_the_same_places_in_other_colours() -> None:
    batch = make_batch(16)._replace(teacher_view=None)
    out = augment_batch(batch, ALL, 0, 0)
    flipped = augment_batch(batch, ALL[:1], 0, 0)
    assert out.teacher_view is not None
    assert not torch.equal(out.teacher_view, out.views[0])
    aligned = augment_batch(flipped, [TeacherView()], 0, 0)
    assert torch.equal(aligned.teacher_view, flipped.views[0])  # type: ignore[arg-type]


def test_every_frame_of_a_clip_changes_alike() -> None:
    still = make_batch(8)
    still = still._replace(views=tuple(v[:, :1].expand(-1, 2, -1, -1, -1) for v in still.views))
    for one in ALL[2:]:
        view = augment_batch(still, [one], 0, 0).views[0]
        assert torch.equal(view[:, 0], view[:, 1])


def test_a_chance_is_per_clip_and_view() -> None:
    batch = make_batch(64)
    out = augment_batch(batch, [Grayscale(0.5)], 0, 0)
    grey = [
        [bool((clip == clip[:, :1]).all()) for clip in view]  # all three channels alike
        for view in out.views
    ]
    assert 16 < sum(grey[0]) < 48
    assert grey[0] != grey[1]
    for n, taken in enumerate(grey[0]):
        assert taken or torch.equal(out.views[0][n], batch.views[0][n])


def test_blur_keeps_the_mean_of_what_is_even_and_smooths_the_rest() -> None:
    batch = make_batch()
    out = augment_batch(batch, [GaussianBlur(5, 1.5, p=1.0)], 0, 0)
    assert (out.views[0].std((-2, -1)) < batch.views[0].std((-2, -1))).all()
    even = batch._replace(views=(torch.full((8, 2, 3, 6, 8), 0.3),))
    blurred = augment_batch(even, [GaussianBlur(5, [0.1, 2.0], p=1.0)], 0, 0)
    assert torch.allclose(blurred.views[0], even.views[0], atol=1e-6)


def test_order_and_hue() -> None:
    batch = make_batch(16)
    fixed, mixed = (
        augment_batch(batch, [ColorJitter(0.9, 0.9, random_order=r)], 0, 0) for r in (False, True)
    )
    same = [torch.equal(a, b) for a, b in zip(fixed.views[0], mixed.views[0], strict=True)]
    assert 0 < sum(same) < 16  # the drawn order is the plain one for some clips only
    turned = augment_batch(batch, [ColorJitter(hue=0.5)], 0, 0).views[0]
    values = [x.amax(2) for x in (turned, batch.views[0])]
    assert torch.allclose(*values, atol=1e-5)  # a turn of hue keeps the brightest channel
    assert not torch.allclose(turned, batch.views[0], atol=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianBlur(4), "odd"),
        (lambda: GaussianBlur(5, [2.0, 1.0]), "least, most"),
        (lambda: ColorJitter(hue=0.6), "hue=0.6"),
        (lambda: Grayscale(2), "p=2"),
    ],
)
def test_colour_arguments_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()

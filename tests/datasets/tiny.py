"""Public data sets in miniature, in the layouts their archives are known to have."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from slotreel.data.image_io import write_image, write_labels
from slotreel.data.sources.segtrack_v2 import SEQUENCES

SIZE = (12, 16)


def frame(path: Path, value: int, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((*size, 3), value, dtype=np.uint8))


def ids(path: Path, top: int, bottom: int = 0) -> None:
    """A label map with ``top`` in the upper half and ``bottom`` in the lower."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.full(SIZE, bottom, dtype=np.uint8)
    labels[: SIZE[0] // 2] = top
    write_labels(path, labels)


def grey(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def segtrack_v2(root: Path, sequences: Iterable[str] = SEQUENCES) -> Path:
    """Two objects that overlap in two columns in bmx; frames and masks are named differently."""
    for name in sequences:
        for n in (2, 9, 10):
            frame(
                root / "JPEGImages" / name / f"{name}_{n}.{'bmp' if name == 'girl' else 'png'}", n
            )
            inside = np.zeros(SIZE, dtype=np.uint8)
            inside[:, :6] = 255
            if name == "bmx":
                grey(root / "GroundTruth" / name / "1" / f"gt{n:04d}.png", inside)
                grey(root / "GroundTruth" / name / "2" / f"gt{n:04d}.png", np.roll(inside, 4, 1))
            else:
                grey(root / "GroundTruth" / name / f"gt{n:04d}.png", inside)
    (root / "JPEGImages" / "stray.txt").touch()
    return root


def fbms59(root: Path, num_frames: int = 25) -> Path:
    """cars1 in grey on 0, bear01 in colours on white with a grey file that merges them."""
    for split in ("Trainingset", "Testset"):
        cars, bear = root / split / "cars1", root / split / "bear01"
        for n in range(1, num_frames + 1):
            frame(cars / f"cars1_{n:02d}.jpg", n)
            frame(bear / f"bear01_{n + 300:04d}.jpg", n, (10, 14))
        for n in (1, 21):
            codes = np.zeros(SIZE, dtype=np.uint8)
            codes[4:8, 4:8], codes[4:8, 9:12] = 90, 200
            grey(cars / "GroundTruth" / f"cars1_{n:02d}.pgm", codes)
            colours = np.full((10, 14, 3), 255, dtype=np.uint8)
            colours[3:5, 3:6], colours[6:8, 3:6] = (0, 0, 9), (200, 0, 0)
            grey(bear / "GroundTruth" / f"bear01_{n + 300:04d}_gt.ppm", colours)
            grey(bear / "GroundTruth" / f"bear01_{n + 300:04d}_gt.pgm", colours[..., 0])
            grey(bear / "GroundTruth" / f"bear01_{n + 300:04d}_PROB_gt.ppm", colours // 2)
    return root


def jhmdb(root: Path, num_frames: int = 3) -> Path:
    """One class, a training and a test video; joint j of frame t is at pixel (j + 1, t + 1)."""
    videos = {"#20_clap_np1_0": 1, "a_clap_(x)_1": 2}
    for name in videos:
        for t in range(num_frames):
            frame(root / "Rename_Images" / "clap" / name / f"{t + 1:05d}.png", t)
        x, y = np.meshgrid(np.arange(15) + 1.0, np.arange(num_frames) + 1.0, indexing="ij")
        folder = root / "joint_positions" / "clap" / name
        folder.mkdir(parents=True)
        savemat(folder / "joint_positions.mat", {"pos_img": np.stack([x, y])})
    for fold in (1, 2, 3):
        file = root / "splits" / f"clap_test_split{fold}.txt"
        file.parent.mkdir(exist_ok=True)
        codes = videos.items() if fold == 1 else [(n, 3 - c) for n, c in videos.items()]
        file.write_text("".join(f"{name}.avi {code} \n" for name, code in codes))
    return root


def vip(root: Path) -> Path:
    """Two videos per split; the second frame of each is not annotated."""
    for split, names in {"train": ("7", "8"), "val": ("15", "16")}.items():
        for name in names:
            for n in (1, 26, 51):
                frame(root / "Images" / name / f"{n:012d}.jpg", n)
                if n != 26:
                    ids(root / "Annotations" / "Category_ids" / name / f"{n:012d}.png", 19, 20)
        (root / "lists").mkdir(exist_ok=True)
        (root / "lists" / f"{split}_videos.txt").write_text("\n".join(names) + "\n")
    return root


def ytvos(root: Path) -> Path:
    """Splits train, train_all_frames (without masks of its own) and valid."""
    names = ("0a1", "b2c")
    for split, numbers in {"train": (0, 5), "train_all_frames": range(7), "valid": (0, 5)}.items():
        for name in names:
            for n in numbers:
                frame(root / split / "JPEGImages" / name / f"{n:05d}.jpg", n)
                if split == "train" or (split == "valid" and n == 0):
                    ids(root / split / "Annotations" / name / f"{n:05d}.png", 1, 2)
        meta = {"videos": {name: {"objects": {"1": {"category": "dog"}}} for name in names}}
        (root / split / "meta.json").write_text(json.dumps(meta))
    return root

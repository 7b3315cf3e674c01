"""DAVIS: labels of both years, layout errors, and the script that prepares archives."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slotreel.data.image_io import read_labels, write_labels
from slotreel.data.sources.davis import Davis
from slotreel.errors import ConfigError, DataError
from tests.datasets.helpers import DAVIS


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(DAVIS, tmp_path / "davis")
    return tmp_path / "davis"


def stems(count: int) -> tuple[str, ...]:
    return tuple(f"{n:05d}" for n in range(count))


def test_splits_and_labels() -> None:
    source = Davis(str(DAVIS), 2017, "val")
    assert [source.info(i) for i in range(3)] == [
        ("blackswan", 4, (480, 854), stems(4)),
        ("bmx-trees", 8, (120, 213), stems(8)),
        ("dog", 8, (120, 213), stems(8)),
    ]
    clip = source.read(2, [5, 1])
    assert (clip.video.shape, clip.video.dtype) == ((2, 120, 213, 3), np.uint8)
    assert clip.frames.tolist() == [5, 1]
    assert clip.annotated is not None
    assert clip.annotated.all()
    masks = [read_labels(DAVIS / "Annotations/480p/dog" / f"0000{n}.png") for n in (5, 1)]
    assert np.array_equal(clip.labels, np.stack(masks))
    assert [Davis(str(DAVIS), 2016, "train").info(0).id] == ["surf"]


def test_255_is_white_in_2016_and_void_in_2017(copy: Path) -> None:
    ids = np.zeros((120, 213), dtype=np.uint8)
    ids[:10], ids[10:20], ids[20:30] = 1, 2, 255
    write_labels(copy / "Annotations/480p/surf/00003.png", ids)
    kept = Davis(str(copy), 2017, "train").read(0, [3]).labels
    merged = Davis(str(copy), 2016, "train").read(0, [3]).labels
    assert np.array_equal(kept, ids[None])
    assert np.array_equal(merged, (ids > 0)[None])


def test_mask_of_another_size_keeps_it(copy: Path) -> None:
    for n in range(8):
        write_labels(copy / f"Annotations/480p/surf/0000{n}.png", np.ones((60, 100), np.uint8))
    clip = Davis(str(copy), 2017, "train").read(0, [0, 7])
    assert clip.labels is not None
    assert (clip.video.shape[1:3], clip.labels.shape[1:]) == ((120, 213), (60, 100))


def test_wrong_layouts_name_what_differs(copy: Path) -> None:
    root = str(copy)
    prepare = r".*prepare.py davis201[67] --root .* ARCHIVE"
    with pytest.raises(ConfigError, match="year=2018: expected 2016 or 2017"):
        Davis(root, 2018)
    with pytest.raises(ConfigError, match=r"split=vall: .*did you mean: val"):
        Davis(root, split="vall")
    with pytest.raises(ConfigError, match="belongs to year=2017"):
        Davis(root, 2016, annotations="Annotations_unsupervised")
    with pytest.raises(DataError, match="no folder .*Annotations_unsupervised/480p" + prepare):
        Davis(root, annotations="Annotations_unsupervised")
    with pytest.raises(DataError, match="no folder .*JPEGImages/1080p" + prepare):
        Davis(root, resolution="1080p")
    (copy / "JPEGImages/480p/dog/00004.jpg").unlink()
    with pytest.raises(DataError, match=r"dog has 7 frames .* but 8 masks .*partner: 00004.png"):
        Davis(root)
    shutil.rmtree(copy / "JPEGImages/480p/dog")
    with pytest.raises(DataError, match=r"480p/dog holds no frame"):
        Davis(root)
    (copy / "ImageSets/2017/val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val.txt is empty"):
        Davis(root)
    shutil.rmtree(copy / "ImageSets/2017")
    with pytest.raises(DataError, match=r"no list .*2017/val.txt" + prepare):
        Davis(root)


def test_damaged_frame_is_named(copy: Path) -> None:
    path = copy / "JPEGImages/480p/surf/00002.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"surf/00002.jpg: .*damaged"):
        Davis(str(copy), split="train").read(0, [1, 2])


def pack(path: Path, *without: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in DAVIS.rglob("*") if p.is_file()):
            if not any(part in file.as_posix() for part in without):
                archive.write(file, "DAVIS/" + file.relative_to(DAVIS).as_posix())
        archive.writestr("DAVIS/README.md", "not needed")


def same_tree(a: Path, b: Path) -> bool:
    files = [sorted(p.relative_to(r) for p in r.rglob("*") if p.is_file()) for r in (a, b)]
    return files[0] == files[1] and all(
        (a / f).read_bytes() == (b / f).read_bytes() for f in files[0]
    )


def test_archive_is_prepared_and_resumed(
    tmp_path: Path, script: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, root = script("prepare_davis"), tmp_path / "root"
    pack(tmp_path / "masks.zip", "JPEGImages")
    pack(tmp_path / "frames.zip", "Annotations")
    archives = [str(tmp_path / name) for name in ("masks.zip", "frames.zip")]
    assert prepare.main(["--root", str(root), *archives]) == 0
    assert same_tree(root, DAVIS)
    assert "2017 val: 3 sequences / 20 frames, PARTIAL, published: 30 / 1999" in (
        " ".join(capsys.readouterr().out.split())
    )
    (root / "JPEGImages/480p/dog/00001.jpg").write_bytes(b"half")  # as an interrupted copy leaves
    (root / "JPEGImages/480p/dog/00002.jpg").unlink()
    assert prepare.main(["--root", str(root), "--check"]) == 1
    assert "dog has 7 frames" in capsys.readouterr().err
    assert prepare.main(["--root", str(root), *archives]) == 0
    assert same_tree(root, DAVIS)
    assert "frames.zip: 2 files written" in " ".join(capsys.readouterr().out.split())


def test_extracted_folder_is_prepared(tmp_path: Path, script: Callable[[str], ModuleType]) -> None:
    assert script("prepare_davis").main(["--root", str(tmp_path / "root"), str(DAVIS)]) == 0
    assert same_tree(tmp_path / "root", DAVIS)


def test_lists_of_the_2016_archive(tmp_path: Path, script: Callable[[str], ModuleType]) -> None:
    pack(tmp_path / "a.zip", "ImageSets")
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        lines = [
            f"/JPEGImages/480p/{name}/0000{n}.jpg /Annotations/480p/{name}/0000{n}.png"
            for name in ("dog", "surf") for n in range(8)
        ]  # fmt: skip
        archive.writestr("DAVIS/ImageSets/480p/val.txt", "\n".join(lines))
    root = tmp_path / "root"
    assert script("prepare_davis").main(["--root", str(root), str(tmp_path / "a.zip")]) == 0
    assert (root / "ImageSets/2016/val.txt").read_text() == "dog\nsurf\n"
    assert len(Davis(str(root), 2016)) == 2


@pytest.mark.parametrize("member", ["../evil.txt", "/evil.txt", "DAVIS/../../evil", "C:\\evil"])
def test_archive_that_climbs_out_is_refused(
    tmp_path: Path,
    script: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
    member: str,
) -> None:
    pack(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr(member, "gotcha")
    arguments = ["--root", str(tmp_path / "root"), str(tmp_path / "a.zip")]
    assert script("prepare_davis").main(arguments) == 1
    assert "would be written outside" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_links_and_broken_archives_are_refused(
    tmp_path: Path, script: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    prepare = script("prepare_davis")
    link = zipfile.ZipInfo("DAVIS/JPEGImages/480p/dog/00000.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    (tmp_path / "broken.zip").write_bytes(b"PK not really")
    for name, why in {
        "link.zip": "is a link",
        "broken.zip": "download it again",
        "none.zip": "there is no archive",
    }.items():
        assert prepare.main(["--root", str(tmp_path / "r"), str(tmp_path / name)]) == 1
        assert why in capsys.readouterr().err
    assert prepare.main(["--root", str(tmp_path / "r"), "--check"]) == 1
    assert "holds no DAVIS at 480p" in capsys.readouterr().err

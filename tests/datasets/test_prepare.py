"""scripts/prepare.py: published archives in, a checked folder out, nothing outside."""

from __future__ import annotations

import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

from slotreel.data.image_io import image_size, read_labels
from slotreel.data.prepare.download import fetch
from slotreel.data.prepare.recipes import RECIPES
from slotreel.data.sources.davis import Davis
from slotreel.data.sources.fbms59 import Fbms59
from slotreel.data.sources.folder import FolderVideos
from slotreel.data.sources.jhmdb import Jhmdb
from slotreel.data.sources.segtrack_v2 import SegTrackV2
from slotreel.data.sources.vip import Vip
from slotreel.data.sources.ytvos import YouTubeVos
from slotreel.errors import DataError
from tests.datasets import tiny
from tests.datasets.helpers import DAVIS

Prepare = Callable[..., str]


@pytest.fixture
def prepare(
    script: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Prepare:
    """Run the script on tmp_path/root; returns what it said, and checks how it ended."""
    module = script("prepare")

    def run(name: str, *arguments: str | Path, fails: bool = False) -> str:
        status = module.main([name, "--root", str(tmp_path / "root"), *map(str, arguments)])
        said = capsys.readouterr()
        assert status == fails, said
        return " ".join((said.err if fails else said.out).split())

    return run


def files_of(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def pack(path: Path, source: Path, prefix: str = "", *without: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in sorted(files_of(source).items()):
            if not any(part in name for part in without):
                archive.writestr(prefix + name, content)
        archive.writestr(f"{prefix}README.md", "not needed")
        archive.writestr(f"__MACOSX/{prefix}._README.md", "nor this")
    return path


def test_davis_is_prepared_and_resumed(tmp_path: Path, prepare: Prepare) -> None:
    root = tmp_path / "root"
    archives = [
        pack(tmp_path / "masks.zip", DAVIS, "DAVIS/", "JPEGImages"),
        pack(tmp_path / "frames.zip", DAVIS, "DAVIS/", "Annotations"),
    ]
    said = prepare("davis2017", *archives)
    assert files_of(root) == files_of(DAVIS)
    assert "davis2017 val: 3 videos / 20 frames, PARTIAL, published: 30 / 1999" in said
    frames = root / "JPEGImages/480p/dog"
    (frames / "00001.jpg").write_bytes(b"half")  # as an interrupted copy leaves it
    (frames / "00002.jpg").unlink()
    assert "dog has 7 frames" in prepare("davis2017", "--check", fails=True)
    assert "frames.zip: 2 files written" in prepare("davis2017", *archives)
    assert files_of(root) == files_of(DAVIS)


def test_extracted_folder_is_prepared(tmp_path: Path, prepare: Prepare) -> None:
    assert "davis2016 train: 1 videos / 8 frames" in prepare("davis2016", DAVIS)
    assert files_of(tmp_path / "root") == files_of(DAVIS)


def test_lists_of_the_2016_archive_and_masks_of_one_edition(
    tmp_path: Path, prepare: Prepare
) -> None:
    archive = pack(tmp_path / "DAVIS-data.zip", DAVIS, "DAVIS/", "ImageSets")
    lines = [
        f"/JPEGImages/480p/{name}/0000{n}.jpg /Annotations/480p/{name}/0000{n}.png"
        for name in ("dog", "surf") for n in range(8)
    ]  # fmt: skip
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("DAVIS/ImageSets/480p/val.txt", "\n".join(lines))
    prepare("davis2016", archive)
    assert (tmp_path / "root/ImageSets/2016/val.txt").read_text() == "dog\nsurf\n"
    assert len(Davis(str(tmp_path / "root"), 2016)) == 2
    said = prepare("davis2017", DAVIS, fails=True)
    assert "holds masks of the other edition of DAVIS" in said
    shutil.rmtree(tmp_path / "root")
    prepare("davis2017", DAVIS)
    assert "choose another --root" in prepare("davis2016", archive, fails=True)


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
@pytest.mark.parametrize("member", ["../evil.txt", "/evil.txt", "DAVIS/../../evil", "C:\\evil"])
def test_archive_that_climbs_out_is_refused(
    tmp_path: Path, prepare: Prepare, member: str, form: str
) -> None:
    good, evil = pack(tmp_path / "good.zip", DAVIS), tmp_path / f"evil.{form}"
    if form == "zip":
        with zipfile.ZipFile(evil, "w") as archive:
            archive.writestr(member, "gotcha")
    else:
        with tarfile.open(evil, "w:gz") as tar:
            tar.addfile(tarfile.TarInfo(member))
    assert "would be written outside" in prepare("davis2017", good, evil, fails=True)
    assert {path.name for path in tmp_path.iterdir()} == {"good.zip", evil.name}


def test_links_and_broken_archives_are_refused(tmp_path: Path, prepare: Prepare) -> None:
    link = zipfile.ZipInfo("DAVIS/JPEGImages/480p/dog/00000.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        member = tarfile.TarInfo("DAVIS/JPEGImages/480p/dog/00000.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    (tmp_path / "broken.zip").write_bytes(b"PK not really")
    (tmp_path / "broken.tar.gz").write_bytes(b"not really")
    whole = pack(tmp_path / "whole.zip", DAVIS).read_bytes()
    at = whole.index((DAVIS / "JPEGImages/480p/dog/00003.jpg").read_bytes()[500:600])
    (tmp_path / "flipped.zip").write_bytes(whole[:at] + b"damage" + whole[at + 6 :])
    pack(tmp_path / "other.zip", tiny.jhmdb(tmp_path / "jhmdb"))
    for name in ("a.rar", "a.7z"):
        (tmp_path / name).touch()
    for name, why in {
        "link.zip": "is a link",
        "link.tar": "is a link",
        "broken.zip": "download it again",
        "broken.tar.gz": "download it again",
        "flipped.zip": "flipped.zip: Bad CRC-32",
        "none.zip": "there is no archive",
        "other.zip": "holds nothing of davis2017: expected files such as JPEGImages/480p",
        "a.rar": "unrar x a.rar",
        "a.7z": "expected a .zip",
    }.items():
        assert why in prepare("davis2017", tmp_path / name, fails=True)
    shutil.rmtree(tmp_path / "root")
    assert "holds no davis2017" in prepare("davis2017", "--check", fails=True)
    assert "--check writes nothing" in prepare("davis2017", "--check", DAVIS, fails=True)


@pytest.mark.parametrize("inner", ["", "SegTrackv2/"])
def test_segtrack(tmp_path: Path, prepare: Prepare, inner: str) -> None:
    made = tiny.segtrack_v2(tmp_path / "made")
    archive = pack(tmp_path / "SegTrackv2.zip", made, inner)
    assert "segtrack_v2 all: 14 videos / 42 frames, complete" in prepare("segtrack_v2", archive)
    assert len(SegTrackV2(str(tmp_path / "root"))) == 14
    assert "complete" in prepare("segtrack_v2", "--check")
    shutil.rmtree(tmp_path / "root")
    said = prepare("segtrack_v2", archive, "--limit", "2")
    assert "2 videos / 6 frames, PARTIAL, published: 14; read it with dataset.source.seq" in said


def test_fbms(tmp_path: Path, prepare: Prepare) -> None:
    made = tiny.fbms59(tmp_path / "made")
    (made / "Testset/cars1/GroundTruth/x.dat").write_text("regions")
    train = pack(tmp_path / "FBMS_Trainingset.zip", made, "", "Testset")
    test = pack(tmp_path / "FBMS_Testset.zip", made, "", "Trainingset")
    assert "fbms59 train: 2 videos / 50 frames, PARTIAL, published: 29" in prepare("fbms59", train)
    said = prepare("fbms59", test, "--split", "test", "--limit", "1")
    assert "fbms59 test: 1 videos / 25 frames" in said
    assert len(Fbms59(str(tmp_path / "root"), "test")) == 1
    shutil.rmtree(tmp_path / "root")
    prepare("fbms59", test, "--resize", "8")
    cars = Fbms59(str(tmp_path / "root"), "test", merge=False).read(1, [20])
    assert cars.labels is not None
    assert (cars.video.shape[1:3], cars.labels.shape[1:]) == ((8, 11), (8, 11))
    assert np.unique(cars.labels).tolist() == [0, 1, 2]
    assert "0 files written" in prepare("fbms59", test, "--resize", "99")


def test_jhmdb(tmp_path: Path, prepare: Prepare) -> None:
    made = tiny.jhmdb(tmp_path / "made")
    with tarfile.open(tmp_path / "Rename_Images.tar.gz", "w:gz") as tar:
        tar.add(made / "Rename_Images", "Rename_Images")
    joints = pack(tmp_path / "joint_positions.zip", made / "joint_positions")  # without its folder
    lists = pack(tmp_path / "splits.zip", made / "splits", "splits/")
    archives = [tmp_path / "Rename_Images.tar.gz", joints, lists]
    said = prepare("jhmdb", *archives)
    assert "jhmdb train: 1 videos / 3 frames, PARTIAL, published: 660" in said
    assert files_of(tmp_path / "root") == files_of(made)
    prepare("jhmdb", "--check")
    shutil.rmtree(tmp_path / "root")
    prepare("jhmdb", *archives, "--split", "test")
    assert len(Jhmdb(str(tmp_path / "root"), "test")) == 1
    with pytest.raises(DataError, match="name no train"):
        Jhmdb(str(tmp_path / "root"), "train")
    assert "the truth of jhmdb is in pixels" in prepare(
        "jhmdb", *archives, "--resize", "9", fails=True
    )
    assert "without its truth" in prepare("jhmdb", *archives, "--frames-only", fails=True)


def test_vip(tmp_path: Path, prepare: Prepare) -> None:
    archive = pack(tmp_path / "VIP.zip", tiny.vip(tmp_path / "made"), "VIP_Fine/")
    said = prepare("vip", archive, "--limit", "1", "--split", "val")
    assert "vip val: 1 videos / 3 frames, PARTIAL, published: 50" in said
    assert [Vip(str(tmp_path / "root")).info(0).id] == ["15"]
    assert not (tmp_path / "root/lists/train_videos.txt").exists()
    prepare("vip", archive)  # the rest
    assert (len(Vip(str(tmp_path / "root"))), len(Vip(str(tmp_path / "root"), "train"))) == (2, 2)
    assert "--split vla: did you mean: val" in prepare("vip", archive, "--split", "vla", fails=True)
    assert "--limit 0: expected 1" in prepare("vip", archive, "--limit", "0", fails=True)
    shutil.rmtree(tmp_path / "root")
    bare = pack(tmp_path / "bare.zip", tmp_path / "made", "", "lists")
    assert "named by the lists" in prepare("vip", bare, "--limit", "1", fails=True)


def test_ytvos_all_frames_come_with_the_masks_of_train(tmp_path: Path, prepare: Prepare) -> None:
    made = tiny.ytvos(tmp_path / "made")
    root = str(tmp_path / "root")
    zips = [pack(tmp_path / f"{n}.zip", made / n, f"{n}/") for n in ("train", "train_all_frames")]
    said = prepare("ytvos", *zips, "--split", "train_all_frames", "--limit", "1")
    assert "ytvos train_all_frames: 1 videos / 7 frames, PARTIAL, published: 3471" in said
    assert len(YouTubeVos(root, "train_all_frames")) == 1
    said = prepare("ytvos", *zips, made / "valid")  # a folder is known by its name
    assert "ytvos valid: 2 videos / 4 frames, PARTIAL, published: 474 or 507" in said
    assert files_of(tmp_path / "root") == files_of(made)


def test_frames_only_is_read_as_a_folder(tmp_path: Path, prepare: Prepare) -> None:
    archive = pack(tmp_path / "a.zip", tiny.ytvos(tmp_path / "made"))
    said = prepare("ytvos", archive, "--frames-only")
    folder = tmp_path / "root" / "valid"
    assert f"2 videos, frames only: dataset=folder paths.data={folder}" in said
    assert FolderVideos(str(folder)).read(0, [0]).labels is None
    assert not list((tmp_path / "root").rglob("Annotations"))


def test_resize_keeps_ids_and_palette(tmp_path: Path, prepare: Prepare) -> None:
    prepare("davis2017", DAVIS, "--resize", "60")
    root = tmp_path / "root"
    mask = root / "Annotations/480p/dog/00003.png"
    original = read_labels(DAVIS / "Annotations/480p/dog/00003.png")
    assert image_size(root / "JPEGImages/480p/blackswan/00000.jpg") == (60, 107)
    assert read_labels(mask).shape == (60, 106)
    assert set(np.unique(read_labels(mask))) == set(np.unique(original))
    assert np.mean(read_labels(mask)) == pytest.approx(np.mean(original), rel=0.05)
    assert "a.zip: 0 files" in prepare(
        "davis2017", pack(tmp_path / "a.zip", DAVIS), "--resize", "60"
    )


def test_folder_that_holds_the_root_is_left_alone(tmp_path: Path, prepare: Prepare) -> None:
    prepare("davis2017", DAVIS)
    before = files_of(tmp_path)
    for folder in (tmp_path / "root", tmp_path):
        said = prepare("davis2017", folder, "--resize", "9", "--limit", "1", fails=True)
        assert "is or holds --root" in said
    assert files_of(tmp_path) == before


def test_check_reads_every_file(tmp_path: Path, prepare: Prepare) -> None:
    prepare("davis2017", DAVIS)
    frame = tmp_path / "root/JPEGImages/480p/dog/00004.jpg"
    frame.write_bytes(frame.read_bytes()[:2000])
    assert "dog/00004.jpg" in prepare("davis2017", "--check", fails=True)


class Server(BaseHTTPRequestHandler):
    """One file in memory; the first answer breaks off in the middle."""

    content = b""
    ranges = True
    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        if "missing" in self.path:
            self.send_error(404)
            return
        if start >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        half = len(self.content) // 2
        self.wfile.write(self.content[start : half if len(self.asked) == 1 else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.content, Server.ranges, Server.asked = b"", True, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_download_goes_on_where_it_stopped(
    tmp_path: Path, prepare: Prepare, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny.segtrack_v2(tmp_path / "made")
    Server.content = pack(tmp_path / "made.zip", made).read_bytes()
    recipe = RECIPES["segtrack_v2"]._replace(urls=(f"{server}/SegTrackv2.zip",))
    monkeypatch.setitem(RECIPES, "segtrack_v2", recipe)
    half, root = len(Server.content) // 2, tmp_path / "root"
    assert f"got {half} of {len(Server.content)} bytes" in prepare(
        "segtrack_v2", "--download", fails=True
    )
    assert [path.name for path in (root / "downloads").iterdir()] == ["SegTrackv2.zip.part"]
    assert "complete" in prepare("segtrack_v2", "--download")
    assert "is there" in prepare("segtrack_v2", "--download")
    assert Server.asked == [None, f"bytes={half}-"]
    assert (root / "downloads" / "SegTrackv2.zip").read_bytes() == Server.content


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("there", [0, 40, 100, 130])
def test_download_over_what_is_there(tmp_path: Path, server: str, there: int, ranges: bool) -> None:
    Server.content, Server.ranges = bytes(range(100)), ranges
    Server.asked.append("not the first")
    if there:
        (tmp_path / "a.zip.part").write_bytes((Server.content * 2)[:there])
    assert fetch(f"{server}/a.zip", tmp_path, Console()).read_bytes() == Server.content
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_downloads_that_cannot_be(tmp_path: Path, prepare: Prepare, server: str) -> None:
    with pytest.raises(DataError, match=r"cannot download .*missing.zip: .*404"):
        fetch(f"{server}/missing.zip", tmp_path, Console())
    assert "register there" in prepare("ytvos", "--download", fails=True)
    assert "VIP_Fine" in prepare("vip", "--download", fails=True)


def test_every_recipe_is_an_option_and_in_the_table() -> None:
    root = DAVIS.parents[2]
    table = (root / "docs" / "datasets.md").read_text()
    for name, recipe in RECIPES.items():
        assert (root / "conf" / "dataset" / f"{name}.yaml").is_file()
        assert recipe.urls or recipe.by_hand
        assert f"`{name}`" in table
        for url in (*recipe.urls, recipe.page):
            assert url.rsplit("/", 1)[1] in table, url

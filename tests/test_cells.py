"""Blood cells: the crops, the split, and the copy that is trusted, on a made-up set in the layout of BCCD."""

import io
import os
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from served import serve

from diffusion_helpers import data
from diffusion_helpers.data import cells, loading, sources
from diffusion_helpers.data.cells import boxes, crop

WIDTH, HEIGHT = 160, 120
# Cell by cell: name, box. Split by picture: a and c are for training.
PICTURES = {
    "a": [("WBC", (40, 30, 90, 80)), ("RBC", (100, 50, 120, 70)), ("RBC", (100, 50, 100, 50))],
    "b": [("RBC", (1, 1, 30, 20)), ("Platelets", (70, 60, 80, 70))],
    "c": [("Platelets", (140, 100, 160, 120)), ("RBC", (10, 10, 50, 50)), ("RBC", (11, 11, 51, 51))],
}
LISTS = {"trainval": "a\nc\n", "test": "b\n", "train": "a\n", "val": "c\n"}


def annotation(found):
    sides = ("xmin", "ymin", "xmax", "ymax")
    cells = (
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box, strict=True))
        + "</bndbox></object>"
        for name, box in found
    )
    return f"<annotation>{''.join(cells)}</annotation>"


def picture(seed):
    """Noise that is so smooth that JPEG keeps it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder, DIFFUSION_DATA naming an empty folder, and no download that has failed before."""
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "failed", {})
    return tmp_path / "cache" / "diffusion_helpers"


@pytest.fixture
def files(monkeypatch):
    """The made-up set, names and contents, with the checksum that is expected."""
    found = {f"ImageSets/Main/{name}.txt": content.encode() for name, content in LISTS.items()}
    for seed, (name, content) in enumerate(PICTURES.items()):
        buffer = io.BytesIO()
        picture(seed).save(buffer, "JPEG", quality=95)
        found |= {f"JPEGImages/{name}.jpg": buffer.getvalue(), f"Annotations/{name}.xml": annotation(content).encode()}
    monkeypatch.setattr(cells, "SHA256", sources.checksum(found))
    return found


@pytest.fixture
def mine(files, tmp_path):
    """The folder of a copy below DIFFUSION_DATA."""
    folder = tmp_path / "mine" / "BCCD" / "BCCD"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_each_split_has_the_cells_of_its_own_pictures_in_order(mine):
    train, test = data.load("cells", "train"), data.load("cells", "test")
    assert train.labels.tolist() == [0, 1, 2, 1] and test.labels.tolist() == [1, 2]
    for part in (train, test):
        assert part.images.shape == (len(part.labels), 3, 64, 64) and part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64 and part.source == "local"
    assert [data.classes("cells")[label] for label in (0, 1, 2)] == ["white cell", "red cell", "platelet"]


def test_a_crop_shows_its_box_and_a_little_more():
    """In a picture of its own coordinates, red is x and green is y."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    chart = Image.fromarray(np.stack([x, y, 0 * x], 2).astype(np.uint8))
    shown = crop(chart, (60, 40, 100, 60)).float()  # 46 pixels around (80, 50)
    assert shown.shape == (3, 64, 64)
    assert (shown[0].min(), shown[0].max()) == (57, 102) and (shown[1].min(), shown[1].max()) == (27, 72)
    assert bool((shown[0].diff(dim=1) >= 0).all()) and bool((shown[1].diff(dim=0) >= 0).all())


@pytest.mark.parametrize(
    "box, corner",
    [
        ((1, 1, 41, 21), (0, 0)),
        ((120, 100, 160, 120), (WIDTH - 46, HEIGHT - 46)),
        ((60, 110, 100, 120), (57, HEIGHT - 46)),
        ((0, 0, WIDTH, HEIGHT), (20, 0)),  # larger than the largest square
    ],
)
def test_at_the_edge_a_crop_is_shifted_inwards(box, corner):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    shown = crop(Image.fromarray(np.stack([x, y, 0 * x], 2).astype(np.uint8)), box)
    assert (int(shown[0].min()), int(shown[1].min())) == corner


def test_shrinking_a_fine_pattern_gives_its_mean_and_no_new_pattern():
    board = np.indices((HEIGHT, WIDTH)).sum(0) % 2 * 255
    shown = crop(Image.fromarray(np.stack([board] * 3, 2).astype(np.uint8)), (10, 10, 110, 110)).float()
    assert abs(float(shown[:, 4:-4, 4:-4].mean()) - 127.5) < 2 and float(shown[:, 4:-4, 4:-4].std()) < 20


def test_boxes_without_area_and_second_boxes_of_a_cell_are_left_out():
    assert boxes(annotation(PICTURES["a"])) == [(0, (40, 30, 90, 80)), (1, (100, 50, 120, 70))]
    assert boxes(annotation(PICTURES["c"])) == [(2, (140, 100, 160, 120)), (1, (10, 10, 50, 50))]
    for name, box, kept in [
        ("RBC", (10, 10, 50, 50), 1),
        ("WBC", (10, 10, 50, 50), 2),  # another class
        ("RBC", (10, 18, 50, 58), 2),  # intersection over union 2/3
        ("RBC", (50, 10, 90, 50), 2),
        ("RBC", (50, 10, 40, 50), 1),
    ]:
        assert len(boxes(annotation([("RBC", (10, 10, 50, 50)), (name, box)]))) == kept


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def alter(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("damage", [truncate, alter, os.remove])
@pytest.mark.parametrize("name", ["JPEGImages/a.jpg", "Annotations/b.xml", "ImageSets/Main/test.txt"])
def test_a_damaged_copy_is_named_and_never_used(mine, name, damage):
    damage(mine / name)
    with pytest.raises(ValueError, match=f"{re.escape(str(mine))}: truncated or altered"):
        data.load("cells", "train")


def test_files_of_other_kinds_do_not_matter(mine):
    (mine / "JPEGImages" / ".DS_Store").write_bytes(b"?")
    (mine / "notes.txt").write_bytes(b"?")
    assert len(data.load("cells", "test").images) == 2


def zipped(files, level=9):
    buffer = io.BytesIO()
    top = "BCCD_Dataset-d272fb1"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr(f"{top}/README.md", "text")
        archive.writestr(f"{top}/dataset/mxnet/test.py", "text")
        for name in reversed(files):
            archive.writestr(f"{top}/BCCD/{name}", files[name])
    return buffer.getvalue()


@pytest.mark.parametrize("level", [1, 9])
def test_a_download_is_checked_by_content_and_the_next_load_needs_none(files, level, cache, monkeypatch):
    with serve({"zip": zipped(files, level)}) as address:
        monkeypatch.setattr(cells, "URL", f"{address}zip")
        first = data.load("cells", "train")
    second = data.load("cells", "train")
    assert (first.source, second.source) == ("download", "local") and first.checksum == second.checksum
    assert [path.name for path in cache.iterdir()] == ["BCCD"]


@pytest.mark.parametrize("arrives", ["altered", "cut off", "no zip", "nothing", "a connection that breaks"])
def test_a_bad_download_is_never_used_and_nothing_of_it_kept(files, arrives, cache, monkeypatch, capsys):
    whole = zipped(files)
    content = {
        "altered": zipped(files | {"Annotations/a.xml": b"<annotation/>"}),
        "cut off": whole[: len(whole) // 2],
        "no zip": b"<html>",
        "nothing": b"",
        "a connection that breaks": whole,
    }[arrives]
    with serve({"zip": content}, missing=100 if arrives.endswith("breaks") else 0) as address:
        monkeypatch.setattr(cells, "URL", f"{address}zip")
        assert data.load("cells", "train").source == "sample (486 of 3,934)"
    assert list(cache.iterdir()) == [] and "cells: a sample" in capsys.readouterr().err.splitlines()[-1]


def test_a_copy_in_the_cache_that_is_not_whole_is_downloaded_again(files, cache, monkeypatch):
    (cache / "BCCD" / "BCCD" / "Annotations").mkdir(parents=True)
    (cache / "BCCD" / "BCCD" / "Annotations" / "a.xml").write_bytes(files["Annotations/a.xml"])
    with serve({"zip": zipped(files)}) as address:
        monkeypatch.setattr(cells, "URL", f"{address}zip")
        assert data.load("cells", "test").source == "download"
    assert data.load("cells", "test").source == "local"


FOLDER = os.environ.get("DIFFUSION_DATA")


@pytest.mark.full
@pytest.mark.parametrize("split, counts", [("train", [301, 3341, 292]), ("test", [71, 804, 69])])
def test_the_true_cells_are_verified_and_as_many_as_the_docstring_says(split, counts, monkeypatch):
    monkeypatch.setenv("DIFFUSION_DATA", FOLDER)
    found = data.load("cells", split)
    assert found.labels.bincount().tolist() == counts and found.images.shape == (sum(counts), 3, 64, 64)
    blue = found.images[:, 2].double().mean((1, 2)) - found.images[:, 1].double().mean((1, 2))
    means = [float(blue[found.labels == label].mean()) for label in range(3)]
    assert means[0] > means[1]  # stained white cells are violet, red cells are not

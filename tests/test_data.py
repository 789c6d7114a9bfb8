"""Images by name: the local copy, the download, the samples, and two that load at once."""

import gzip
import hashlib
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from served import serve

from diffusion_helpers import data
from diffusion_helpers.data import folder, load, loading, mnist, sources, symmetric, unit

SIZES = {"train": 30, "test": 20}
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# Each class's share of the sample, and how well the mean image of each class names test images: more than chance.
SAMPLES = {"mnist": ((500, 100), 0.7), "fashion": ((300, 100), 0.6), "cells": ((162, 69), 0.6)}


def idx(array):
    """A tensor of bytes in MNIST's idx format: type 8, the sizes, the bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.numpy().tobytes()


@pytest.fixture
def sets():
    """A small stand-in for MNIST: images and labels of both splits."""
    return {
        split: (torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8), torch.arange(n, dtype=torch.uint8) % 10)
        for split, n in SIZES.items()
    }


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No DIFFUSION_DATA, an empty cache folder, and no download that has failed before."""
    monkeypatch.delenv("DIFFUSION_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "failed", {})
    return tmp_path / "cache" / "diffusion_helpers"


@pytest.fixture
def content(sets, monkeypatch):
    """The files of the stand-in, which are what ``load`` expects of digits and clothes in this test."""
    files, table = {}, {}
    for split, parts in sets.items():
        files |= {name: idx(part) for name, part in zip(FILES[split], parts, strict=True)}
        table[split] = tuple(hashlib.sha256(files[name]).hexdigest() for name in FILES[split])
    for name in ("mnist", "fashion"):
        source = data.SOURCES[name]
        read = partial(mnist.read, source.folder, table)
        monkeypatch.setitem(data.SOURCES, name, replace(source, read=read, sizes=SIZES))
    return files


@pytest.fixture
def write(content):
    """Call it with a folder to write the stand-in there."""

    def write_to(root, name="MNIST"):
        raw = root / name / "raw"
        raw.mkdir(parents=True)
        for name, part in content.items():
            (raw / name).write_bytes(part)
        return raw

    return write_to


@pytest.fixture
def fetched_by(monkeypatch):
    """Call it with the function that is to download digits in this test."""
    return lambda fetch: monkeypatch.setitem(data.SOURCES, "mnist", replace(data.SOURCES["mnist"], fetch=fetch))


def same(found, expected):
    images, labels = expected
    return torch.equal(found.images, images[:, None]) and torch.equal(found.labels, labels.long())


def fails(error):
    def fetch(root):
        raise error

    return fetch


# ---- the samples


@pytest.mark.parametrize("name", SAMPLES)
def test_without_network_there_are_real_images_as_many_of_each_class(name):
    (train_each, test_each), _ = SAMPLES[name]
    train, test = load(name, "train"), load(name, "test")
    classes, sizes = len(data.classes(name)), data.SOURCES[name].sizes
    shape = (3, 64, 64) if name == "cells" else (1, 28, 28)
    for part, each, all_of_them in ((train, train_each, sizes["train"]), (test, test_each, sizes["test"])):
        assert part.images.shape == (each * classes, *shape) and part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64 and part.labels.bincount().tolist() == [each] * classes
        assert part.source == f"sample ({each * classes:,} of {all_of_them:,})"
        assert part.labels[:classes].unique().tolist() == list(range(classes))  # the first few show every class
    images = {image.numpy().tobytes() for image in torch.cat([train.images, test.images])}
    assert len(images) == len(train.images) + len(test.images)


@pytest.mark.parametrize("name", SAMPLES)
def test_images_and_labels_of_the_samples_belong_together(name):
    train, test = load(name, "train"), load(name, "test")
    means = torch.stack([unit(train.images[train.labels == k]).mean(0).flatten() for k in train.labels.unique()])
    named = torch.cdist(unit(test.images).flatten(1), means).argmin(1)
    assert float((named == test.labels).double().mean()) > SAMPLES[name][1]


def test_the_samples_are_the_same_every_time_and_leave_the_random_state_alone():
    before = torch.get_rng_state()
    assert load("mnist", "train").checksum == load("mnist", "train").checksum
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", SAMPLES)
def test_an_altered_sample_is_named_and_never_used(name, tmp_path, monkeypatch):
    shutil.copy(sources.SAMPLES / f"{name}.png", tmp_path)
    monkeypatch.setattr(sources, "SAMPLES", tmp_path)
    alter(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=f"{name}.png: truncated or altered"):
        data.SOURCES[name].sample("test")


def test_every_sample_comes_with_its_licence():
    text = (sources.SAMPLES / "LICENCES.txt").read_text(encoding="utf8")
    assert {path.name for path in sources.SAMPLES.iterdir()} == {f"{name}.png" for name in SAMPLES} | {"LICENCES.txt"}
    for name in SAMPLES:
        holder, licence = data.SOURCES[name].licence.split("; ")
        assert f"{name}.png" in text and licence.split()[0] in text
        assert all(word.lower() in text.lower() for word in re.findall(r"\w{3,}", holder))


@pytest.mark.parametrize(
    "error, said",
    [(OSError("no route"), "no route"), (TimeoutError(), "TimeoutError"), (RuntimeError("a\n\nb"), "a b")],
)
def test_the_sample_says_so_and_why_in_one_line_on_stderr_and_the_network_is_not_asked_again(
    error, said, fetched_by, capsys
):
    asked = []

    def fetch(root):
        asked.append(root)
        print("chatter")
        raise error

    fetched_by(fetch)
    assert load("mnist", "train").source == "sample (5,000 of 60,000)"
    assert load("mnist", "test").source == "sample (1,000 of 10,000)"
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"mnist: a sample .*\n", err) and f"({said})" in err and len(asked) == 1
    assert "5,000 of 60,000 train" in err and "1,000 of 10,000 test" in err


def test_one_download_that_failed_does_not_keep_another_set_from_trying(write, sets, fetched_by, monkeypatch):
    load("fashion", "test")
    fetched_by(write)
    assert load("mnist", "test").source == "download"


def test_the_true_downloads_refused_leave_one_line_each_and_the_timeout_alone(capsys):
    socket.setdefaulttimeout(77)
    try:
        for name in SAMPLES:
            assert load(name, "test").source.startswith("sample")
        assert socket.getdefaulttimeout() == 77
    finally:
        socket.setdefaulttimeout(None)
    out, err = capsys.readouterr()
    assert out == "" and [line.partition(":")[0] for line in err.splitlines()] == list(SAMPLES)


# ---- local copies and downloads


@pytest.mark.parametrize("split", SIZES)
def test_a_verified_local_copy_is_used_before_anything_else(split, write, sets, tmp_path, monkeypatch, capsys):
    write(tmp_path / "mine")
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path / "mine"))
    found = load("mnist", split)
    assert same(found, sets[split]) and found.source == "local"
    assert capsys.readouterr() == ("", "")


def test_clothes_are_read_from_their_own_folder(write, sets, tmp_path, monkeypatch):
    write(tmp_path / "mine", "FashionMNIST")
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path / "mine"))
    found = load("fashion", "test")
    assert same(found, sets["test"]) and found.source == "local"
    assert load("mnist", "test").source.startswith("sample")


def test_the_cache_is_used_when_DIFFUSION_DATA_lacks_this_set(write, sets, cache, tmp_path, monkeypatch):
    write(cache)
    (tmp_path / "other").mkdir()
    for named in (None, "", str(tmp_path / "other")):
        if named is not None:
            monkeypatch.setenv("DIFFUSION_DATA", named)
        found = load("mnist", "test")
        assert same(found, sets["test"]) and found.source == "local"


@pytest.mark.parametrize("name, folder", [("mnist", "MNIST"), ("fashion", "FashionMNIST")])
def test_torchvision_downloads_and_the_next_load_needs_no_network(name, folder, content, sets, cache, monkeypatch):
    packed = {f"{file}.gz": gzip.compress(part) for file, part in content.items()}
    kind = getattr(torchvision.datasets, folder)
    monkeypatch.setattr(kind, "resources", [(file, hashlib.md5(part).hexdigest()) for file, part in packed.items()])
    with serve(packed) as address:
        monkeypatch.setattr(kind, "mirrors", [address])
        first = load(name, "train")
    second = load(name, "train")
    assert same(first, sets["train"]) and same(second, sets["train"])
    assert (first.source, second.source) == ("download", "local")
    assert [path.name for path in cache.iterdir()] == [folder]


def test_a_download_of_other_content_is_not_kept_and_not_used(write, content, cache, fetched_by, capsys):
    def fetch(root):
        alter(write(root) / "t10k-labels-idx1-ubyte")

    fetched_by(fetch)
    assert load("mnist", "train").source.startswith("sample")
    assert "t10k-labels-idx1-ubyte: truncated or altered" in capsys.readouterr().err
    assert list(cache.iterdir()) == []


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def alter(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE = {"truncated": truncate, "altered": alter, "missing": os.remove}


@pytest.mark.parametrize("file", FILES["train"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_your_own_is_named_and_never_replaced_or_trained_on(
    damage, file, write, sets, cache, tmp_path, monkeypatch
):
    raw = write(tmp_path / "mine")
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path / "mine"))
    shutil.copytree(tmp_path / "mine", cache)  # a whole copy elsewhere does not hide the damage
    DAMAGE[damage](raw / file)
    with pytest.raises(ValueError, match=f"{re.escape(str(raw / file))}: .*{damage}"):
        load("mnist", "train")
    assert same(load("mnist", "test"), sets["test"])  # the other split is sound


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_in_the_cache_is_never_used_and_downloaded_anew(damage, write, sets, cache, fetched_by):
    raw = write(cache)
    DAMAGE[damage](raw / "train-labels-idx1-ubyte")
    fetched_by(fails(OSError("offline")))
    assert load("mnist", "train").source.startswith("sample")
    loading.failed.clear()
    fetched_by(write)
    found = load("mnist", "train")
    assert same(found, sets["train"]) and found.source == "download"
    assert load("mnist", "train").source == "local" and [path.name for path in cache.iterdir()] == ["MNIST"]


# ---- a data set from outside


def squares(root, split):
    """The data set of ``SQUARES``: a file for each split, whose bytes are the grey of one square each."""
    digest = {"train": hashlib.sha256(b"\0\1\2").hexdigest(), "test": hashlib.sha256(b"\3").hexdigest()}[split]
    greys = sources.verified(root / "squares", [split], digest)[split]
    return torch.tensor(list(greys), dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8), torch.zeros(
        len(greys), dtype=torch.int64
    )


def draw_squares(root):
    (root / "squares").mkdir()
    (root / "squares" / "train").write_bytes(b"\0\1\2")
    (root / "squares" / "test").write_bytes(b"\3")


SQUARES = data.Source("squares", ("square",), {"train": 3, "test": 1}, "none needed", squares, draw_squares)


def test_one_source_adds_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setitem(data.SOURCES, "squares", SQUARES)
    first, second = load("squares", "train"), load("squares", "train")
    assert first.images[:, 0, 0, 0].tolist() == [0, 1, 2] and (first.source, second.source) == ("download", "local")
    assert data.classes("squares") == ("square",)
    draw_squares(tmp_path)
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path))
    assert load("squares", "test").images.unique().tolist() == [3]
    (tmp_path / "squares" / "test").write_bytes(b"\4")
    with pytest.raises(ValueError, match="test: truncated or altered"):
        load("squares", "test")


def test_without_a_sample_there_is_an_error_that_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setitem(data.SOURCES, "squares", replace(SQUARES, fetch=fails(OSError("no route"))))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"squares: .* no download \(no route\); .*DIFFUSION_DATA .*squares"):
            load("squares", "train")
    assert capsys.readouterr() == ("", "")


# ---- two that load at once, and one that is cut off

PROCESS = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
from test_data import SQUARES, draw_squares
from diffusion_helpers import data

mine, meet = sys.argv[1], Path(sys.argv[2])

def slow(root):
    (root / "squares").mkdir()
    (root / "squares" / "train").write_bytes(bytes(1))  # half of a file
    assert not (data.cache_folder() / "squares").exists()
    (meet / mine).touch()
    if mine == "killed":
        os._exit(9)
    for _ in range(3000):
        if len(list(meet.iterdir())) == 2:
            break
        time.sleep(0.01)
    (root / "squares" / "train").write_bytes(bytes([0, 1, 2]))
    (root / "squares" / "test").write_bytes(bytes([3]))

data.SOURCES["squares"] = replace(SQUARES, fetch=slow)
found = data.load("squares", "train")
print(found.source, found.images[:, 0, 0, 0].tolist())
"""


def started(name, meet):
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": folders}
    command = [sys.executable, "-c", PROCESS, name, str(meet)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_processes_that_start_at_once_both_end_with_whole_data(tmp_path, cache, monkeypatch):
    (tmp_path / "meet").mkdir()
    both = [started(name, tmp_path / "meet") for name in "ab"]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and said == ["download [0, 1, 2]\n"] * 2
    assert [path.name for path in cache.iterdir()] == ["squares"]
    monkeypatch.setitem(data.SOURCES, "squares", SQUARES)
    assert load("squares", "test").source == "local"


def test_a_process_that_is_killed_leaves_nothing_that_is_taken_for_a_copy(tmp_path, cache, monkeypatch):
    (tmp_path / "meet").mkdir()
    process = started("killed", tmp_path / "meet")
    process.communicate(timeout=120)
    assert process.returncode == 9 and not (cache / "squares").exists()
    monkeypatch.setitem(data.SOURCES, "squares", SQUARES)
    assert [load("squares", "train").source for _ in range(2)] == ["download", "local"]


def test_an_interrupt_in_the_middle_leaves_nothing_and_the_next_load_begins_anew(write, sets, cache, fetched_by):
    def interrupted(root):
        truncate(write(root) / "train-images-idx3-ubyte")
        raise KeyboardInterrupt

    fetched_by(interrupted)
    with pytest.raises(KeyboardInterrupt):
        load("mnist", "train")
    assert list(cache.iterdir()) == []
    fetched_by(write)
    assert same(load("mnist", "train"), sets["train"])


def test_the_copy_of_whoever_was_first_stays(write, sets, cache, fetched_by):
    def overtaken(root):
        write(root)
        (write(cache) / "mark").touch()  # another process ends in the meantime

    fetched_by(overtaken)
    assert same(load("mnist", "train"), sets["train"])
    assert (cache / "MNIST" / "raw" / "mark").exists() and [path.name for path in cache.iterdir()] == ["MNIST"]


def test_threads_wait_for_one_download(write, sets, fetched_by):
    asked, found = [], []
    both_began = threading.Barrier(2)

    def fetch(root):
        asked.append(root)
        write(root)

    def one():
        both_began.wait(60)
        found.append(load("mnist", "train"))

    fetched_by(fetch)
    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(asked) == 1 and len(found) == 2 and all(same(images, sets["train"]) for images in found)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: load("imagenet", "train"), "'imagenet': expected one of cells, fashion, mnist"),
        (lambda: load("MNIST", "train"), "'MNIST': expected one of cells, fashion, mnist"),
        (lambda: load("mnist", "validation"), "'validation': expected 'train' or 'test'"),
        (lambda: data.classes("imagenet"), "'imagenet': expected one of cells, fashion, mnist"),
        (lambda: data.turn(torch.zeros(2, 1, 4, 5)), "4x5 pixels: expected squares"),
        (lambda: unit(torch.zeros(1)), "float32: expected torch.uint8"),
        (lambda: symmetric(torch.zeros(1).long()), "int64: expected torch.uint8"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_a_folder_that_does_not_exist_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="DIFFUSION_DATA is .*nowhere.*: expected a folder that exists"):
        load("mnist", "train")


def test_the_ranges_keep_all_256_values_apart_and_reach_their_ends():
    pixels = torch.arange(256, dtype=torch.uint8)
    for scale, low in ((unit, 0), (symmetric, -1)):
        x = scale(pixels)
        assert x.dtype == torch.float32 and (x[0], x[-1]) == (low, 1) and bool((x.diff() > 0).all())
    assert torch.allclose(symmetric(pixels), 2 * unit(pixels) - 1, atol=1e-6)
    assert torch.equal((unit(pixels) * 255).round().byte(), pixels)


def test_the_checksum_tells_pixels_labels_and_order():
    images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    a = data.Images(images, torch.arange(4), "local")
    assert a.checksum == data.Images(images.clone(), torch.arange(4), "download").checksum
    turned, renamed = data.Images(images.flip(0), a.labels, ""), data.Images(images, torch.ones(4).long(), "")
    others = [data.Images(images[:3], a.labels[:3], "local"), turned, renamed]
    assert len({a.checksum, *(other.checksum for other in others)}) == 4


def positions(image):
    """The 8 positions of a square image (C, H, H)."""
    return [turned.rot90(k, (1, 2)) for turned in (image, image.flip(2)) for k in range(4)]


@pytest.mark.parametrize("change, known", [(data.flip, lambda x: [x, x.flip(2)]), (data.turn, positions)])
def test_flips_and_turns_are_drawn_evenly_and_change_nothing_else(change, known):
    image = torch.randint(0, 256, (3, 5, 5), dtype=torch.uint8)
    images = image.repeat(4000, 1, 1, 1)
    changed = change(images)
    assert changed.dtype == torch.uint8 and torch.equal(images, image.repeat(4000, 1, 1, 1))
    counts = torch.tensor([int((changed == one).flatten(1).all(1).sum()) for one in known(image)])
    share = 1 / len(counts)
    assert int(counts.sum()) == 4000
    assert float((counts - 4000 * share).abs().max()) < 5 * (4000 * share * (1 - share)) ** 0.5


def test_flips_and_turns_come_from_the_global_generator():
    images = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8)
    for change in (data.flip, data.turn):
        torch.manual_seed(0)
        first = change(images)
        assert not torch.equal(first, change(images))
        torch.manual_seed(0)
        assert torch.equal(first, change(images))


def test_balanced_repeats_the_rare_classes_or_leaves_out_of_the_frequent():
    labels = torch.tensor([0, 2, 0, 0, 1, 0, 2])  # 4, 1, 2
    uneven = data.Images(torch.arange(7)[:, None, None, None].byte(), labels, "local")
    fewest = uneven.balanced(fewest=True)
    assert fewest.labels.tolist() == [0, 1, 2] and fewest.images.flatten().tolist() == [0, 4, 1]
    found = uneven.balanced()
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and found.source == "local"
    assert found.images.flatten().tolist() == [0, 2, 3, 5, 4, 4, 4, 4, 1, 6, 1, 6]


# ---- pictures in folders


def paint(path, colour, size=(40, 30), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def middle(found, i=0):
    """The colour in the middle of an image."""
    return found.images[i, :, found.images.shape[2] // 2, found.images.shape[3] // 2].tolist()


def test_folders_are_classes_in_the_order_of_their_names(tmp_path, capsys):
    paint(tmp_path / "zebra" / "1.png", (0, 0, 255))
    for i, size in enumerate([(40, 30), (8, 100), (7, 7)]):
        paint(tmp_path / "ant" / f"{i}.PNG", (255, 0, 0), size)
    found = data.from_folder(tmp_path, 16)
    assert found.images.shape == (4, 3, 16, 16) and found.images.dtype == torch.uint8
    assert found.labels.tolist() == [0, 0, 0, 1] and found.labels.dtype == torch.int64
    assert data.folder_classes(tmp_path) == ("ant", "zebra") and found.source == str(tmp_path)
    assert [middle(found, i) for i in range(4)] == [[255, 0, 0]] * 3 + [[0, 0, 255]]
    assert capsys.readouterr() == ("", "")


def test_the_layout_of_tinyimagenet_is_read(tmp_path):
    for name in ("n01443537", "n01629819"):
        paint(tmp_path / name / "images" / f"{name}_0.JPEG", (10, 200, 30), (64, 64))
        (tmp_path / name / f"{name}_boxes.txt").write_text("0 0 1 1")
    found = data.from_folder(tmp_path, 64)
    assert found.labels.tolist() == [0, 1] and data.folder_classes(tmp_path) == ("n01443537", "n01629819")


def test_a_folder_without_folders_is_one_class_even_of_one_picture(tmp_path):
    paint(tmp_path / "only.jpg", (0, 0, 0))
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "._only.jpg").write_bytes(b"?")
    found = data.from_folder(tmp_path, 8)
    assert found.images.shape == (1, 3, 8, 8) and found.labels.tolist() == [0]


def test_a_picture_is_cropped_at_its_centre_and_not_stretched(tmp_path):
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (30, 0, 60, 30))
    wide.save(tmp_path / "wide.png")
    wide.rotate(90, expand=True).save(tmp_path / "tall.png")
    for size in (10, 30, 60):  # smaller, as large, larger
        found = data.from_folder(tmp_path, size)
        assert bool((found.images[:, 2, 2:-2, 2:-2] == 255).all()) and bool((found.images[:, 0, 2:-2, 2:-2] == 0).all())


MODES = {
    "grey": (lambda path: paint(path, 77, mode="L"), [77, 77, 77]),
    "16 bits of grey": (lambda path: paint(path, 77 * 257, mode="I;16"), [77, 77, 77]),
    "palette": (lambda path: Image.new("RGB", (9, 9), (10, 20, 30)).quantize().save(path), [10, 20, 30]),
    "RGBA, opaque": (lambda path: paint(path, (10, 20, 30, 255), mode="RGBA"), [10, 20, 30]),
    "RGBA, half": (lambda path: paint(path, (255, 0, 0, 128), mode="RGBA"), [255, 127, 127]),
    "RGBA, clear": (lambda path: paint(path, (255, 0, 0, 0), mode="RGBA"), [255, 255, 255]),
    "grey with alpha": (lambda path: paint(path, (0, 0), mode="LA"), [255, 255, 255]),
    "a transparent colour": (lambda path: paint(path, (1, 2, 3), transparency=(1, 2, 3)), [255, 255, 255]),
    "black and white": (lambda path: paint(path, 1, mode="1"), [255, 255, 255]),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_picture_becomes_rgb_on_white(mode, tmp_path):
    save, colour = MODES[mode]
    save(tmp_path / "picture.png")
    assert middle(data.from_folder(tmp_path, 8)) == colour


def test_the_turn_of_a_camera_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    picture = Image.new("RGB", (32, 32), "black")
    picture.paste("white", (0, 0, 32, 16))  # white above
    picture.save(tmp_path / "turned.png", exif=exif)
    shown = data.from_folder(tmp_path, 32).images[0, 0]
    assert bool((shown[:, 18:] == 255).all()) and bool((shown[:, :14] == 0).all())


def test_what_cannot_be_read_is_named_counted_and_left_out(tmp_path, capsys):
    good = paint(tmp_path / "a" / "good.png", (0, 255, 0))
    photo = paint(tmp_path / "b" / "photo.jpg", (9, 9, 9), (200, 200)).read_bytes()
    (tmp_path / "a" / "cut.jpg").write_bytes(photo[:-200])
    (tmp_path / "a" / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "b" / "empty.jpg").write_bytes(b"")
    (tmp_path / "b" / "text.png").write_text("no picture")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    found = data.from_folder(tmp_path, 8)
    assert found.labels.tolist() == [0, 1] and data.folder_classes(tmp_path) == ("a", "b", "c")
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "5 of 7 pictures cannot be read" in err
    for name in ("cut.jpg", "cut.png", "empty.jpg", "text.png", "program.png"):
        assert name in err


def test_whatever_a_reader_raises_costs_one_picture(tmp_path, monkeypatch, capsys):
    paint(tmp_path / "1.png", (1, 2, 3))
    paint(tmp_path / "2.png", (4, 5, 6))

    def odd(image, undo=folder.ImageOps.exif_transpose):
        if image.filename.endswith("1.png"):
            raise struct.error("unpack requires a buffer of 8 bytes")
        return undo(image)

    monkeypatch.setattr(folder.ImageOps, "exif_transpose", odd)
    assert middle(data.from_folder(tmp_path, 8)) == [4, 5, 6]
    assert "1 of 2 pictures cannot be read and are left out: 1.png" in capsys.readouterr().err


def unreadable(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"?")
    return data.from_folder(tmp_path, 8)


def beside(tmp_path):
    paint(tmp_path / "loose.png", 0)
    paint(tmp_path / "cats" / "1.png", 0)
    return data.from_folder(tmp_path, 8)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda path: data.from_folder(path / "nowhere", 8), "nowhere: expected a folder that exists"),
        (lambda path: data.from_folder(path, 8), "no picture that can be read"),
        (lambda path: data.from_folder(path, 0), "size = 0: expected at least 1"),
        (unreadable, "no picture that can be read"),
        (beside, "loose.png lies beside the folder cats"),
    ],
)
def test_a_folder_that_makes_no_set_is_refused(call, named, tmp_path):
    with pytest.raises(ValueError, match=named):
        call(tmp_path)


def test_a_pack_holds_what_the_folder_does(tmp_path, capsys):
    for i, name in enumerate(("b", "a", "a")):
        paint(tmp_path / "from" / name / f"{i}.png", (i, 2 * i, 3 * i))
    (tmp_path / "from" / "a" / "0.png").write_bytes(b"?")
    expected, found = data.from_folder(tmp_path / "from", 8), data.pack(tmp_path / "from", 8, tmp_path / "to")
    assert "1 of 4 pictures cannot be read and are left out: a/0.png" in capsys.readouterr().err.splitlines()[1]
    for images in (found, data.packed(tmp_path / "to")):
        assert torch.equal(images.images, expected.images) and torch.equal(images.labels, expected.labels)
        assert images.labels.tolist() == [0, 0, 1] and images.source == str(tmp_path / "to")


def test_an_interrupted_pack_begins_anew_and_a_whole_one_is_not_overwritten(tmp_path, monkeypatch):
    for i in range(3):
        paint(tmp_path / "from" / f"{i}.png", (i, i, i))

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(folder.np, "save", stop)
        data.pack(tmp_path / "from", 8, tmp_path / "to")
    with pytest.raises(ValueError, match="expected a folder that pack has written to the end"):
        data.packed(tmp_path / "to")
    assert len(data.pack(tmp_path / "from", 8, tmp_path / "to").images) == 3
    with pytest.raises(ValueError, match="holds a pack already"):
        data.pack(tmp_path / "from", 16, tmp_path / "to")


BEYOND_MEMORY = """
import resource, sys
import torch
from torch import nn
from diffusion_helpers import data, train

folder, to = sys.argv[1:]
held = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + 400 * 2**20,) * 2)
images, _, _ = data.pack(folder, 256, to)
model = nn.Conv2d(3, 1, 8, 8)
options = {"epochs": 1, "batch": 10, "lr": 1e-3, "checkpoint": f"{to}/checkpoint", "run": "mean", "bar": False}
seen = sum(10 for _ in train.fit(model, lambda x: model(data.symmetric(x)).square().mean(), (images,), **options))
print(images.numel() // 2**20, seen)
try:
    data.from_folder(folder, 256)
except MemoryError:
    print("too large")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited as on Linux")
def test_training_reads_a_folder_that_is_larger_than_the_memory(tmp_path):
    for i in range(3000):
        paint(tmp_path / "from" / f"{i}.png", (i % 256, i // 256, 99), (16, 16))
    command = [sys.executable, "-c", BEYOND_MEMORY, tmp_path / "from", tmp_path / "to"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.stdout.split() == ["562", "3000", "too", "large"], done.stderr


FOLDER = os.environ.get("DIFFUSION_DATA")
FIGURES = {"mnist": (0.1307, 0.3081), "fashion": (0.2860, 0.3530)}  # the well-known mean and deviation


@pytest.mark.full
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("split, per_class", [("train", 6000), ("test", 1000)])
def test_the_true_images_are_verified_and_whole(name, split, per_class, monkeypatch):
    monkeypatch.setenv("DIFFUSION_DATA", FOLDER)
    found = load(name, split)
    assert found.source == "local" and found.images.shape == (10 * per_class, 1, 28, 28)
    assert bool(((torch.bincount(found.labels) / per_class - 1).abs() < 0.15).all())
    assert len(data.classes(name)) == len(found.labels.unique())
    mean, deviation = unit(found.images).mean(), unit(found.images).std()
    assert (float(mean), float(deviation)) == pytest.approx(FIGURES[name], abs=0.003)


@pytest.mark.full
@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_image_of_a_sample_is_in_its_split_of_the_full_set(name, split, monkeypatch):
    monkeypatch.setenv("DIFFUSION_DATA", FOLDER)
    found = load(name, split)
    assert len(found.images) == data.SOURCES[name].sizes[split]

    def pairs(images, labels):
        return {(label, image.tobytes()) for label, image in zip(labels.tolist(), images.numpy(), strict=True)}

    assert pairs(*data.SOURCES[name].sample(split)) <= pairs(found.images, found.labels)

"""Pictures come from a generator, from folders of pairs and from the sets of papers, and each source keeps its word."""

import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perceive_ir import TYPES
from perceive_ir._errors import ImageFileError
from perceive_ir_training.data import is_held_back
from perceive_ir_training.paired import Pairs, load_pairs
from perceive_ir_training.papers import SETS, find, load, load_clean
from perceive_ir_training.procedural import KINDS, draw_picture, draw_pictures
from perceive_ir_training.procedural.canvas import enlarge, shrink
from perceive_ir_training.procedural.leaves import draw_radii

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EVERY_LAYOUT = pytest.mark.parametrize(
    ("name", "folder", "layout"),
    [
        pytest.param(name, folder, layout, id=f"{name} {folder} {layout.damaged}")
        for name, paper in SETS.items()
        for folder in (*paper.folders, ".")
        for layout in paper.layouts
    ],
)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- drawn pictures


@EVERY_KIND
def test_the_same_seed_draws_the_same_picture_and_another_seed_another(kind):
    first, again, other = (draw_picture(kind, 48, random(seed)) for seed in (0, 0, 1))
    assert first.pixels.shape == (48, 48, 3)
    assert first.pixels.dtype == np.uint8
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


@EVERY_KIND
@pytest.mark.parametrize("size", [16, 33])
def test_small_and_odd_pictures_can_be_drawn_and_none_is_empty(kind, size):
    pictures = [draw_picture(kind, size, random(seed)) for seed in range(12)]
    assert all(p.pixels.shape == (size, size, 3) for p in pictures)
    assert np.median([p.pixels.std() for p in pictures]) > 3


def slope_of(pixels: np.ndarray) -> float:
    """Exponent with which the power falls with the frequency, of a windowed picture."""
    side = len(pixels)
    window = np.hanning(side)
    grey = pixels.mean(axis=2)
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window * window[:, None])) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    edges = np.geomspace(4 / side, 0.4, 12)
    bins = np.digitize(frequency.ravel(), edges)
    means = [power.ravel()[bins == n].mean() for n in range(1, len(edges))]
    return float(np.polyfit(np.log(edges[1:] * edges[:-1]) / 2, np.log(means), 1)[0])


def test_dead_leaves_have_the_spectrum_of_natural_pictures():
    slopes = [slope_of(draw_picture("leaves", 192, random(seed)).pixels) for seed in range(12)]
    assert -2.4 < np.mean(slopes) < -1.6


def test_four_times_as_many_leaves_are_half_as_large():
    radii = draw_radii(200_000, 1.0, 1000.0, random())
    assert (radii >= 1).all()
    for radius in (1.5, 3.0, 10.0):
        assert np.mean(radii > 2 * radius) / np.mean(radii > radius) == pytest.approx(1 / 4, rel=0.1)


@pytest.mark.parametrize("kind", ["leaves", "text", "scene"])
def test_edges_are_sharp(kind):
    pictures = [draw_picture(kind, 96, random(seed)).pixels.astype(int) for seed in range(6)]
    steps = [np.abs(np.diff(p.mean(axis=2), axis=1)) for p in pictures]
    assert np.median([s.max() / np.ptp(p) for s, p in zip(steps, pictures, strict=True)]) > 0.4


@pytest.mark.parametrize("kind", ["gradients", "spots", "filaments"])
def test_smooth_pictures_hold_no_noise(kind):
    sigmas = []
    for seed in range(8):
        a, b, c, d = (draw_picture(kind, 96, random(seed)).pixels[y::2, x::2, 1] * 1.0 for y in (0, 1) for x in (0, 1))
        sigmas.append(np.median(np.abs(a - b - c + d) / 2) / 0.6745)
    assert np.median(sigmas) < 1.0


def test_micrographs_are_dark_and_known_as_such():
    for kind, known in KINDS.items():
        pictures = [draw_picture(kind, 48, random(seed)) for seed in range(8)]
        assert {p.microscopy for p in pictures} == {kind in ("spots", "filaments")}
        if known.microscopy:
            assert np.median([np.median(p.pixels) for p in pictures]) < 60


def test_grey_is_said_of_those_pictures_whose_channels_are_equal():
    pictures = draw_pictures(60, 16, random())
    assert [p.grey for p in pictures] == [bool((np.ptp(p.pixels, axis=2) == 0).all()) for p in pictures]
    assert 0 < np.mean([p.grey for p in pictures]) < 0.5


def test_every_kind_is_drawn_as_often_as_its_share_says(monkeypatch):
    blank = {name: replace(k, draw=lambda side, _: np.zeros((3, side, side), np.float32)) for name, k in KINDS.items()}
    monkeypatch.setattr("perceive_ir_training.procedural.kinds.KINDS", blank)
    names = [p.name for p in draw_pictures(4000, 16, random())]
    total = sum(kind.share for kind in KINDS.values())
    for kind in KINDS:
        assert names.count(f"procedural {kind}") / 4000 == pytest.approx(KINDS[kind].share / total, abs=0.03)


def test_shrinking_takes_means_and_undoes_enlarging():
    canvas = random().random((3, 32, 32), np.float32)
    means = canvas.reshape(3, 16, 2, 16, 2).mean(axis=(2, 4)).transpose(1, 2, 0) * 255
    assert np.abs(shrink(canvas) - means).max() < 0.51
    field = random().integers(0, 256, (3, 16, 16)).astype(np.float32)
    assert np.array_equal(shrink(enlarge(field / 255)), field.transpose(1, 2, 0).astype(np.uint8))


@pytest.mark.parametrize(("kind", "size", "words"), [("photo", 64, "leaves, .*'photo'"), ("leaves", 8, ">= 16, got 8")])
def test_a_kind_or_size_that_cannot_be_drawn_is_refused(kind, size, words):
    with pytest.raises(ValueError, match=words):
        draw_picture(kind, size, random())


# ---- pairs


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Targets that are the negatives of their damaged pictures, in PNG and WebP."""
    for n in range(60):
        pixels = random(n).integers(0, 256, (20 + n % 3, 24, 3), np.uint8)
        save(tmp_path / "input" / "sub" / f"{n}.png", pixels)
        save(tmp_path / "target" / "sub" / f"{n}{'.png' if n % 2 else '.bmp'}", 255 - pixels)
    return tmp_path


def test_damaged_and_target_are_cut_and_turned_alike(folder):
    damaged, target = load_pairs(folder, "noise").draw(40, 16, random())
    assert damaged.shape == target.shape == (40, 3, 16, 16)
    assert (damaged + target - 1).abs().max() < 1e-6
    assert len({tuple(crop.flatten().tolist()) for crop in damaged}) == 40


def test_pairs_smaller_than_the_crop_are_reflected_alike(folder):
    damaged, target = load_pairs(folder, "noise").draw(8, 48, random())
    assert damaged.shape == (8, 3, 48, 48)
    assert (damaged + target - 1).abs().max() < 1e-6


def test_pairs_in_memory_are_those_on_disk_and_need_it_no_more(folder):
    pairs = load_pairs(folder, "noise")
    held = pairs.in_memory()
    expected = pairs.draw(5, 16, random())
    shutil.rmtree(folder)
    for one, other in zip(held.draw(5, 16, random()), expected, strict=True):
        assert one.equal(other)
    with pytest.raises(ImageFileError):
        pairs.draw(1, 16, random())


def test_held_back_pairs_never_train_wherever_the_folder_is(folder, tmp_path_factory):
    moved = shutil.copytree(folder, tmp_path_factory.mktemp("moved") / "here")
    used, again = ({pair.name for pair in load_pairs(place, "blur").pairs} for place in (folder, moved))
    whole = {path.relative_to(folder / "target").as_posix() for path in (folder / "target").rglob("*.*")}
    assert used == again == {name for name in whole if not is_held_back(Path(name))} != whole


def spoil(folder: Path, mistake: str) -> None:
    """Make one of the mistakes that people make with folders."""
    first = folder / "input" / "sub" / "1.png"
    if mistake == "no folder":
        shutil.rmtree(folder / "target")
    elif mistake == "no pictures":
        shutil.rmtree(folder / "input" / "sub")
    elif mistake == "no target":
        (folder / "target" / "sub" / "1.png").unlink()
    elif mistake == "no input":
        first.unlink()
    elif mistake == "size":
        save(first, np.zeros((7, 9, 3), np.uint8))
    elif mistake == "twice":
        save(first.with_suffix(".bmp"), np.zeros((21, 24, 3), np.uint8))
    elif mistake == "broken":
        first.write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("no folder", ["no folder", "target", "input/"]),
        ("no pictures", ["no pictures in", "input", "PNG"]),
        ("no target", ["1 of 60", "input", "such as 1.png", "same name"]),
        ("no input", ["1 of 60", "target", "such as 1.png", "same name"]),
        ("size", ["9 × 7", "24 × 21", "1.png", "equal"]),
        ("twice", ["1.bmp and 1.png", "remove one"]),
        ("broken", ["1.png", "cannot be read", "replace it"]),
    ],
)
def test_a_mistake_in_a_folder_is_named_in_one_line(folder, mistake, words):
    spoil(folder, mistake)
    with pytest.raises((ValueError, ImageFileError)) as caught:
        load_pairs(folder, "noise")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_are_checked_where_a_pair_is_read_too(folder):
    pairs = load_pairs(folder, "noise")
    spoil(folder, "size")
    with pytest.raises(ValueError, match=r"9 × 7 .* 24 × 21"):
        pairs.in_memory()


def test_pairs_show_a_type_of_damage_that_is_known(folder):
    with pytest.raises(ValueError, match="lowres, got 'fog'"):
        load_pairs(folder, "fog")
    with pytest.raises(ValueError, match="noise, haze"):
        Pairs("", ())


def test_pairs_of_which_none_trains_are_refused(folder):
    held_back = {path.stem for path in (folder / "target" / "sub").iterdir() if is_held_back(Path("sub", path.name))}
    for path in folder.rglob("*.*"):
        if path.stem not in held_back:
            path.unlink()
    with pytest.raises(ValueError, match=r"none of the 1 pairs in .* is left to train on; add more pairs"):
        load_pairs(folder, "noise")


# ---- sets of papers


def touch(root: Path, *paths: str) -> None:
    """Make empty files: finding reads none."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def example(template: str, n: int) -> str:
    """Fill in a template."""
    return re.sub(r"\{\w+\}", f"{n:04}", template.replace("**/", "part1/").replace("*", "0.8_0.1"))


@EVERY_LAYOUT
def test_every_layout_of_every_set_is_found_below_its_root(tmp_path, name, folder, layout):
    for n in (1, 2):
        touch(tmp_path / folder, f"{example(layout.damaged, n)}.png", f"{example(layout.clean, n)}.png")
    with pytest.warns(UserWarning, match=f"{name}: .* holds 2 pictures"):
        pairs = find(name, tmp_path)
    here = tmp_path / folder
    assert pairs == tuple(
        (here / f"{example(layout.damaged, n)}.png", here / f"{example(layout.clean, n)}.png") for n in (1, 2)
    )


PUBLISHED = {
    "reside-ots": ("OTS/hazy/part1/0025_0.8_0.04.jpg", "OTS/clear/0025.jpg"),
    "sots-outdoor": ("SOTS/outdoor/hazy/0001_0.8_0.2.jpg", "SOTS/outdoor/gt/0001.png"),
    "rain100l-train": ("RainTrainL/rain-1.png", "RainTrainL/norain-1.png"),
    "rain100l-test": ("Rain100L/rainy/rain-001.png", "Rain100L/norain-001.png"),
    "gopro-train": (
        "GOPRO_Large/train/GOPR0372_07_00/blur/000047.png",
        "GOPRO_Large/train/GOPR0372_07_00/sharp/000047.png",
    ),
    "lol-test": ("LOLdataset/eval15/low/1.png", "LOLdataset/eval15/high/1.png"),
}


@pytest.mark.filterwarnings("ignore:.*published are")
@pytest.mark.parametrize("name", PUBLISHED)
def test_pairs_are_found_as_they_are_published_and_other_files_are_passed_by(tmp_path, name):
    damaged, clean = PUBLISHED[name]
    touch(tmp_path, damaged, clean, f"{Path(clean).parent}/notes.txt", f"{Path(clean).parent}/rainregion-1.png")
    touch(tmp_path, "GOPRO_Large/train/GOPR0372_07_00/blur_gamma/000047.png")
    assert find(name, tmp_path) == ((tmp_path / damaged, tmp_path / clean),)


def test_a_complete_set_is_found_without_a_warning(tmp_path):
    touch(tmp_path, *(f"LOL/eval15/{side}/{n}.png" for side in ("low", "high") for n in range(15)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(find("lol-test", tmp_path)) == 15


def test_a_set_of_another_size_is_found_with_both_numbers_said(tmp_path):
    touch(tmp_path, "hazy/1_0.8_0.1.jpg", "hazy/1_0.9_0.1.jpg", "clear/1.jpg")
    with pytest.warns(UserWarning) as caught:
        find("reside-ots", tmp_path)
    assert "holds 2 pictures of 1, published are 72,135 of 2,061 clean ones" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_missing_is_said_in_one_line_with_where_and_what(tmp_path, name):
    with pytest.raises(ValueError) as caught:
        find(name, tmp_path)
    message, paper = str(caught.value), SETS[name]
    for word in (name, str(tmp_path), f"{paper.count:,}", paper.folders[0], paper.layouts[0].clean):
        assert word in message
    assert "\n" not in message


def test_a_clean_picture_that_is_missing_is_named(tmp_path):
    touch(tmp_path, "LOL/our485/low/1.png", "LOL/our485/low/2.png", "LOL/our485/high/2.png")
    with pytest.raises(ValueError, match=r"lol-train: 1 of 2 .* such as our485/low/1\.png; expected our485/high"):
        find("lol-train", tmp_path)


def test_an_unknown_set_is_refused_with_those_that_are_known(tmp_path):
    with pytest.raises(ValueError, match=r"bsd400, wed, .*'urban100'"):
        find("urban100", tmp_path)


@pytest.mark.filterwarnings("ignore:.*published are")
def test_all_hazy_pictures_of_one_scene_are_on_one_side_of_the_split(tmp_path):
    scenes = [f"{n:04}" for n in range(80)]
    touch(tmp_path, *(f"hazy/{s}_{a}_0.1.jpg" for s in scenes for a in (0.8, 1)), *(f"clear/{s}.jpg" for s in scenes))
    used = load("reside-ots", tmp_path).pairs
    targets = {p.target for p in used}
    assert len(used) == 2 * len(targets)
    assert 0 < len(targets) < len(scenes)


@pytest.mark.filterwarnings("ignore:.*published are")
def test_test_sets_are_whole(tmp_path):
    for n in range(60):
        save(tmp_path / "CBSD68" / f"{n}.png", np.full((4, 4, 3), n, np.uint8))
        touch(tmp_path, f"LOL/eval15/low/{n}.png", f"LOL/eval15/high/{n}.png")
    assert len(load("lol-test", tmp_path).pairs) == len(load_clean("cbsd68", tmp_path)) == 60
    shutil.move(tmp_path / "CBSD68", tmp_path / "BSD400")
    used, kept = (load_clean("bsd400", tmp_path, held_back=part) for part in (False, True))
    assert 0 < len(kept) < len(used) < len(used) + len(kept) == 60
    assert used[0].grey


def test_clean_sets_and_pairs_are_not_taken_for_each_other(tmp_path):
    with pytest.raises(ValueError, match="wed holds clean pictures only"):
        load("wed", tmp_path)
    with pytest.raises(ValueError, match="gopro-train holds pairs"):
        load_clean("gopro-train", tmp_path)


def test_every_set_shows_a_known_damage_and_pairs_by_the_same_words():
    for paper in SETS.values():
        assert paper.type in TYPES
        for layout in paper.layouts:
            damaged, clean = (re.findall(r"\{\w+\}", side) for side in (layout.damaged, layout.clean))
            assert damaged == clean

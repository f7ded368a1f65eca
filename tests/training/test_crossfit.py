"""The model that renders a medium picture never saw it; tiers differ in quality and in nothing else."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import l1_loss

from perceive_ir import TYPES, WeightsError
from perceive_ir.networks import CompactConfig, Signals
from perceive_ir_training import crossfit
from perceive_ir_training.crossfit import (
    GROUPS,
    MARGIN,
    HalfConfig,
    Halves,
    as_stored,
    balanced_tasks,
    cached_halves,
    draw_damaged,
    draw_scenes,
    fold_of,
    load_halves,
    make_halves,
    names_of,
    save_halves,
    split,
    train_half,
    train_member,
    triplets,
)
from perceive_ir_training.data import Picture, Pictures, is_held_back
from perceive_ir_training.losses import LOW_FROM, left_over, tiers_of
from perceive_ir_training.sampling import OF_A_MICROSCOPE

TINY = HalfConfig(net=CompactConfig((4, 4), (1, 1), (1,)), steps=3, batch=4, patch=32, learning_rate=3e-3)

NONE: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@dataclass(frozen=True)
class Watched:
    """A picture that records who looks at it."""

    name: str
    inside: np.ndarray
    log: list[str] = field(compare=False)
    grey: bool = False
    microscopy: bool = False

    @property
    def pixels(self) -> np.ndarray:
        self.log.append(self.name)
        return self.inside


def make_pictures(log: list[str] | None = None) -> Pictures:
    """Eight photos and eight grey micrographs; of both there are some in each fold."""
    source, groups = random(), []
    for kind, count in (("photo", 8), ("cell", 8)):
        group = []
        for n in range(count):
            pixels = source.integers(0, 256, (12, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            pixels = pixels[..., :1].repeat(3, 2) if kind == "cell" else pixels
            name, is_cell = f"{kind}s/{n}.png", kind == "cell"
            made = Picture(name, pixels, is_cell, is_cell)
            group.append(made if log is None else Watched(name, pixels, log, is_cell, is_cell))
        groups.append(tuple(group))
    return Pictures(*groups)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return make_pictures()


@pytest.fixture(scope="module")
def halves(pictures) -> Halves:
    return make_halves(pictures, TINY)


# ---- folds


def test_folds_follow_the_relative_name_alone_and_are_alike_in_size():
    names = [f"folder/{n}.png" for n in range(4000)]
    folds = [fold_of(name) for name in names]
    assert set(folds) == {0, 1}
    assert np.mean(folds) == pytest.approx(0.5, abs=0.03)
    assert [fold_of(name.replace("/", "\\")) for name in names] == folds
    digest = hashlib.sha256(b"perceive-ir folds folder/7.png").digest()
    assert fold_of("folder/7.png") == digest[0] % 2


def test_folds_know_nothing_of_what_is_held_back():
    names = [f"folder/{n}.png" for n in range(20000)]
    held = [fold_of(name) for name in names if is_held_back(Path(name))]
    assert len(held) > 1000
    assert np.mean(held) == pytest.approx(0.5, abs=0.05)


def test_every_picture_is_in_its_own_fold_and_in_no_other(pictures):
    parts = split(pictures)
    assert names_of(parts[0]) | names_of(parts[1]) == names_of(pictures)
    for fold, part in enumerate(parts):
        assert part.photos and part.microscopy
        assert {fold_of(name) for name in names_of(part)} == {fold}
        assert all(p.microscopy for p in part.microscopy) and not any(p.microscopy for p in part.photos)


def test_a_fold_without_photos_is_refused(pictures):
    lonely = Pictures(split(pictures)[0].photos, pictures.microscopy)
    with pytest.raises(ValueError, match=f"none of {len(lonely.photos)} photos falls into fold 1; add more photos"):
        split(lonely)


# ---- who saw what


def test_the_model_that_renders_a_picture_never_saw_it():
    log: list[str] = []
    pictures = make_pictures(log)
    seen_by: list[set[str]] = []
    halves = Halves(TINY, NONE)
    for model in halves.models:
        trained: set[str] = set()
        seen_by.append(trained)
        for net in model.members:
            net.register_forward_hook(lambda *_, trained=trained: (trained.update(log), log.clear())[1])
    for fold, part in enumerate(split(pictures)):
        train_half(halves.models[fold], part, replace(TINY, steps=12, microscopy=0.5), random(fold))
        assert seen_by[fold] == names_of(part)  # all were used, and none of the others
    log.clear()
    known = [set(names) for names in seen_by]
    for fold, part in enumerate(split(pictures)):
        for names in seen_by:
            names.clear()
        triplets(halves, part, 16, 16, random(), microscopy=0.5)
        assert not seen_by[fold]  # the model of the same fold was not asked
        assert seen_by[1 - fold] and not seen_by[1 - fold] & known[1 - fold]


def test_each_half_trains_on_its_own_fold_and_says_so(pictures, monkeypatch):
    given = []
    monkeypatch.setattr(crossfit, "train_half", lambda model, part, *_, **__: given.append((model, names_of(part))))
    halves = make_halves(pictures, TINY)
    parts = split(pictures)
    assert given == [(halves.models[fold], names_of(part)) for fold, part in enumerate(parts)]
    assert halves.seen == (names_of(parts[0]), names_of(parts[1]))


def test_pictures_of_both_folds_at_once_are_refused(pictures, halves):
    with pytest.raises(ValueError, match="expected pictures of one fold, got those of 2"):
        triplets(halves, pictures, 8, 16, random())


def test_a_model_that_knows_a_picture_does_not_render_it(pictures, halves):
    part = split(pictures)[0]
    knowing = Halves(TINY, (frozenset(), frozenset([part.photos[1].name])))
    with pytest.raises(ValueError, match=f"render {part.photos[1].name} was trained on it; train the halves again"):
        triplets(knowing, part, 8, 16, random())


def test_a_picture_is_rendered_by_the_model_of_the_other_fold():
    halves = Halves(TINY, NONE)
    with torch.no_grad():
        for fold, model in enumerate(halves.models):
            for parameter in model.parameters():
                parameter.zero_()
            model.members[0].backbone.leave.bias.fill_(0.1 * (fold + 1))
            model.members[1].backbone.leave.bias.fill_(-0.1)
    x, told = torch.full((1, 3, 16, 16), 0.5), torch.tensor([[0.5 * (t == "rain") for t in TYPES]])
    torch.testing.assert_close(halves.render(x, told, 0), x + 0.2)
    torch.testing.assert_close(halves.render(x, told, 1), x + 0.1)
    torch.testing.assert_close(halves.render(x, told / 4, 0), x + 0.1)  # told of a little, it changes little
    blurred = torch.tensor([[0.5 * (t == "blur") for t in TYPES]])
    torch.testing.assert_close(halves.render(x, blurred, 0), x - 0.1)  # by a network of its own
    assert halves.render(x + 0.45, told, 0).max() == 1.0  # 1.15, clipped
    assert not halves.render(x, told, 0).requires_grad


# ---- training


def test_training_repeats_itself_and_leaves_the_random_numbers_alone(pictures, halves):
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    again = make_halves(pictures, TINY)
    assert torch.equal(state, torch.random.get_rng_state())
    other = make_halves(pictures, replace(TINY, seed=1))
    for a, b in zip(halves.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, c) for a, c in zip(halves.parameters(), other.parameters(), strict=True))
    one, other_one = (model.members[0].backbone.leave.weight for model in Halves(TINY, NONE).models)
    assert not torch.equal(one, other_one)
    first, second = (list(model.parameters()) for model in halves.models)
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not halves.training and not any(p.requires_grad for p in halves.parameters())


def test_training_brings_damaged_pictures_nearer_to_clean_ones(pictures):
    part = split(pictures)[0]
    settings = replace(TINY, steps=40, learning_rate=2e-2, microscopy=0.0)
    model = Halves(settings, NONE).models[0].members[0]
    drawn = draw_damaged(part, replace(settings, batch=32), ("lowlight",), random(9))

    def missed() -> float:
        return l1_loss(model(drawn.damaged, Signals(drawn.told)), drawn.target).item()

    before = missed()
    train_member(model, ("lowlight",), part, settings, random())
    assert missed() < 0.9 * before


def test_what_changes_detail_alone_has_a_network_that_goes_on_from_the_first(pictures, monkeypatch):
    turns = []
    monkeypatch.setattr(
        crossfit, "train_member", lambda net, own, *_, share, **__: turns.append((net, own, share)) or net.half()
    )
    model = Halves(TINY, NONE).models[0]
    train_half(model, pictures, TINY, random())
    (first, all_types, share), (fine, own, rest) = turns
    assert (first, fine) == tuple(model.members) and (all_types, own) == (TYPES, GROUPS[1]) and share + rest == 1
    for a, b in zip(first.parameters(), fine.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_restorer_learns_on_one_type_at_a_time_and_is_told_it(pictures):
    source = random()
    for own in GROUPS:
        drawn = draw_damaged(pictures, replace(TINY, batch=40), own, source)
        assert {TYPES[n] for n in drawn.true.argmax(dim=1)} == set(own)
    drawn = draw_damaged(pictures, replace(TINY, batch=40), TYPES, source)
    assert (np.count_nonzero(drawn.true, axis=1) == 1).all()
    assert torch.equal(drawn.told > 0, drawn.true > 0) and torch.equal(drawn.target, drawn.clean)
    alike = torch.tensor([t in ("noise", "jpeg", "lowres", "lowlight") for t in TYPES])  # weather: as shown
    torch.testing.assert_close(drawn.told[:, alike], drawn.true[:, alike])
    assert ((drawn.damaged - drawn.target).abs().amax(dim=(1, 2, 3)) > 0).float().mean() > 0.9


def steps_of(pictures: Pictures, settings: HalfConfig, **options) -> int:
    model = Halves(settings, NONE).models[0]
    count = []
    for net in model.members:
        net.register_forward_hook(lambda *_: count.append(1) and None)
    train_half(model, pictures, settings, random(), **options)
    return len(count)


def test_training_ends_after_its_steps_or_its_time_but_not_before_one_step(pictures, monkeypatch):
    assert steps_of(pictures, TINY) == 3
    assert steps_of(pictures, replace(TINY, steps=10)) == 10
    assert steps_of(pictures, replace(TINY, steps=9), minutes=0) == 2  # one of each network
    clock = iter(range(0, 6000, 60))
    monkeypatch.setattr(crossfit.time, "monotonic", lambda: next(clock))  # a minute for each step
    assert steps_of(pictures, replace(TINY, steps=20), minutes=10) == 7 + 4  # each ends within a minute


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"patch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"microscopy": 1.5},
        {"seed": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        replace(TINY, **wrong)


def test_what_is_left_is_a_share_of_the_damage():
    target, damaged = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.5)
    damaged[0] += 0.4
    damaged[1] += 0.02
    assert left_over(target, target, damaged) == 0
    slight, severe = (left_over(damaged[n : n + 1], target[n : n + 1], damaged[n : n + 1]).item() for n in (1, 0))
    assert severe == pytest.approx(0.4 / (0.4 + 1 / 255), rel=1e-4)
    assert slight == pytest.approx(0.02 / (0.02 + 1 / 255), rel=1e-4)
    assert left_over(damaged, target, damaged).item() == pytest.approx((slight + severe) / 2)


# ---- the file


def test_halves_come_back_from_their_file(halves, tmp_path):
    path = tmp_path / "folder" / "halves.safetensors"
    save_halves(path, halves)
    state = torch.random.get_rng_state()
    loaded = load_halves(path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert (loaded.settings, loaded.seen) == (halves.settings, halves.seen)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), halves.parameters(), strict=True))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert [p.name for p in path.parent.iterdir()] == ["halves.safetensors"]


def test_halves_are_trained_once_and_read_afterwards(pictures, tmp_path, monkeypatch):
    path = tmp_path / "halves.safetensors"
    first = cached_halves(path, pictures, TINY)
    monkeypatch.setattr(crossfit, "make_halves", lambda *_, **__: pytest.fail("trained again"))
    second = cached_halves(path, pictures, TINY)
    a, b = (triplets(h, split(pictures)[1], 8, 16, random()) for h in (first, second))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    with pytest.raises(WeightsError, match=r"trained otherwise; delete it or give another path"):
        cached_halves(path, pictures, replace(TINY, steps=4))


def rewrite(path: Path, change, *, sound: bool) -> None:
    """Change a file as somebody else would."""
    from safetensors.torch import save_file

    from perceive_ir._weights import digest_of, read_tensors

    tensors, about = read_tensors(path)
    digest = about.pop("digest")
    tensors, about = change(tensors, about)
    save_file(tensors, path, about | {"digest": digest_of(tensors, about) if sound else digest})


@pytest.mark.parametrize(
    ("change", "sound", "words"),
    [
        (lambda t, a: ({k: v + 1 for k, v in t.items()}, a), False, "digest"),
        (lambda t, a: (t, a | {"format": "other"}), True, "no halves of this project"),
        (lambda t, a: ({k: v for k, v in t.items() if "leave" not in k}, a), True, "lacks the tensor"),
        (lambda t, a: (t, a | {"settings": json.dumps({"net": {"depth": 3}})}), True, "'depth'"),
        (lambda t, a: (t, a | {"settings": "{}"}), True, "cannot be built"),
        (lambda t, a: (t, a | {"seen": "[[], [], []]"}), True, "cannot be built"),
        (lambda t, a: (t, a | {"seen": "[1, 2]"}), True, "cannot be built"),
    ],
)
def test_a_file_that_holds_no_sound_halves_is_refused_in_one_line(halves, tmp_path, change, sound, words):
    path = tmp_path / "halves.safetensors"
    save_halves(path, halves)
    rewrite(path, change, sound=sound)
    with pytest.raises(WeightsError) as caught:
        load_halves(path)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


# ---- triplets


@pytest.mark.parametrize("fold", [0, 1])
def test_triplets_show_one_scene_in_three_qualities(pictures, halves, fold):
    low, medium, high, tasks = triplets(halves, split(pictures)[fold], 24, 16, random())
    assert low.shape == medium.shape == high.shape == (24, 3, 16, 16)
    for x in (low, medium, high):
        assert x.min() >= 0 and x.max() <= 1
        torch.testing.assert_close((x * 255).round() / 255, x, rtol=0, atol=1e-6)  # what a file holds
    assert np.bincount(tasks.numpy(), minlength=len(TYPES)).tolist() == [3] * len(TYPES)
    assert not torch.equal(medium, low) and not torch.equal(medium, high)
    values = {tuple(v) for p in pictures.photos + pictures.microscopy for v in p.pixels.reshape(-1, 3).tolist()}
    found = {tuple(v) for v in (high * 255).round().int().movedim(1, -1).reshape(-1, 3).tolist()}
    assert found <= values


def test_triplets_repeat_with_their_generator(pictures, halves):
    part = split(pictures)[0]
    a, b, c = (triplets(halves, part, 8, 16, random(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.low, c.low)


def test_low_has_the_type_of_its_task_alone_and_is_of_low_quality(pictures, halves, monkeypatch):
    drawn = []
    real = crossfit.draw_mixture
    monkeypatch.setattr(crossfit, "draw_mixture", lambda c, s, r: (drawn.append(s), real(c, s, r))[1])
    tasks = triplets(halves, split(pictures)[0], 40, 16, random()).tasks
    (severities,) = drawn
    assert (np.count_nonzero(severities, axis=1) == 1).all()
    assert severities.argmax(axis=1).tolist() == tasks.tolist()
    assert severities.max(axis=1).min() >= LOW_FROM and severities.max() <= 1
    assert not tiers_of(torch.from_numpy(severities)).any()


def test_the_medium_picture_is_the_rendered_low_one_without_its_border(pictures, halves, monkeypatch):
    rendered = []
    real = halves.render

    def watch(damaged, told, fold):
        rendered.append((damaged, told, real(damaged, told, fold), fold))
        return rendered[0][2]

    monkeypatch.setattr(halves, "render", watch)
    made = triplets(halves, Pictures(split(pictures)[1].photos), 8, 16, random())
    ((damaged, told, restored, fold),) = rendered
    assert fold == 1
    assert told.argmax(dim=1).tolist() == made.tasks.tolist() and (told > 0).sum(dim=1).tolist() == [1] * 8
    assert damaged.shape[2:] == (16 + 2 * MARGIN,) * 2
    inside = slice(MARGIN, -MARGIN)
    assert torch.equal(made.low, damaged[..., inside, inside])
    torch.testing.assert_close(made.medium, restored[..., inside, inside], rtol=0, atol=0.5 / 255 + 1e-6)


def test_micrographs_get_only_what_micrographs_can_have(pictures):
    tasks = balanced_tasks(80, random())
    crops = draw_scenes(pictures, tasks, 16, 1.0, random())
    possible = np.array([TYPES[n] in OF_A_MICROSCOPE for n in tasks])
    assert np.array_equal(crops.microscopy, possible)
    assert np.array_equal(crops.grey.numpy(), possible)
    for crop, grey in zip(crops.pixels, crops.grey, strict=True):
        assert bool((crop[0] == crop[1]).all()) == bool(grey)
    assert not draw_scenes(pictures, tasks, 16, 0.0, random()).microscopy.any()


@pytest.mark.parametrize("count", [1, 3, 8, 21])
def test_types_differ_in_number_by_one_at_most(pictures, halves, count):
    counts = np.bincount(balanced_tasks(count, random()), minlength=len(TYPES))
    assert counts.sum() == count and np.ptp(counts) <= 1
    assert len(triplets(halves, split(pictures)[0], count, 16, random()).low) == count
    extra = {tuple(np.bincount(balanced_tasks(3, random(seed)), minlength=len(TYPES))) for seed in range(20)}
    assert len(extra) > 5


def test_grey_pictures_stay_grey_and_all_are_what_a_file_holds():
    x = torch.rand(2, 3, 4, 4)
    stored = as_stored(x, torch.tensor([True, False]))
    torch.testing.assert_close(stored[0], x[0].mean(dim=0).expand(3, -1, -1), rtol=0, atol=0.5 / 255 + 1e-6)
    assert torch.equal(stored[0, 0], stored[0, 1]) and torch.equal(stored[0, 0], stored[0, 2])
    torch.testing.assert_close(stored[1], x[1], rtol=0, atol=0.5 / 255 + 1e-6)
    torch.testing.assert_close((stored * 255).round(), stored * 255, rtol=0, atol=1e-4)


def test_a_size_that_the_restorer_cannot_take_is_refused(pictures, halves):
    with pytest.raises(ValueError, match=rf"divisible by \d, got {17 + 2 * MARGIN}"):
        triplets(halves, split(pictures)[0], 8, 17, random())
    with pytest.raises(ValueError, match=r"divisible by \d, got 31"):
        Halves(replace(TINY, patch=31), NONE)


def test_the_restorers_have_a_network_by_default():
    halves = Halves(HalfConfig(), NONE)
    assert halves.render(torch.rand(1, 3, 48, 64), torch.full((1, len(TYPES)), 0.5), 0).shape == (1, 3, 48, 64)
    assert sum(p.numel() for p in halves.parameters()) < 1_000_000

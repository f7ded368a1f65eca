"""A small training runs, repeats itself, keeps its promises, and leaves weights that load."""

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from perceive_ir import TYPES, WeightsError, load
from perceive_ir._weights import Card, load_system, save_system
from perceive_ir.networks import Reading, Signals, System, SystemConfig
from perceive_ir_training import MixConfig, StageConfig, TrainConfig, load_config, train
from perceive_ir_training.config import LossConfig, PerceiverConfig, PromptsConfig, parse, shipped_names
from perceive_ir_training.crossfit import fold_of, load_halves
from perceive_ir_training.data import (
    HELD_BACK,
    Picture,
    Pictures,
    crop,
    is_held_back,
    load_pictures,
    read_picture,
    vary_detail,
    vary_tones,
)
from perceive_ir_training.learner import update_average
from perceive_ir_training.loop import learning_rate
from perceive_ir_training.losses import balanced_l1, contrastive, perceiver_loss, tiers_of
from perceive_ir_training.plan import Plan
from perceive_ir_training.sampling import OF_A_MICROSCOPE, draw_batch, draw_severities, tell
from perceive_ir_training.shown import perceiver_pictures
from perceive_ir_training.sources import load_sources
from perceive_ir_training.stages import Setting
from perceive_ir_training.starting import load_start, make_stage

STAGES = pytest.mark.parametrize("stage", ["perceiver", "restorer"])
BRIEF = StageConfig(steps=3, batch=5, patch=32, warm_up=1)
FIRST = PerceiverConfig(steps=3, batch=5, patch=32, warm_up=1)
TINY = TrainConfig(
    name="mini",
    version="7",
    model=SystemConfig(
        sizes={"widths": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1)},
        tower={"widths": (4, 4, 8, 8)},
    ),
    losses=LossConfig(language=0),
    perceiver=FIRST,
    prompts=PromptsConfig(steps=3, batch=8, patch=32, warm_up=1, medium_steps=2, medium_batch=2, medium_patch=32),
    restorer=BRIEF,
)
SPEAKING = replace(TINY, losses=LossConfig())
# A name of each kind, by the hash of the name.
KEPT = next(f"held{n}.png" for n in range(1000) if is_held_back(Path(f"held{n}.png")))
USED = [f"used{n}.png" for n in range(40) if not is_held_back(Path(f"used{n}.png"))][:4]
assert {fold_of(name) for name in USED} == {0, 1}


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory) -> Path:
    """Four green pictures that train and a red one that does not."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in [*USED, KEPT]:
        pixels = random.integers(0, 256, (10, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        pixels[..., 0 if name in USED else 1] = 0
        Image.fromarray(pixels).save(folder / name)
    return folder.parent


def run(stage: str, data: Path, folder: Path, config: TrainConfig = TINY, **options):
    return list(train(config, stage, data=data, run=folder, **{"log_every": 1, **options}))


def random() -> np.random.Generator:
    return np.random.default_rng(0)


# ---- whole runs


@STAGES
def test_a_run_leaves_weights_that_load_and_lines_that_can_be_read(pictures_folder, tmp_path, stage):
    progress = run(stage, pictures_folder, tmp_path)
    assert [p.step for p in progress] == [1, 2, 3]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert {"stage", "minutes", "rate", "norm", "skipped", "wait"} <= set(lines[0])
    assert lines[0]["stage"] == stage
    assert np.isfinite([value for line in lines for value in line.values() if not isinstance(value, str)]).all()
    model = load(tmp_path / "weights.safetensors", device="cpu")
    assert (model.card.name, model.card.version) == ("mini", "7")
    assert model.restore(np.zeros((40, 30)), task="denoise", severity=1).image.shape == (40, 30)


@STAGES
def test_the_same_seed_gives_the_same_losses_and_another_seed_others(pictures_folder, tmp_path, stage):
    first, again = (run(stage, pictures_folder, tmp_path / str(n)) for n in range(2))
    other = run(stage, pictures_folder, tmp_path / "other", replace(TINY, seed=1))
    assert [p.losses for p in first] == [p.losses for p in again]
    assert first[0].losses != other[0].losses
    digests = [load_system(tmp_path / str(n) / "weights.safetensors")[1].digest for n in range(2)]
    assert digests[0] == digests[1]


@STAGES
def test_only_the_half_that_is_trained_changes(pictures_folder, tmp_path, stage):
    run("perceiver", pictures_folder, tmp_path / "first")
    start = tmp_path / "first" / "weights.safetensors"
    run(stage, pictures_folder, tmp_path / "second", init_from=start)
    before, after = (load_system(tmp_path / n / "weights.safetensors")[0] for n in ("first", "second"))
    changed = {
        name.split(".")[0]
        for name, tensor in before.state_dict().items()
        if tensor.is_floating_point() and not torch.equal(tensor, after.state_dict()[name])
    }
    assert changed == {stage}


def test_the_perceiver_may_learn_tiers_from_half_restored_scenes(pictures_folder, tmp_path):
    scenes = replace(TINY.perceiver, scenes=2)
    config = replace(TINY, perceiver=scenes, losses=LossConfig(language=0, scenes=1.0))
    progress = run("perceiver", pictures_folder, tmp_path, config)
    assert all(p.losses["scenes"] > 0 for p in progress)
    assert "scenes" not in run("perceiver", pictures_folder, tmp_path / "without")[0].losses
    halves = load_halves(tmp_path / "halves.safetensors")
    assert halves.seen[0] | halves.seen[1] == set(USED)
    stage = make_stage(
        "perceiver", Plan(config, ("perceiver",), str(pictures_folder)), tmp_path,
        Setting(config, load_sources(pictures_folder, config.mix, 0), torch.device("cpu")),
        load_start(tmp_path / "weights.safetensors", config), None, 1.0,
    )  # fmt: skip
    images, tiers = stage.batch(1, 32).scenes
    assert images.shape == (6, 3, 32, 32) and tiers.tolist() == [0, 0, 1, 1, 2, 2]
    assert len({image.numpy().tobytes() for image in images}) == 6


def test_the_rival_of_the_perceptual_loss_is_told_what_the_restorer_is(pictures_folder, tmp_path, monkeypatch):
    config = replace(TINY, losses=LossConfig(language=0, scenes=1.0, perceptual=0.1))
    run("perceiver", pictures_folder, tmp_path, config)
    stage = make_stage(
        "restorer", Plan(config, ("restorer",), str(pictures_folder)), tmp_path,
        Setting(config, load_sources(pictures_folder, config.mix, 0), torch.device("cpu")),
        load_start(tmp_path / "weights.safetensors", config), None, 1.0,
    )  # fmt: skip
    told, real = [], stage.halves.render
    monkeypatch.setattr(stage.halves, "render", lambda x, t, fold: (told.append(t), real(x, t, fold))[1])
    stage.refresh(1)
    batch = stage.batch(1, 32)
    assert batch.told.any()
    stage.terms(batch)
    assert torch.equal(told[0], batch.told)


def test_a_readout_of_whole_pictures_comes_along_where_there_is_one(pictures_folder, tmp_path):
    run("perceiver", pictures_folder, tmp_path)
    path, wide_path = tmp_path / "weights.safetensors", tmp_path / "wide.safetensors"
    wide = replace(TINY, model=replace(TINY.model, tower={**TINY.model.tower, "overall": True}))
    fresh = load_start(path, wide)
    overall = fresh.perceiver.overall
    assert overall is not None
    assert torch.equal(overall.weight, overall.rule())
    torch.nn.init.constant_(overall.weight, 0.5)
    save_system(wide_path, fresh, Card("tiny", "0"), half=False)
    kept, left = load_start(wide_path, wide).perceiver, load_start(wide_path, TINY).perceiver
    assert kept.overall is not None
    assert (kept.overall.weight == 0.5).all()
    assert left.overall is None
    assert torch.equal(left.cfe.enter.weight, kept.cfe.enter.weight)


def test_a_perceiver_that_gains_the_grid_reads_at_first_what_it_read(pictures_folder, tmp_path):
    unguided = replace(TINY, model=replace(TINY.model, semantics=False))
    run("perceiver", pictures_folder, tmp_path, unguided)
    path = tmp_path / "weights.safetensors"
    gridded = replace(unguided, model=replace(unguided.model, tower={**TINY.model.tower, "grid": True}))
    before, after = load_system(path)[0].perceiver, load_start(path, gridded).eval().perceiver
    x = torch.rand(2, 3, 48, 64)
    assert after.semantics(x)[-1].shape == (2, 6)
    for name in ("type_logits", "severities", "tier_logits"):
        torch.testing.assert_close(getattr(after(x), name), getattr(before(x), name))
    path = tmp_path / "second"
    run("perceiver", pictures_folder, path, gridded, init_from=tmp_path / "weights.safetensors")
    assert load_system(path / "weights.safetensors")[0].perceiver.cfe.enter.weight[:, -6:].any()
    with pytest.raises(WeightsError, match="make them the same"):
        load_start(path / "weights.safetensors", unguided)


def test_a_perceiver_that_gains_blocks_and_bands_reads_at_first_what_it_read(pictures_folder, tmp_path):
    unguided = replace(TINY, model=replace(TINY.model, semantics=False))
    run("perceiver", pictures_folder, tmp_path, unguided)
    path, blocks = tmp_path / "weights.safetensors", unguided.model.tower_config().blocks
    tower = {**TINY.model.tower, "blocks": (*blocks[:-1], blocks[-1] + 2), "grid": True, "bands": True}
    more = replace(unguided, model=replace(unguided.model, tower=tower))
    before, after = load_system(path)[0].perceiver, load_start(path, more).eval().perceiver
    x = torch.rand(2, 3, 48, 64)
    assert [f.shape[1] for f in after.semantics(x)[-2:]] == [6, 238]
    assert len(list(after.tower.parameters())) == len(list(before.tower.parameters())) + 12
    for name in ("type_logits", "severities", "tier_logits"):
        torch.testing.assert_close(getattr(after(x), name), getattr(before(x), name))
    run("perceiver", pictures_folder, tmp_path / "second", more, init_from=path)
    second = tmp_path / "second" / "weights.safetensors"
    trained = load_system(second)[0].perceiver
    assert trained.cfe.enter.weight[:, -238:].any()
    assert trained.tower.stages[-1][-1].body[-1].weight.any()
    with pytest.raises(WeightsError, match="make them the same"):
        load_start(second, unguided)


def test_a_perceiver_that_gains_hidden_units_reads_at_first_what_it_read(pictures_folder, tmp_path):
    run("perceiver", pictures_folder, tmp_path)
    path = tmp_path / "weights.safetensors"
    bent = replace(TINY, model=replace(TINY.model, tower={**TINY.model.tower, "hidden": 12}))
    before, after = load_system(path)[0].perceiver, load_start(path, bent).eval().perceiver
    x = torch.rand(2, 3, 48, 64)
    torch.testing.assert_close(after(x).tier_logits, before(x).tier_logits)
    torch.testing.assert_close(after.encode_image(x), before.encode_image(x))
    run("perceiver", pictures_folder, tmp_path / "second", bent, init_from=path)
    second = tmp_path / "second" / "weights.safetensors"
    assert load_system(second)[0].perceiver.bend[-1].weight.any()
    with pytest.raises(WeightsError, match="make them the same"):
        load_start(second, TINY)


@pytest.mark.parametrize("types", [0.0, 1.0])
def test_readouts_alone_learn_on_a_tower_that_stays_as_it_is(pictures_folder, tmp_path, types):
    losses = LossConfig(types=types, severities=0.0, contrast=0.0, language=0.0, scenes=1.0)
    tower = {**TINY.model.tower, "hidden": 6}
    config = replace(TINY, model=replace(TINY.model, tower=tower), losses=losses)
    config = replace(config, perceiver=replace(FIRST, readouts_alone=True, weight_decay=0.1))
    torch.manual_seed(config.seed)
    before = System(config.model).perceiver.state_dict()
    run("perceiver", pictures_folder, tmp_path, config)
    after = load_system(tmp_path / "weights.safetensors")[0].perceiver.state_dict()
    learnt = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert learnt == {"project", "bend", "tiers", "logit_scale"} | ({"cfe"} if types else set())


def test_a_restorer_that_gains_blocks_restores_at_first_as_before(pictures_folder, tmp_path):
    run("restorer", pictures_folder, tmp_path)
    path, sizes = tmp_path / "weights.safetensors", asdict(TINY.model.backbone_config())
    first, *others = sizes["decoder_blocks"]
    deeper = replace(TINY, model=replace(TINY.model, sizes={**sizes, "decoder_blocks": (first + 2, *others)}))
    before, after = load_system(path)[0], load_start(path, deeper).eval()
    x, told = torch.rand(2, 3, 48, 64), torch.rand(2, 8)
    assert (before(x, before.signals(x, told)) - x).abs().max() > 1e-4
    torch.testing.assert_close(after(x, after.signals(x, told)), before(x, before.signals(x, told)))
    assert len(list(after.restorer.parameters())) == len(list(before.restorer.parameters())) + 8
    save_system(tmp_path / "deeper.safetensors", after, Card("tiny", "0"), half=False)
    with pytest.raises(WeightsError, match="make them the same"):
        load_start(tmp_path / "deeper.safetensors", TINY)


def test_a_restorer_that_gains_the_law_of_scattering_learns_to_use_it(pictures_folder, tmp_path):
    run("restorer", pictures_folder, tmp_path)
    path, lawful = tmp_path / "weights.safetensors", replace(TINY, model=replace(TINY.model, scattering=True))
    before, after = load_system(path)[0], load_start(path, lawful).eval()
    x, told, hazy = torch.rand(2, 3, 48, 64), torch.zeros(2, 8), torch.zeros(2, 8)
    told[:, TYPES.index("lowlight")] = hazy[:, TYPES.index("haze")] = 0.5
    torch.testing.assert_close(after(x, after.signals(x, told)), before(x, before.signals(x, told)))
    assert (after(x, after.signals(x, hazy)) - before(x, before.signals(x, hazy))).abs().max() > 1e-3
    run("restorer", pictures_folder, tmp_path / "law", lawful, init_from=path)
    learnt = load_system(tmp_path / "law" / "weights.safetensors")[0]
    assert learnt.config.scattering and learnt.restorer.scattering.trust.bias.any()
    assert all(part.weight.any() for part in learnt.restorer.scattering.show.values())
    with pytest.raises(WeightsError, match=r"holds scattering = True, .* expects scattering = False; make them"):
        load_start(tmp_path / "law" / "weights.safetensors", TINY)


def test_a_run_may_start_from_weights_of_its_own_kind_only(pictures_folder, tmp_path):
    with pytest.raises(WeightsError):
        run("restorer", pictures_folder, tmp_path, init_from=tmp_path / "none.safetensors")
    assert not any(tmp_path.iterdir())


def test_lines_of_the_log_are_means_over_their_steps(pictures_folder, tmp_path):
    single = run("restorer", pictures_folder, tmp_path / "a")
    joined = run("restorer", pictures_folder, tmp_path / "b", log_every=2)
    assert [p.step for p in joined] == [2, 3]
    assert joined[0].losses["l1"] == pytest.approx((single[0].losses["l1"] + single[1].losses["l1"]) / 2)
    assert joined[1].losses["l1"] == pytest.approx(single[2].losses["l1"])


def test_a_run_ends_when_its_time_is_up_and_its_weights_are_there(pictures_folder, tmp_path):
    endless = replace(TINY, restorer=replace(BRIEF, steps=100_000))
    progress = run("restorer", pictures_folder, tmp_path, endless, minutes=1e-4, log_every=1000)
    assert len(progress) == 1
    assert load_system(tmp_path / "weights.safetensors")


def test_an_unknown_stage_is_refused_before_anything_is_written(pictures_folder, tmp_path):
    with pytest.raises(ValueError, match="perceiver, prompts, restorer, all, got 'both'"):
        run("both", pictures_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_makes_the_loss_smaller(pictures_folder, tmp_path):
    mix = MixConfig(clean=0, several=0, told_less=0, told_wrong=0, weights=dict.fromkeys(TYPES, 0.0) | {"noise": 1.0})
    config = replace(TINY, mix=mix, restorer=replace(BRIEF, steps=120, learning_rate=1e-2))
    progress = run("restorer", pictures_folder, tmp_path, config, log_every=30)
    assert progress[-1].losses["l1"] < 0.9 * progress[0].losses["l1"]


# ---- pictures


def test_held_back_pictures_never_train(pictures_folder):
    used, kept = load_pictures(pictures_folder), load_pictures(pictures_folder, held_back=True)
    assert [p.name for p in used.photos] == sorted(USED)
    assert [p.name for p in kept.photos] == [KEPT]
    clean = replace(TINY, mix=MixConfig(clean=1.0))
    for _ in range(4):
        assert not draw_batch(used, 5, 32, clean.mix, random()).damaged[:, 0].any()
        assert not perceiver_pictures(used, used, clean, random(), 32)[0][:, 0].any()


def test_the_split_survives_a_move_and_has_about_the_promised_share(tmp_path, pictures_folder):
    names = [Path(f"folder/picture{n}.png") for n in range(5000)]
    assert np.mean([is_held_back(name) for name in names]) == pytest.approx(HELD_BACK, abs=0.015)
    (tmp_path / "elsewhere").symlink_to(pictures_folder / "photos")
    moved = load_pictures(tmp_path / "elsewhere")
    assert {p.name for p in moved.photos} == set(USED)


def test_a_folder_without_pictures_is_refused_with_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match=r"no pictures under .*photos/"):
        load_pictures(tmp_path)
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="no pictures"):
        load_pictures(tmp_path)


def test_micrographs_are_drawn_as_often_as_told(tmp_path, pictures_folder):
    for kind in ("photos", "microscopy"):
        (tmp_path / kind).mkdir()
        for name in USED:
            (tmp_path / kind / name).write_bytes((pictures_folder / "photos" / name).read_bytes())
    pictures = load_pictures(tmp_path)
    assert np.mean(pictures.draw(400, 16, 0.25, random()).microscopy) == pytest.approx(0.25, abs=0.08)
    assert not pictures.draw(50, 16, 0.0, random()).microscopy.any()


def test_a_grey_picture_is_known_as_grey(tmp_path):
    Image.new("L", (8, 8), 30).save(tmp_path / "grey.png")
    Image.new("RGB", (8, 8), (30, 30, 31)).save(tmp_path / "colour.png")
    assert read_picture(tmp_path / "grey.png", "grey").grey
    assert not read_picture(tmp_path / "colour.png", "colour").grey


@pytest.mark.parametrize("shape", [(40, 50), (10, 50), (7, 9)])
def test_crops_have_their_size_and_only_values_of_the_picture(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    square = crop(pixels, 16, random())
    assert square.shape == (16, 16, 3)
    assert set(map(tuple, square.reshape(-1, 3))) <= set(map(tuple, pixels.reshape(-1, 3)))


@pytest.mark.parametrize("settled", [False, True])
def test_settled_normalisations_keep_their_statistics_while_their_weights_learn(pictures_folder, tmp_path, settled):
    config = replace(TINY, perceiver=replace(FIRST, settled=settled))
    torch.manual_seed(config.seed)
    before = System(config.model).perceiver.state_dict()
    run("perceiver", pictures_folder, tmp_path, config)
    after = load_system(tmp_path / "weights.safetensors")[0].perceiver.state_dict()
    same = {name: torch.allclose(before[name], after[name], atol=1e-4) for name in before}
    assert same["normalise.running_mean"] == same["tower.stages.0.2.running_var"] == settled
    assert not same["normalise.weight"]


# ---- what is shown and told


def truth(rows: int = 300, **fields) -> np.ndarray:
    return draw_severities(np.zeros(rows, bool), MixConfig(**fields), random())


def test_the_mix_is_what_it_says():
    true = truth(4000, clean=0.2, several=0.5)
    present = (true > 0).sum(axis=1)
    assert np.mean(present == 0) == pytest.approx(0.2, abs=0.03)
    assert np.mean(present > 1) == pytest.approx(0.4, abs=0.03)
    assert present.max() == 3
    assert (true <= 1).all()
    assert true[true > 0].min() >= 0.02


def test_rarer_types_are_drawn_less_often():
    true = truth(3000, clean=0, several=0, weights={"noise": 7.0})
    assert np.mean(true[:, TYPES.index("noise")] > 0) == pytest.approx(0.5, abs=0.04)


def test_micrographs_have_no_weather():
    true = draw_severities(np.ones(500, bool), MixConfig(clean=0), random())
    assert {TYPES[n] for n in np.flatnonzero(true.any(axis=0))} == set(OF_A_MICROSCOPE)


def test_what_is_told_and_what_remains_add_up_to_the_truth():
    true = truth()
    told, remaining = tell(true, MixConfig(told_less=1.0, told_wrong=0, told_roughly=0), random())
    damaged = true.any(axis=1)
    np.testing.assert_allclose((told + remaining)[damaged], true[damaged], rtol=0, atol=1e-6)
    assert (remaining[damaged].max(axis=1) > 0).all()
    assert (told[damaged].max(axis=1) > 0).all()
    assert ((remaining >= 0) & (remaining <= true)).all()


def test_told_all_nothing_remains():
    true = truth()
    told, remaining = tell(true, MixConfig(told_less=0, told_wrong=0, told_roughly=0), random())
    assert np.array_equal(told, true)
    assert not remaining.any()


def test_told_wrong_adds_a_type_that_is_absent_and_leaves_nothing():
    true = truth()
    told, remaining = tell(true, MixConfig(told_less=0, told_wrong=1.0, told_roughly=0), random())
    assert not remaining.any()
    assert (((told > 0) & (true == 0)).sum(axis=1) == 1).all()
    assert np.array_equal(told[true > 0], true[true > 0])


def test_told_roughly_errs_by_no_more_than_said_in_half_of_the_samples():
    true = truth(1000, clean=0)
    told, _ = tell(true, MixConfig(told_less=0, told_wrong=0, told_roughly=0.2), random())
    ratio = told[true > 0] / true[true > 0]
    assert (np.abs(ratio - 1) <= 0.2 + 1e-5).all()
    assert np.mean((told == true).all(axis=1)) == pytest.approx(0.5, abs=0.06)
    assert (told <= 1).all()
    assert not told[true == 0].any()


WEATHER = ("rain", "snow")


def test_a_restorer_of_a_group_sees_its_types_first_and_others_beside_them():
    true = draw_severities(np.zeros(600, bool), MixConfig(clean=0, several=0.5), random(), WEATHER)
    mine = np.array([t in WEATHER for t in TYPES])
    assert (true[:, mine] > 0).any(axis=1).all()
    assert np.mean((true[:, ~mine] > 0).any(axis=1)) == pytest.approx(0.5, abs=0.06)


def test_a_restorer_of_a_group_is_told_of_its_types_alone_and_the_others_remain():
    true = truth(600, several=0.8)
    mine = np.array([t in WEATHER for t in TYPES])
    told, remaining = tell(true, MixConfig(told_less=0, told_wrong=0, told_roughly=0), random(), WEATHER)
    assert np.array_equal(told, true * mine)
    assert np.array_equal(remaining, true * ~mine)
    told, remaining = tell(true, MixConfig(told_less=0.5, told_wrong=0.5, told_roughly=0.2), random(), WEATHER)
    assert not told[:, ~mine].any()
    assert np.array_equal(remaining[:, ~mine], true[:, ~mine])
    assert (told[:, mine] > true[:, mine]).any()
    assert (remaining[:, mine] > 0).any()


def test_what_is_perceived_of_other_groups_is_not_told(pictures_folder):
    mix = MixConfig(clean=0, several=1.0, perceived=1.0)
    batch = draw_batch(
        load_pictures(pictures_folder), 40, 32, mix, random(), own=WEATHER, read=lambda x: torch.ones(len(x), 8)
    )
    mine = torch.tensor([t in WEATHER for t in TYPES])
    assert batch.told[:, mine].eq(1).all()
    assert not batch.told[:, ~mine].any()
    others = (batch.true[:, ~mine] > 0).any(dim=1)
    assert (batch.target[others] - batch.clean[others]).abs().amax((1, 2, 3)).min() > 0
    assert torch.equal(batch.target[~others], batch.clean[~others])


def test_a_group_without_a_turn_stays_as_it_is(pictures_folder, tmp_path):
    groups = ("noise+jpeg", "blur+lowres", "rain+snow", "haze+lowlight")
    turns = dict(zip(groups, (0.0, 1.0, 0.0, 2.0), strict=True))
    config = replace(TINY, model=replace(TINY.model, groups=groups), mix=MixConfig(clean=0.0, turns=turns))
    torch.manual_seed(config.seed)
    before = System(config.model).state_dict()
    run("restorer", pictures_folder, tmp_path, replace(config, restorer=replace(BRIEF, steps=12)))
    after = load_system(tmp_path / "weights.safetensors")[0].state_dict()
    changed = {
        int(name.split(".")[2])
        for name in before
        if name.startswith("restorer.members") and not torch.allclose(before[name], after[name], atol=1e-3)
    }
    assert changed == {1, 3}


def test_turns_of_groups_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"unknown group 'noise' in mix\.turns; known groups: noise\+haze"):
        replace(TINY, mix=MixConfig(turns={"noise": 1.0}))
    with pytest.raises(ValueError, match=r"at least one group with a turn"):
        replace(TINY, mix=MixConfig(turns={TINY.model.groups[0]: 0.0}))


def test_a_turn_that_no_type_takes_is_refused():
    rest = "+".join(t for t in TYPES if t not in ("noise", "haze"))
    model = replace(TINY.model, groups=("noise+haze", rest))
    with pytest.raises(ValueError, match=r"at least one group with a turn"):
        replace(TINY, model=model, mix=MixConfig(turns={rest: 0.0}, weights={"noise": 0.0, "haze": 0.0}))


def test_tones_vary_light_and_leave_the_rest_alone(pictures_folder):
    drawn = load_pictures(pictures_folder).draw(40, 32, 0.0, random())
    assert torch.equal(vary_tones(drawn, 0.0, random()).pixels, drawn.pixels)
    half = vary_tones(drawn, 0.5, random()).pixels
    assert 8 <= int((half != drawn.pixels).flatten(1).any(dim=1).sum()) <= 32
    assert (half - drawn.pixels).abs().mean() < 0.1
    grey = replace(drawn, pixels=drawn.pixels.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1), grey=torch.ones(40) > 0)
    varied = vary_tones(grey, 1.0, random()).pixels
    assert torch.equal(varied[:, 0], varied[:, 2])


def test_detail_is_sharpened_and_the_rest_left_alone(pictures_folder):
    drawn = load_pictures(pictures_folder).draw(40, 32, 0.0, random())
    assert vary_detail(drawn, 0.0, random()) is drawn
    half = vary_detail(drawn, 0.5, random()).pixels
    changed = (half != drawn.pixels).flatten(1).any(dim=1)
    assert 8 <= int(changed.sum()) <= 32
    rises = [(x[changed].diff(dim=3).abs()).amax((1, 2, 3)) for x in (half, drawn.pixels)]
    assert ((rises[0] > rises[1]) | (rises[1] > 0.7)).float().mean() > 0.7
    flat = replace(drawn, pixels=torch.full_like(drawn.pixels, 0.2))
    torch.testing.assert_close(vary_detail(flat, 1.0, random()).pixels, flat.pixels)


def test_a_shake_brings_in_what_lies_beside_a_crop():
    ramp = np.arange(256, dtype=np.uint8)[:, None, None].repeat(256, 1).repeat(3, 2)
    pictures = Pictures((Picture("ramp", ramp, grey=True),))
    mix = MixConfig(clean=0, several=0, told_less=0, told_wrong=0, told_roughly=0, microscopy=0)
    mix = replace(mix, weights={t: float(t == "blur") for t in TYPES})
    batch = draw_batch(pictures, 40, 64, mix, random())
    images, _, thumbnails = perceiver_pictures(pictures, pictures, replace(TINY, mix=mix), random(), 64)
    assert batch.damaged.shape == (40, 3, 64, 64) and images[~thumbnails].shape[-2:] == (64, 64)
    # Blur moves a ramp, but does not bend it, unless it is mirrored at the border; in linear light it does a little.
    bent = (batch.damaged - batch.clean).mul(255).flatten(1).std(dim=1)
    assert float(bent.median()) < 0.6


def test_a_batch_shows_what_it_says(pictures_folder):
    pictures = load_pictures(pictures_folder)
    # A crop shows all types but haze as strongly as its scene does.
    batch = draw_batch(pictures, 200, 48, MixConfig(told_less=0.5, told_roughly=0, weights={"haze": 0}), random())
    clean = ~batch.true.any(dim=1)
    assert clean.any()
    assert torch.equal(batch.damaged[clean], batch.clean[clean])
    assert torch.equal(batch.target[clean], batch.clean[clean])
    all_told = ~clean & (batch.told >= batch.true - 1e-6).all(dim=1)
    assert torch.equal(batch.target[all_told], batch.clean[all_told])
    told_less = ~clean & ~all_told
    for changed, rows in ((batch.target, told_less), (batch.damaged, ~clean)):
        visible = (changed[rows] - batch.clean[rows]).abs().amax((1, 2, 3)) > 0
        assert visible.float().mean() > 0.9  # what is near shows a slight haze not at all


def test_what_is_told_beyond_what_is_there_makes_a_brighter_target(pictures_folder):
    mix = MixConfig(clean=0, several=0, told_less=0, told_wrong=0, told_roughly=0, microscopy=0, told_more=0.5)
    at = TYPES.index("lowlight")
    mix = replace(mix, weights={t: float(t in ("lowlight", "noise")) for t in TYPES})
    batch = draw_batch(load_pictures(pictures_folder), 200, 32, mix, random())
    excess = (batch.told - batch.true)[:, at]
    more = excess > 0.02
    assert 0.1 < more.float().mean() < 0.4
    assert torch.equal(batch.told, batch.true.where(torch.arange(8) != at, batch.told))
    gain = (batch.target - batch.clean).mean((1, 2, 3))
    assert (gain[more] > 0).all() and gain[excess == 0].abs().max() == 0
    assert np.corrcoef(excess[more], gain[more])[0, 1] > 0.6


def test_of_haze_the_restorer_is_told_what_a_crop_shows(pictures_folder):
    mix = MixConfig(clean=0, several=0, told_less=0, told_wrong=0, told_roughly=0, microscopy=0)
    mix = replace(mix, weights={t: float(t == "haze") for t in TYPES})
    batch = draw_batch(load_pictures(pictures_folder), 60, 32, mix, random())
    told, true = (severities[:, TYPES.index("haze")] for severities in (batch.told, batch.true))
    change = (batch.damaged - batch.clean).abs().mean((1, 2, 3))
    fits = [float(torch.corrcoef(torch.stack([severity, change]))[0, 1]) for severity in (told, true)]
    assert fits[0] > fits[1] + 0.05


def test_a_shrunk_crop_shows_more_of_its_scene():
    ramp = np.repeat(np.arange(128, dtype=np.uint8)[:, None, None], 128, axis=1).repeat(3, axis=2)
    pictures = Pictures((Picture("ramp", ramp, grey=True),))
    near, far = (pictures.draw(30, 24, 0.0, random(), shrunk=share).pixels * 255 for share in (0.0, 1.0))
    spans = [(x.amax((1, 2, 3)) - x.amin((1, 2, 3))).round().unique().tolist() for x in (near, far)]
    assert spans[0] == [23]
    assert 30 < min(spans[1]) < 50 < 80 < max(spans[1]) <= 92
    assert crop(ramp, 96, random(), 4).shape == (96, 96, 3)


def test_the_perceiver_is_shown_shrunk_pictures_too():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 256, axis=1).repeat(3, axis=2)
    pictures = Pictures((Picture("ramp", ramp, grey=True),))
    spans = {}
    for share in (0.0, 1.0):
        config = replace(TINY, mix=MixConfig(clean=1.0, shrunk=share))
        images, _, thumbnails = perceiver_pictures(pictures, pictures, config, random(), 32)
        spans[share] = (images[~thumbnails] * 255).diff(dim=2).abs().amax((1, 2, 3)).max().round().item()
    assert 1 == spans[0.0] < spans[1.0]


def test_clean_pictures_that_are_told_clean_cost_nothing_and_teach_nothing(pictures_folder, tmp_path):
    mix = MixConfig(clean=1.0, told_less=0.0, told_wrong=0.0)
    progress = run("restorer", pictures_folder, tmp_path, replace(TINY, mix=mix))
    assert all(p.losses["l1"] == p.losses["norm"] == 0 for p in progress)


def test_a_trained_network_that_is_told_nothing_changes_nothing(pictures_folder, tmp_path):
    run("restorer", pictures_folder, tmp_path)
    system, _ = load_system(tmp_path / "weights.safetensors")
    x = torch.rand(2, 3, 32, 40)
    assert torch.equal(system.restorer(x, Signals(torch.zeros(2, len(TYPES)))), x)
    assert not torch.equal(system.restorer(x, Signals(torch.ones(2, len(TYPES)))), x)


# ---- losses and rates


def test_the_worst_damage_decides_the_tier():
    severities = torch.zeros(4, len(TYPES))
    severities[1, 2], severities[2, 0], severities[3, 5] = 0.03, 0.1, 0.3
    assert tiers_of(severities).tolist() == [2, 2, 1, 0]


def test_a_perfect_picture_costs_nothing_and_each_picture_counts():
    target = torch.rand(3, 3, 8, 8)
    damaged = target + torch.tensor([0.0, 0.1, 0.5])[:, None, None, None]
    assert balanced_l1(target, target, damaged) == 0
    costs = [
        float(
            balanced_l1(torch.where(torch.arange(3)[:, None, None, None] == n, target + 0.1, target), target, damaged)
        )
        for n in range(3)
    ]
    assert costs[0] > costs[1] > costs[2] > 0
    assert sum(costs) == pytest.approx(0.1, rel=1e-4)


def test_contrast_rewards_crops_of_one_picture_and_ignores_other_pictures_of_its_kind():
    severities = torch.zeros(6, len(TYPES))
    severities[0:2, 0] = severities[2:4, 3] = severities[4:6, 0] = 0.5
    z = torch.eye(3).repeat_interleave(2, dim=0)
    good = contrastive(z, severities)
    same_kind_alike = z.clone()
    same_kind_alike[4:6] = z[0]
    assert contrastive(same_kind_alike, severities) == pytest.approx(float(good), abs=1e-4)
    assert contrastive(z[[0, 2, 1, 3, 4, 5]], severities) > good + 1


def test_the_readings_cost_what_the_hand_computes():
    severities = torch.zeros(6, len(TYPES))
    severities[0:2, 0] = severities[2:4, 3] = severities[4:6, 0] = 0.5
    z = torch.eye(3).repeat_interleave(2, dim=0)
    # the partner e^1; pictures of other types e^0: two for the four noisy crops, four for the two snowy ones
    found = contrastive(z, severities, temperature=1.0)
    assert float(found) == pytest.approx((4 * math.log(1 + 2 / math.e) + 2 * math.log(1 + 4 / math.e)) / 6)
    reading = Reading(torch.zeros(6, 3), torch.zeros(6, len(TYPES)), severities, z, z)
    loss = perceiver_loss(reading, severities, torch.zeros(6, dtype=torch.bool))
    assert float(loss["tiers"]) == pytest.approx(math.log(3))
    assert float(loss["types"]) == pytest.approx(math.log(2) * (2 + 7) / 8)  # the type that is present weighs 2
    assert float(loss["severities"]) == 0


def test_thumbnails_are_judged_by_light_contrast_and_tier_only():
    severities = torch.zeros(3, len(TYPES))
    reading = Reading(torch.zeros(3, 3), torch.zeros(3, len(TYPES)), torch.zeros(3, len(TYPES)),
                      torch.nn.functional.normalize(torch.ones(3, 4), dim=1), torch.ones(3, 4))  # fmt: skip
    thumbnails = torch.tensor([False, False, True])
    base = perceiver_loss(reading, severities, thumbnails)
    wrong = replace(reading, type_logits=reading.type_logits.clone(), severities=reading.severities.clone())
    for name in ("noise", "blur", "jpeg", "rain"):
        wrong.type_logits[2, TYPES.index(name)] = wrong.severities[2, TYPES.index(name)] = 1.0
    assert perceiver_loss(wrong, severities, thumbnails) == base
    wrong.type_logits[2, TYPES.index("haze")] = 5.0
    assert perceiver_loss(wrong, severities, thumbnails)["types"] > base["types"]
    low = replace(reading, tier_logits=torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]]))
    assert perceiver_loss(low, severities, thumbnails)["tiers"] > base["tiers"]


def test_a_severity_counts_where_its_type_is_present_and_the_more_the_severer_it_is():
    severities = torch.zeros(2, len(TYPES))
    severities[0, 0], severities[1, 3] = 0.25, 0.75
    reading = Reading(torch.zeros(2, 3), torch.zeros(2, len(TYPES)), torch.full((2, len(TYPES)), 0.5),
                      torch.nn.functional.normalize(torch.ones(2, 4), dim=1), torch.ones(2, 4))  # fmt: skip
    reading.severities[1, 3] = 0.95
    loss = perceiver_loss(reading, severities, torch.zeros(2, dtype=torch.bool))["severities"]
    slight, severe = 0.25 - 0.025, 0.2 - 0.025  # smooth L1, linear from 0.05 on
    assert float(loss) == pytest.approx((0.5 * slight + 1.0 * severe) / 1.5)


def test_the_rate_warms_up_and_falls_to_its_end():
    settings = StageConfig(steps=1000, warm_up=100, learning_rate=1.0, final_rate=0.01)
    rates = [learning_rate(step, step / 1000, settings) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(0.01, rel=0.01)
    assert max(rates) == pytest.approx(rates[99], rel=0.03)
    assert rates[-1] == pytest.approx(0.01)
    assert learning_rate(500, 2.0, settings) == pytest.approx(0.01)


def test_the_last_part_of_a_training_shows_larger_patches():
    settings = StageConfig(patch=48, last_patch=96, last_share=0.25)
    assert [settings.patch_at(done) for done in (0.0, 0.74, 0.76, 1.0)] == [48, 48, 96, 96]
    assert StageConfig(patch=48).patch_at(1.0) == 48


def test_averaged_weights_follow_quickly_at_first_and_slowly_later():
    old, new = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for step, share in ((1, 10 / 11), (10**6, 0.001)):
        torch.nn.init.zeros_(old.weight)
        torch.nn.init.ones_(new.weight)
        update_average(old, new, 0.999, step)
        assert old.weight.item() == pytest.approx(share, rel=1e-3)


# ---- configurations


def test_every_shipped_configuration_builds_its_networks():
    assert "compact.toml" in shipped_names()
    for name in shipped_names():
        config = load_config(name)
        with torch.device("meta"):
            System(config.model)
        assert config.name
        assert config.licence
        assert config.data.strip()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sede = 1", ["'sede'", "1", "known keys", "seed"]),
        ("[perceiver]\nstpes = 3", ["'stpes'", "3", "perceiver", "steps"]),
        ("[restorer]\nbatch = 'many'", ["'batch'", "'many'", "number"]),
        ("[restorer]\nbatch = true", ["'batch'", "True", "number"]),
        ("[restorer]\nsteps = 0", ["steps", ">= 1", "0"]),
        ("[restorer]\npatch = 100", ["divisible by 16", "100"]),
        ("[mix]\nclaen = 0.1", ["'claen'", "0.1", "mix", "clean"]),
        ("[mix.weights]\nnoize = 1", ["'noize'", "mix.weights", "noise"]),
        ("[model]\nbackbone = 'unet'", ["'unet'", "compact, restormer, nafnet, promptir"]),
        ("checkpointing = 1", ["'checkpointing'", "1", "true or false"]),
        ("[model]\ndepth = 3", ["'depth'", "backbone"]),
        ("name = ", ["not valid TOML"]),
    ],
)
def test_a_mistake_in_a_configuration_is_named_with_key_value_and_what_is_known(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        load_config(path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_configuration_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match=r"no configuration at .*mine\.toml; shipped ones: .*compact\.toml"):
        load_config(tmp_path / "mine.toml")
    with pytest.raises(ValueError, match=re.escape("huge.toml; shipped ones")):
        load_config("huge.toml")


def test_a_configuration_says_only_what_differs():
    assert parse({}) == TrainConfig()
    config = parse({"seed": 3, "restorer": {"steps": 5}, "model": {"sizes": {"widths": [4, 4, 8, 8]}}})
    assert (config.seed, config.restorer.steps, config.perceiver) == (3, 5, PerceiverConfig())


@pytest.mark.parametrize(
    "text",
    [
        "[restorer]\nsteps = 2.5",
        "name = 3",
        "mix = 3",
        "[mix]\nclean = 1.5",
        "[mix]\ntold_less = -0.1",
        "[mix]\ntold_less = 0.6\ntold_wrong = 0.5",
        "[restorer]\nlast_patch = 40",
        "[restorer]\nlast_patch = -16",
        "[restorer]\nlast_share = 1.5",
        "[mix.weights]\nnoise = -1",
        "[mix.weights]\nnoise = 'much'",
        "[perceiver]\nlearning_rate = -1",
        "[perceiver]\nbatch = 3",
        "[model]\nsemantics = 'yes'",
        "[model.sizes]\nwidths = 5",
    ],
)
def test_a_value_that_cannot_work_is_refused_where_it_is_given(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_clean_pictures_are_told_wrong_no_more_often_than_said():
    told, _ = tell(np.zeros((2000, len(TYPES)), np.float32), MixConfig(told_less=0.25, told_wrong=0.1), random())
    assert np.mean(told.any(axis=1)) == pytest.approx(0.1, abs=0.03)


def test_weights_of_another_size_are_refused_in_one_line(pictures_folder, tmp_path):
    run("restorer", pictures_folder, tmp_path)
    other = replace(TINY, model=replace(TINY.model, tower={"widths": (4, 4, 4, 4)}))
    with pytest.raises((ValueError, WeightsError)) as caught:
        run("restorer", pictures_folder, tmp_path / "b", other, init_from=tmp_path / "weights.safetensors")
    assert "\n" not in str(caught.value)


def test_no_minutes_at_all_is_refused_or_one_step(pictures_folder, tmp_path):
    assert len(run("restorer", pictures_folder, tmp_path, minutes=0)) <= 1

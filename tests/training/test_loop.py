"""A training can be stopped at any moment and resumed exactly; every stage, loss and source does its part."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from perceive_ir import TYPES, WeightsError
from perceive_ir._weights import load_system
from perceive_ir.networks import Signals, System, SystemConfig
from perceive_ir_training import (
    MixConfig,
    StageConfig,
    TrainConfig,
    keeping,
    load_config,
    loop,
    resume,
    sources,
    train,
    validation,
)
from perceive_ir_training.checkpoint import read_checkpoint
from perceive_ir_training.config import (
    STAGES,
    LossConfig,
    PerceiverConfig,
    PromptsConfig,
    parse,
    shipped_names,
    to_dict,
)
from perceive_ir_training.crossfit import fold_of
from perceive_ir_training.curves import COLUMNS, WIDTH, draw_curves, limits, smoothed
from perceive_ir_training.data import Pictures, is_held_back, load_pictures
from perceive_ir_training.learner import make_learner, trained
from perceive_ir_training.loop import Batches, learn
from perceive_ir_training.losses import contrastive
from perceive_ir_training.plan import Plan, as_json, read_plan
from perceive_ir_training.sampling import draw_batch, draw_severities, spread
from perceive_ir_training.sources import POOL, RENEW_EVERY, Sources, load_sources
from perceive_ir_training.stages import PerceiverStage, RestorerStage, Setting
from perceive_ir_training.validation import EACH, draw_sheet, judge_restorer, make_panel, restore_panel

BRIEF = StageConfig(steps=6, batch=5, patch=32, warm_up=1)
FIRST = PerceiverConfig(steps=6, batch=5, patch=32, warm_up=1)
SIZES = {"widths": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1)}
TINY = TrainConfig(
    model=SystemConfig(sizes=SIZES, tower={"widths": (4, 4, 8, 8), "hidden": 6}),
    perceiver=FIRST,
    prompts=PromptsConfig(steps=4, batch=8, patch=32, warm_up=1, medium_steps=2, medium_batch=2, medium_patch=32),
    restorer=BRIEF,
    losses=LossConfig(perceptual=0.1),
)
SILENT = replace(TINY, losses=LossConfig(language=0))
EXACT = {"perceiver": SILENT, "restorer": replace(SILENT, losses=LossConfig(language=0, clip=0.05, perceptual=0.1))}


def names(held: bool, count: int) -> list[str]:
    """Names of pictures that are held back or not, of both folds."""
    chosen = [f"p{n}.png" for n in range(2000) if is_held_back(Path(f"p{n}.png")) == held]
    return [next(iter(n for n in chosen[k:] if fold_of(n) == k % 2)) for k in range(count)]


@pytest.fixture(scope="module", autouse=True)
def small_samples() -> Iterator[None]:
    """Every save of a training restores samples and draws them: small ones do for tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "SIDE", 32)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of both folds, some of which are held back."""
    data = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for kind in ("photos", "microscopy"):
        (data / kind).mkdir()
        for name in (*names(False, 6), *names(True, 4)):
            pixels = random.integers(0, 256, (22, 25, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(pixels).save(data / kind / name)
    return data


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> Path:
    """A training of all stages."""
    run = tmp_path_factory.mktemp("whole")
    list(train(TINY, data=folder, run=run, log_every=2, save_every=0))
    return run


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def losses_of(run: Path) -> list[tuple]:
    left_out = ("minutes", "wait")
    return [tuple((k, v) for k, v in line.items() if k not in left_out) for line in lines_of(run)]


# ---- stopped and resumed


@pytest.mark.parametrize("stage", ["perceiver", "restorer"])
def test_ten_steps_and_ten_more_are_twenty_steps(folder, tmp_path, stage, monkeypatch):
    keep = loop.keep
    monkeypatch.setattr(loop, "keep", lambda *now: keep(*now) if now[3].step % 10 == 0 else None)
    config = replace(EXACT[stage], **{stage: replace(getattr(EXACT[stage], stage), steps=20)})
    list(train(config, stage, data=folder, run=tmp_path / "once", save_every=1e9))
    stopped = train(config, stage, data=folder, run=tmp_path / "twice", save_every=0)
    while next(stopped).step < 10:
        pass
    stopped.close()
    assert read_checkpoint(tmp_path / "twice" / "checkpoint.safetensors")[1].step == 10
    assert [p.step for p in resume(tmp_path / "twice")] == list(range(11, 21))
    once, twice = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("once", "twice"))
    assert once.keys() == twice.keys()
    assert [name for name in once if not torch.equal(once[name], twice[name])] == []


def test_steps_after_the_last_checkpoint_are_made_again_and_told_once(folder, tmp_path):
    config = replace(SILENT, restorer=replace(BRIEF, steps=8))
    list(train(config, "restorer", data=folder, run=tmp_path / "once", log_every=1, save_every=0))
    stopped = train(config, "restorer", data=folder, run=tmp_path / "twice", log_every=1, save_every=0)
    for _ in range(3):
        next(stopped)
    early = (tmp_path / "twice" / "checkpoint.safetensors").read_bytes()
    next(stopped), next(stopped)
    stopped.close()
    (tmp_path / "twice" / "checkpoint.safetensors").write_bytes(early)
    torn = tmp_path / "twice" / ".checkpoint.safetensors.x.partial"
    torn.touch()
    list(resume(tmp_path / "twice"))
    assert not torn.exists()
    assert [line["step"] for line in lines_of(tmp_path / "twice")] == list(range(1, 9))
    assert losses_of(tmp_path / "once") == losses_of(tmp_path / "twice")


def test_all_stages_may_be_stopped_in_any_of_them(folder, whole, tmp_path):
    stopped = train(TINY, data=folder, run=tmp_path / "run", log_every=2, save_every=0)
    seen = []
    while len(seen) < len(lines_of(whole)):
        for progress in stopped:
            seen.append((progress.stage, progress.step))
            if len(seen) % 3 == 0:
                break
        stopped.close()
        stopped = resume(tmp_path / "run")
    assert list(stopped) == []
    assert seen == [(line["stage"], line["step"]) for line in lines_of(whole)]
    assert losses_of(tmp_path / "run") == losses_of(whole)
    digests = [load_system(run / "weights.safetensors")[1].digest for run in (whole, tmp_path / "run")]
    assert digests[0] == digests[1]


def test_a_stage_starts_where_the_one_before_ended_though_it_was_killed_between_weights_and_checkpoint(
    folder, whole, tmp_path, monkeypatch
):
    real = keeping.save_checkpoint

    def killed(path, learner, position):
        if position.stage == "restorer":
            raise KeyboardInterrupt
        real(path, learner, position)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(keeping, "save_checkpoint", killed)
        list(train(TINY, data=folder, run=tmp_path, log_every=2, save_every=0))
    assert read_checkpoint(tmp_path / "checkpoint.safetensors")[1].stage == "prompts"
    list(resume(tmp_path))
    assert losses_of(tmp_path) == losses_of(whole)


def test_a_checkpoint_that_is_due_does_not_wait_for_a_line_of_the_log(folder, tmp_path):
    stopped = train(SILENT, "restorer", data=folder, run=tmp_path, log_every=1000, save_every=0)
    assert [next(stopped).step for _ in range(2)] == [1, 2]
    stopped.close()
    assert read_checkpoint(tmp_path / "checkpoint.safetensors")[1].step == 2
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2]


def test_a_training_that_saves_slowly_does_not_save_all_the_time(folder, tmp_path, monkeypatch):
    seconds, keep, kept = count(), loop.keep, []

    def slow(*now):
        keep(*now)
        kept.append(now[3].step)
        for _ in range(1000):
            next(seconds)

    monkeypatch.setattr(loop, "keep", slow)
    monkeypatch.setattr(
        loop, "time", SimpleNamespace(monotonic=lambda: next(seconds))
    )  # it is looked at 4 times a step
    config = replace(SILENT, restorer=replace(BRIEF, steps=20))
    list(train(config, "restorer", data=folder, run=tmp_path, save_every=18 / 60))
    assert kept == [6, 12, 18, 20]


def test_lines_of_any_distance_hold_the_means_of_their_steps(folder, tmp_path):
    single = [p.losses["l1"] for p in train(SILENT, "restorer", data=folder, run=tmp_path / "a", log_every=1)]
    joined = [p.losses["l1"] for p in train(SILENT, "restorer", data=folder, run=tmp_path / "b", log_every=4)]
    assert joined == pytest.approx([sum(single[:4]) / 4, sum(single[4:]) / 2])


def test_what_was_stopped_before_its_first_checkpoint_begins_anew(folder, tmp_path):
    stopped = train(SILENT, "restorer", data=folder, run=tmp_path, log_every=1, save_every=1e9)
    next(stopped)
    stopped.close()
    assert not (tmp_path / "checkpoint.safetensors").exists()
    assert [p.step for p in resume(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_killed_command_goes_on_without_loss(folder, tmp_path):
    toml = tmp_path / "mine.toml"
    toml.write_text(
        "name = 'mine'\n[losses]\nlanguage = 0\n[model.sizes]\nwidths = [8, 8, 16]\nencoder_blocks = [1, 1, 1]\n"
        "decoder_blocks = [1, 1]\n[model.tower]\nwidths = [4, 4, 8, 8]\n"
        "[restorer]\nsteps = 700\nbatch = 5\npatch = 32\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "perceive_ir", "train"]
    first = [*command, str(toml), "--stage", "restorer", "--data", str(folder), "--run"]
    subprocess.run([*first, str(tmp_path / "once")], check=True, capture_output=True)
    with subprocess.Popen([*first, str(tmp_path / "twice")], stdout=subprocess.DEVNULL) as running:
        while not (tmp_path / "twice" / "log.jsonl").exists() or len(lines_of(tmp_path / "twice")) < 3:
            time.sleep(0.05)
        os.kill(running.pid, signal.SIGKILL)
    subprocess.run([*command, "--resume", str(tmp_path / "twice")], check=True, capture_output=True)
    assert lines_of(tmp_path / "twice")[-1]["step"] == 700
    digests = [load_system(tmp_path / run / "weights.safetensors")[1].digest for run in ("once", "twice")]
    assert digests[0] == digests[1]


def test_a_folder_that_holds_a_training_is_not_written_over(whole, folder):
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"already holds a training; go on with --resume"):
        list(train(TINY, data=folder, run=whole))
    assert before == {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}


def test_where_nothing_can_be_resumed_it_is_said(tmp_path, whole):
    with pytest.raises(ValueError, match="no training to resume at"):
        list(resume(tmp_path))
    (tmp_path / "run.json").write_text('{"stages": []}', encoding="utf-8")
    with pytest.raises(ValueError, match="does not describe a training"):
        list(resume(tmp_path))
    (tmp_path / "run.json").write_bytes((whole / "run.json").read_bytes())
    changed = bytearray((whole / "checkpoint.safetensors").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "checkpoint.safetensors").write_bytes(changed)
    with pytest.raises(WeightsError, match="was changed after it was written"):
        list(resume(tmp_path))


def test_a_plan_can_be_written_down_and_read_back(tmp_path):
    for plan in (Plan(TINY, STAGES, "data"), Plan(TINY, ("prompts",), "d", 3.5, "w", "cuda:1", 7, 0.5)):
        (tmp_path / "run.json").write_text(as_json(plan), encoding="utf-8")
        found = read_plan(tmp_path / "run.json")
        assert replace(found, config=TINY) == plan
        assert to_dict(found.config) == to_dict(TINY)


def test_a_configuration_survives_being_written_down():
    for name in shipped_names():
        config = load_config(name)
        assert to_dict(parse(json.loads(json.dumps(to_dict(config))))) == to_dict(config)


def test_the_minutes_of_all_stages_are_shared_out():
    config = replace(TINY, perceiver=replace(FIRST, share=3.0), restorer=replace(BRIEF, share=6.0))
    plan = Plan(config, STAGES, "", minutes=20)
    assert [plan.minutes_of(s) for s in STAGES] == [6, 2, 12]
    assert replace(plan, stages=("prompts",)).minutes_of("prompts") == 20


# ---- all stages


def test_a_training_of_all_stages_leaves_everything_behind(whole):
    lines = lines_of(whole)
    assert [line["stage"] for line in lines] == ["perceiver"] * 6 + ["prompts"] * 4 + ["restorer"] * 6
    assert {"language", "tiers", "types", "severities", "contrast", "right_type"} <= set(lines[5])
    assert {"prompts", "accuracy", "gate_accuracy", "gate_whole", "gate_order"} <= set(lines[9])
    assert {"l1", *(f"gain_{t}" for t in TYPES)} <= set(lines[-1])
    for name in ("text", "halves", "weights", "checkpoint"):
        assert (whole / f"{name}.safetensors").is_file()
    assert sorted(p.name for p in (whole / "samples").iterdir()) == [f"step_000000{n}.png" for n in range(1, 7)]
    for stage in STAGES:
        with Image.open(whole / f"curves_{stage}.png") as image:
            assert image.width == COLUMNS * WIDTH
    gate = json.loads((whole / "gate.json").read_text(encoding="utf-8"))
    assert load_system(whole / "weights.safetensors")[1].scores == {"tiers": gate}
    assert len(gate["tasks"]) == len(TYPES)


def test_the_prompts_replace_the_tiers_and_leave_the_other_readouts_alone(folder, whole, tmp_path):
    list(train(TINY, "perceiver", data=folder, run=tmp_path / "a"))
    start = tmp_path / "a" / "weights.safetensors"
    list(train(TINY, "prompts", data=folder, run=tmp_path / "b", init_from=start))
    before, after = (load_system(tmp_path / run / "weights.safetensors")[0].perceiver for run in "ab")
    assert not torch.equal(before.tiers, after.tiers)
    assert after.tiers.norm(dim=1) == pytest.approx(torch.ones(3), abs=1e-5)
    x = torch.rand(2, 3, 32, 48)
    was, now = before(x), after(x)
    assert torch.equal(was.type_logits, now.type_logits)
    assert torch.equal(was.severities, now.severities)
    assert not torch.equal(was.embedding, now.embedding)
    assert not torch.equal(before.bend[0].weight, after.bend[0].weight)
    frozen = replace(TINY, prompts=replace(TINY.prompts, projection=False))
    list(train(frozen, "prompts", data=folder, run=tmp_path / "c", init_from=start))
    kept = load_system(tmp_path / "c" / "weights.safetensors")[0].perceiver
    assert torch.equal(kept(x).embedding, was.embedding)
    assert not torch.equal(kept.tiers, before.tiers)


def test_prompts_without_a_text_tower_are_refused(folder, tmp_path):
    list(train(SILENT, "perceiver", data=folder, run=tmp_path / "a"))
    assert not (tmp_path / "a" / "text.safetensors").exists()
    with pytest.raises(WeightsError, match=r"no text.safetensors beside .*losses.language"):
        list(train(TINY, "prompts", data=folder, run=tmp_path / "b", init_from=tmp_path / "a" / "weights.safetensors"))


# ---- losses


def setting_of(config: TrainConfig, folder: Path) -> Setting:
    return Setting(config, load_sources(folder, config.mix, config.seed), torch.device("cpu"))


def restorer_stage(folder, **losses) -> RestorerStage:
    torch.manual_seed(0)
    config = replace(TINY, losses=LossConfig(**losses), mix=MixConfig(clean=0.2))
    return RestorerStage(setting_of(config, folder), System(config.model))


def test_every_term_can_be_switched_off(folder):
    assert set(restorer_stage(folder).terms(restorer_stage(folder).batch(1, 32)).losses) == {"l1"}
    stage = restorer_stage(folder, l1=0, clip=1, perceptual=1)
    assert set(stage.terms(stage.batch(1, 32)).losses) == {"clip", "perceptual"}
    torch.manual_seed(0)
    for off in ("tiers", "types", "severities", "contrast"):
        config = replace(TINY, losses=LossConfig(language=0, **{off: 0}))
        perceiver = PerceiverStage(setting_of(config, folder), System(config.model), None)
        found = set(perceiver.terms(perceiver.batch(1, 32)).losses)
        assert found == {"tiers", "types", "severities", "contrast"} - {off}


def test_terms_weigh_what_the_configuration_says(folder):
    one, two = restorer_stage(folder, l1=1), restorer_stage(folder, l1=2)
    batch = one.batch(1, 32)
    assert two.terms(batch).losses["l1"] == 2 * one.terms(batch).losses["l1"]


@pytest.mark.parametrize("term", ["l1", "clip", "perceptual"])
def test_the_gradient_of_every_term_reaches_the_restorer_and_nothing_else(folder, term):
    stage = restorer_stage(folder, **{"l1": 0, term: 1})
    sum(stage.terms(stage.batch(1, 32)).losses.values()).backward()
    system = stage.system
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in system.restorer.backbone.parameters())
    assert all(p.grad is None for p in system.perceiver.parameters())


READOUTS = {
    "tiers": {"tiers", "project", "bend.2", "logit_scale"},  # of the bend its last layer, which begins with zeros
    "types": {"cfe.enter", "cfe.type_head"},
    "severities": {"cfe.enter", "cfe.severity_head"},
    "contrast": {"cfe.enter", "cfe.leave"},
}


@pytest.mark.parametrize("term", READOUTS)
def test_the_gradient_of_every_reading_reaches_the_tower_and_its_own_readout(folder, term):
    torch.manual_seed(0)
    config = replace(TINY, losses=LossConfig(language=0, **(dict.fromkeys(READOUTS, 0.0) | {term: 1.0})))
    stage = PerceiverStage(setting_of(config, folder), System(config.model), None)
    sum(stage.terms(stage.batch(1, 32)).losses.values()).backward()
    moved = {name for name, p in stage.system.named_parameters() if p.grad is not None and p.grad.any()}
    readouts = {name.removeprefix("perceiver.").removesuffix(".weight").removesuffix(".bias") for name in moved}
    found = {name for name in readouts if not name.startswith(("tower", "normalise"))}
    assert found == READOUTS[term]
    assert any(name.startswith("perceiver.tower") for name in moved)


def test_the_configuration_says_with_which_precision_a_stage_computes(folder):
    for precision, kind in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        with setting_of(replace(TINY, precision=precision), folder).autocast():
            assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == kind


def test_a_gradient_is_no_longer_than_the_configuration_says(folder):
    stage = restorer_stage(folder)
    batch, lengths = stage.batch(1, 32), []
    for clip in (1e-3, 1e3):
        learner = make_learner(stage, replace(BRIEF, clip=clip))
        told = learn(stage, learner, batch, 1, 0.0)
        gradients = [p.grad for p in trained(learner.modules) if p.grad is not None]
        lengths.append((torch.stack([g.norm() for g in gradients]).norm().item(), told["norm"].item()))
    (short, full), (long, again) = lengths
    assert short == pytest.approx(1e-3, rel=1e-2)
    assert long == pytest.approx(full) == pytest.approx(again)


def test_contrast_weighs_what_the_configuration_says(folder):
    torch.manual_seed(0)
    config = replace(TINY, losses=LossConfig(language=0, contrast=1.0))
    stage = PerceiverStage(setting_of(config, folder), System(config.model), None)
    batch = stage.batch(1, 32)
    crops = ~batch.thumbnails
    expected = contrastive(stage.system.perceiver(batch.images).contrast[crops], batch.severities[crops])
    assert stage.terms(batch).losses["contrast"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("kind", "pictures", "term"), [(RestorerStage, "damaged", "l1"), (PerceiverStage, "images", "types")]
)
def test_a_batch_that_is_not_finite_teaches_nothing(folder, tmp_path, monkeypatch, kind, pictures, term):
    real = kind.batch

    def poisoned(self, step, size):
        batch = real(self, step, size)
        return replace(batch, **{pictures: getattr(batch, pictures) * float("nan")}) if step == 2 else batch

    monkeypatch.setattr(kind, "batch", poisoned)
    stage = "restorer" if kind is RestorerStage else "perceiver"
    progress = list(train(SILENT, stage, data=folder, run=tmp_path, log_every=1, save_every=1e9))
    assert [p.losses["skipped"] for p in progress] == [0, 1, 0, 0, 0, 0]
    assert all(np.isfinite(p.losses[term]) for p in progress if p.step != 2)
    assert lines_of(tmp_path)[1][term] is None
    weights = load_system(tmp_path / "weights.safetensors")[0].state_dict()
    assert all(t.isfinite().all() for t in weights.values())


class Drawing:
    """A stage that notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def batch(self, step: int, size: int) -> tuple[int, int]:
        self.asked.append((step, size))
        return step, size


def test_the_next_batch_is_made_ahead_and_is_the_one_that_is_needed():
    settings = StageConfig(steps=8, patch=48, last_patch=96, last_share=0.25)
    needed = [(step, settings.patch_at(step / 8)) for step in range(1, 9)]
    one, two = Drawing(), Drawing()
    ahead, waiting = Batches(one, settings, ahead=True), Batches(two, settings, ahead=False)
    for step, size in needed:
        assert ahead.take(step, step / 8) == waiting.take(step, step / 8) == (step, size)
        ahead.next[1].result()
        assert one.asked[-1] == (step + 1, size)
    assert two.asked == needed


# ---- what is shown and told


def test_every_batch_holds_each_kind_as_often_as_its_odds_say():
    random = np.random.default_rng(0)
    mix = MixConfig(clean=0.25, several=0, weights=dict.fromkeys(TYPES, 0.0) | {"noise": 2.0, "rain": 1.0})
    for _ in range(5):
        true = draw_severities(np.zeros(12, bool), mix, random)
        assert (true > 0).sum(axis=0).tolist() == [6, 0, 3, 0, 0, 0, 0, 0]
    assert np.sort((spread(10, random) * 10).astype(int)).tolist() == list(range(10))
    assert len(spread(0, random)) == 0


def test_a_micrograph_is_clean_where_no_type_that_it_can_have_is_drawn():
    only_rain = MixConfig(clean=0, weights=dict.fromkeys(TYPES, 0.0) | {"rain": 1.0})
    assert not draw_severities(np.ones(6, bool), only_rain, np.random.default_rng(0)).any()


def test_told_what_is_perceived_the_rest_remains(folder):
    pictures, noise = load_pictures(folder), TYPES.index("noise")

    def read(damaged):
        told = torch.zeros(len(damaged), len(TYPES))
        told[:, noise] = 0.4
        return told

    mix = MixConfig(clean=0, several=0, told_less=0, told_wrong=0, perceived=1.0)
    batch = draw_batch(pictures, 16, 32, mix, np.random.default_rng(0), read=read)
    assert torch.equal(batch.told, read(batch.damaged))
    has_noise = batch.true[:, noise] > 0
    assert 0 < has_noise.sum() < 16
    assert torch.equal(batch.target[has_noise], batch.clean[has_noise])
    assert torch.equal(batch.target[~has_noise], batch.damaged[~has_noise])
    unread = draw_batch(pictures, 16, 32, mix, np.random.default_rng(0))
    assert torch.equal(unread.target, unread.clean)


def test_the_restorer_is_told_what_the_perceiver_sees_of_a_pair(folder, tmp_path):
    data = tmp_path / "data"
    (data / "photos").mkdir(parents=True)
    for kind, value in (("input", 40), ("target", 200)):
        (data / "pairs" / "haze" / kind).mkdir(parents=True)
        for name in names(False, 3):
            Image.new("RGB", (40, 40), (value,) * 3).save(data / "pairs" / "haze" / kind / name)
    for name in names(False, 3):
        (data / "photos" / name).write_bytes((folder / "photos" / name).read_bytes())
    config = replace(SILENT, mix=MixConfig(paired=1.0))
    stage = RestorerStage(setting_of(config, data), System(config.model))
    batch = stage.batch(1, 32)
    assert batch.damaged.shape == (5, 3, 32, 32)
    assert (batch.damaged * 255).round().unique().tolist() == [40]
    assert (batch.target * 255).round().unique().tolist() == [200]
    haze = TYPES.index("haze")
    assert (batch.told[:, haze] >= 0.3).all()
    assert not batch.told[:, [n for n in range(len(TYPES)) if n != haze]].any()
    half = replace(config, mix=MixConfig(paired=0.5))
    assert RestorerStage(setting_of(half, data), System(config.model)).batch(1, 32).damaged.shape[0] == 5


def test_sources_that_are_not_there_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"mix.paired is 0.5, but .* has no pairs/TYPE/input"):
        load_sources(folder, MixConfig(paired=0.5), 0)
    with pytest.raises(ValueError, match="no pictures under"):
        load_sources(tmp_path, MixConfig(), 0)
    with pytest.raises(ValueError, match="bsd400: nothing in"):
        load_sources(folder, MixConfig(sets={"bsd400": 1.0}), 0)


def test_a_set_that_is_tested_on_does_not_train_and_one_without_weight_is_left_out(folder):
    with pytest.raises(ValueError, match=r"mix\.sets names 'lol-test', .* sets to train on: bsd400, wed"):
        load_sources(folder, MixConfig(sets={"lol-test": 1.0}), 0)
    assert load_sources(folder, MixConfig(sets={"bsd400": 0.0}), 0).pictures.photos


def test_pairs_are_kept_in_memory_where_they_fit_and_drawn_by_their_odds(tmp_path, monkeypatch):
    for kind, value in (("rain", 10), ("haze", 200)):
        for side in ("input", "target"):
            (tmp_path / "pairs" / kind / side).mkdir(parents=True)
            for name in names(False, 2):
                Image.new("RGB", (32, 32), (value,) * 3).save(tmp_path / "pairs" / kind / side / name)
    mix = MixConfig(paired=1.0, procedural=1.0)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / names(False, 1)[0])
    monkeypatch.setattr(sources, "ROOM", 6 * 32 * 32 * 2 - 1)
    assert not any(pair.held is not None for pairs in load_sources(tmp_path, mix, 0).pairs for pair in pairs.pairs)
    monkeypatch.setattr(sources, "ROOM", 6 * 32 * 32 * 2)
    loaded = load_sources(tmp_path, mix, 0)
    assert all(pair.held is not None for pairs in loaded.pairs for pair in pairs.pairs)
    loaded.odds = tuple(3.0 if pairs.type == "rain" else 1.0 for pairs in loaded.pairs)
    damaged, _, shown = loaded.draw_pairs(400, 16, np.random.default_rng(0))
    rain = shown[:, TYPES.index("rain")] == 1
    assert float(rain.float().mean()) == pytest.approx(0.75, abs=0.07)
    assert ((damaged.amax(dim=(1, 2, 3)) < 0.5) == rain).all()


def test_a_clean_published_set_adds_to_the_photos(folder, tmp_path):
    (tmp_path / "BSD400").mkdir()
    for name in names(False, 3):
        (tmp_path / "BSD400" / name).write_bytes((folder / "photos" / name).read_bytes())
    with pytest.warns(UserWarning, match="published are 400"):
        sources = load_sources(tmp_path, MixConfig(sets={"bsd400": 3.0}), 0)
    assert sorted(p.name for p in sources.pictures.photos) == sorted(names(False, 3))


def test_procedural_pictures_are_renewed_one_by_one_and_the_same_for_the_same_step():
    one, two = (Sources(Pictures(()), Pictures(()), procedural=True, seed=3) for _ in range(2))
    first = [one.drawn(slot, 0).pixels for slot in range(3)]
    assert all(np.array_equal(p, two.drawn(slot, 0).pixels) for slot, p in enumerate(first))
    for slot, picture in enumerate(first):
        renewal = slot or POOL
        assert np.array_equal(two.drawn(slot, renewal - 1).pixels, picture)
        assert not np.array_equal(two.drawn(slot, renewal).pixels, picture)
        assert np.array_equal(one.drawn(slot, renewal).pixels, two.drawn(slot, renewal + POOL - 1).pixels)
    assert len(one.at(RENEW_EVERY).procedural) == POOL


def test_a_share_of_the_crops_is_procedural(folder):
    real = load_pictures(folder)
    drawn = replace(real.photos[0], pixels=np.zeros((64, 64, 3), np.uint8))
    pictures = replace(real, procedural=(drawn,))
    crops = pictures.draw(200, 16, 0.2, np.random.default_rng(0), 0.3).pixels
    assert float((crops.amax(dim=(1, 2, 3)) == 0).float().mean()) == pytest.approx(0.3, abs=0.1)
    assert pictures.draw(50, 16, 0.2, np.random.default_rng(0)).pixels.amax(dim=(1, 2, 3)).min() > 0


# ---- what it leaves to look at


def test_the_panel_shows_every_type_from_slight_to_strong_and_gains_are_what_they_are(folder, monkeypatch):
    monkeypatch.setattr(validation, "SIDE", 128)
    panel = make_panel(load_pictures(folder, held_back=True))
    assert panel.damaged.shape == (len(TYPES) * EACH, 3, 128, 128)
    for number in range(len(TYPES)):
        rows = panel.told[number * EACH : (number + 1) * EACH]
        assert rows[:, number].tolist() == pytest.approx([0.2, 0.45, 0.8])
        assert int((rows > 0).sum()) == EACH
    assert all(gain == 0 for gain in judge_restorer(panel, panel.damaged).values())
    assert judge_restorer(panel, panel.clean)["gain_noise"] > 50
    assert make_panel(Pictures(())) is None
    system = System(TINY.model)
    restored = restore_panel(system, panel)
    alone = system.restorer(panel.damaged[:1], Signals(panel.told[:1])).clamp(0, 1)
    assert torch.allclose(restored[:1], alone, atol=1e-6)
    sheet = np.asarray(draw_sheet(panel, torch.zeros_like(panel.clean)))
    assert (sheet == 0).all(axis=2).mean() > 0.25


def test_curves_show_the_terms_of_a_stage():
    lines = [{"stage": "restorer", "step": n, "minutes": n, "rate": 1, "wait": 0, "l1": 1 / n} for n in range(1, 30)]
    empty, drawn = draw_curves([], "restorer"), draw_curves(lines, "restorer")
    assert empty.size == drawn.size
    assert np.asarray(drawn).std() > np.asarray(empty).std()
    assert limits([1.0, 1.0]) == (0.5, 1.5)
    assert limits([0.0] * 99 + [1000.0]) == (-0.5, 0.5)
    assert smoothed([1.0] * 30) == [1.0] * 30

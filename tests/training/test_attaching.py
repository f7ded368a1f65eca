"""An attached network learns: by every loss, told or not, and what it learned stays in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import perceive_ir as pir
from perceive_ir.networks import Perceiver, Signals, TowerConfig
from perceive_ir_training import MixConfig, StageConfig, TrainConfig
from perceive_ir_training.attaching import AttachedStage, attached_terms, halves, train_attached
from perceive_ir_training.config import LossConfig
from perceive_ir_training.data import Picture, Pictures
from perceive_ir_training.losses import balanced_l1, contrastive
from perceive_ir_training.perceptual import PerceptualLoss, TowerFeatures
from perceive_ir_training.sampling import Batch, draw_batch
from perceive_ir_training.sources import Sources
from perceive_ir_training.stages import Setting

ONES = LossConfig(contrast=1.0)
NOISE = MixConfig(weights={t: 0.0 for t in pir.TYPES if t != "noise"}, microscopy=0.0, clean=0.2)
BRIEF = TrainConfig(mix=NOISE, restorer=StageConfig(steps=4, batch=4, patch=16, warm_up=1, learning_rate=2e-3))


def network() -> pir.Attached:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1))
    return pir.attach(plain, {"1": 6})


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    return Pictures((Picture("one", pixels, grey=False),))


@pytest.fixture(scope="module")
def batch(pictures) -> Batch:
    return draw_batch(pictures, 6, 32, MixConfig(told_less=1.0, told_wrong=0.0), np.random.default_rng(1))


@pytest.fixture(scope="module")
def judge() -> Perceiver:
    torch.manual_seed(0)
    return Perceiver(TowerConfig(widths=(4, 4, 8, 8))).eval().requires_grad_(False)


@pytest.fixture
def folder(tmp_path) -> Path:
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
        Image.fromarray(pixels).save(tmp_path / f"p{seed}.png")
    return tmp_path


def test_told_the_target_is_what_remains_and_untold_it_is_clean(batch):
    net, l1 = network(), replace(ONES, types=0, severities=0, contrast=0)
    assert (batch.target - batch.clean).abs().max() > 0.01
    told = attached_terms(net, batch, l1, told=True).losses["l1"]
    own = attached_terms(net, batch, l1, told=False).losses["l1"]
    assert torch.equal(told, balanced_l1(net(batch.damaged, Signals(batch.told)), batch.target, batch.damaged))
    assert torch.equal(own, balanced_l1(net(batch.damaged), batch.clean, batch.damaged))


def test_the_two_halves_of_a_crop_are_partners(batch):
    pairs = halves(batch.damaged)
    assert torch.equal(torch.cat([pairs[4], pairs[5]], dim=2), batch.damaged[2])
    net = network()
    terms = attached_terms(net, batch, ONES, told=True)
    true = batch.true[[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]]
    assert torch.equal(terms.losses["contrast"], contrastive(net.read(pairs).contrast, true))


def test_weights_scale_the_terms_and_zero_switches_off(batch):
    once = attached_terms(network(), batch, ONES, told=True).losses
    assert list(once) == ["l1", "types", "severities", "contrast"]
    twice = attached_terms(network(), batch, LossConfig(l1=2, types=2, severities=0, contrast=2), told=True).losses
    assert list(twice) == ["l1", "types", "contrast"]
    assert all(torch.equal(twice[name], 2 * once[name]) for name in twice)


def test_clip_and_perceptual_terms_reach_the_network(batch, judge):
    net = network()
    terms = attached_terms(
        net, batch, LossConfig(l1=0, types=0, severities=0, contrast=0, clip=1.0, perceptual=1.0),
        told=True, judge=judge, perceptual=PerceptualLoss(TowerFeatures(judge), least=0.1),
    )  # fmt: skip
    assert list(terms.losses) == ["clip", "perceptual"] and list(terms.notes) == ["p_low", "p_medium", "p_high"]
    for loss in terms.losses.values():
        net.zero_grad()
        loss.backward(retain_graph=True)
        assert net.backbone.network[0].weight.grad.any()


@pytest.mark.parametrize("told", [True, False])
def test_every_parameter_learns_by_these_losses_also_distributed(batch, told, tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        net = network()
        parallel = DistributedDataParallel(net)
        for _ in range(2):  # the second forward fails where a parameter had no part in the first
            net.zero_grad()
            sum(attached_terms(parallel, batch, ONES, told=told).losses.values()).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(p.grad is not None for p in net.parameters())


def test_a_training_lowers_the_loss_and_leaves_averaged_weights_in_the_network(folder):
    net = network()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    steps = replace(BRIEF, restorer=replace(BRIEF.restorer, steps=40, patch=16))
    *_, first, last = train_attached(net, steps, folder, log_every=20)
    assert (first.step, last.step) == (20, 40)
    assert last.losses["types"] < first.losses["types"] and last.losses["l1"] < first.losses["l1"]
    assert all(not torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_a_training_repeats_itself_and_frozen_weights_stay(folder):
    states: list[dict[str, Tensor]] = []
    for config in (BRIEF, BRIEF, replace(BRIEF, restorer=replace(BRIEF.restorer, ema=0.0))):
        net = network()
        net.backbone.network.requires_grad_(False)
        list(train_attached(net, config, folder))
        states.append(net.state_dict())
    fresh = network().state_dict()
    for name, tensor in states[0].items():
        frozen = name.startswith("backbone.network.")
        assert torch.equal(tensor, states[1][name])
        assert torch.equal(tensor, fresh[name]) is frozen
        assert torch.equal(tensor, states[2][name]) is frozen  # the last weights are not the averaged ones


def test_the_network_is_told_in_about_half_of_the_batches_and_what_is_drawn_is_the_steps_own(pictures):
    setting = Setting(BRIEF, Sources(pictures, pictures), torch.device("cpu"))
    stage = AttachedStage(setting, network(), None)
    batches = [stage.batch(step, 16) for step in range(40)]
    assert 10 < sum(b.told for b in batches) < 30
    assert torch.equal(stage.batch(7, 16).drawn.damaged, batches[7].drawn.damaged)


def test_a_loss_without_its_judge_is_refused(folder):
    for losses in (LossConfig(clip=0.1), LossConfig(perceptual=0.1)):
        with pytest.raises(ValueError, match="need a judge: give judge="):
            next(train_attached(network(), replace(BRIEF, losses=losses), folder))

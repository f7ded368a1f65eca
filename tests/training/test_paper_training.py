"""The paper's settings, rehearsed on miniatures of its data with small members of the families of its encoders."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from perceive_ir import TYPES, load
from perceive_ir._encoders import VGG16, find
from perceive_ir._weights import Card, load_system, save_system
from perceive_ir.networks import Reading, System
from perceive_ir_training import TrainConfig, commands, load_config, train
from perceive_ir_training.checkpoint import read_checkpoint
from perceive_ir_training.config import MixConfig, parse, to_dict
from perceive_ir_training.data import is_held_back
from perceive_ir_training.joining import take_perceiver
from perceive_ir_training.losses import perceiver_loss
from perceive_ir_training.papers import SETS
from perceive_ir_training.perceptual import VggFeatures
from perceive_ir_training.rehearsal import rehearsal
from perceive_ir_training.shown import put_pairs
from perceive_ir_training.sources import load_sources
from perceive_ir_training.starting import held_back
from tests.conftest import CLIP, VIT

CONFIGS = ["perceive_ir_3task.toml", "perceive_ir_5task.toml"]
BOTH = pytest.mark.parametrize("name", CONFIGS)
PARTIAL = pytest.mark.filterwarnings("ignore:.*published are")


def small(config: TrainConfig) -> TrainConfig:
    """Return the settings with tiny networks, and small members of the same families instead of the big encoders."""
    sizes = {"widths": (8, 8, 16, 16), "blocks": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "refinement": 1}
    return replace(
        config,
        model=replace(config.model, encoder={**VIT, **CLIP}, sizes=sizes, tower={"widths": (4, 4, 8, 8)}),
        perceiver=replace(config.perceiver, batch=20, patch=32),
        prompts=replace(config.prompts, batch=2, patch=32, medium_batch=2, medium_patch=32),
        restorer=replace(config.restorer, batch=2, patch=32),
    )


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory) -> Path:
    """Random weights of VGG-16, as far as they are needed."""
    torch.manual_seed(0)
    shapes = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256)]
    tensors = {}
    for place, (out, into) in zip((0, 2, 5, 7, 10, 12, 14), shapes, strict=True):
        tensors[f"features.{place}.weight"] = torch.randn(out, into, 3, 3) * (2 / (9 * into)) ** 0.5
        tensors[f"features.{place}.bias"] = torch.zeros(out)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(autouse=True)
def here(encoders_here, vgg_file) -> Iterator[None]:
    """All three encoders are at hand."""
    vgg = Path(shutil.copy(vgg_file, encoders_here / "encoders"))
    yield
    vgg.unlink()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three pictures of each set that trains, in the layouts in which the sets are published."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, paper in SETS.items():
        if paper.part == "test" or name in ("bsd400", "wed"):
            continue
        layout, made = paper.layouts[0], 0
        for n in range(40):
            clean, damaged = (
                re.sub(r"\{\w+\}", f"{n}", side.replace("**/", "part1/").replace("*", "0.8_0.1")) + ".png"
                for side in (layout.clean, layout.damaged)
            )
            if is_held_back(Path(clean)) or made == (6 if paper.clean_only else 3):
                continue
            made += 1
            pixels = random.integers(40, 216, (16, 18, 3), np.uint8).repeat(5, 0).repeat(5, 1)
            for path, values in ((clean, pixels), (damaged, pixels // 2 + 60 if clean != damaged else pixels)):
                file = root / paper.folders[0] / path
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(file)
    return root


@BOTH
def test_the_settings_are_those_of_the_paper(name):
    config = load_config(name)
    encoder = config.model.encoder_config()
    assert (encoder.semantics, encoder.blocks) == ("timm:vit_base_patch14_dinov2", (1, 4, 8, 12))
    assert encoder.clip == "open_clip:ViT-B-32-quickgelu/openai" and config.losses.features == "vgg16"
    assert (config.losses.contrast, config.losses.clip, config.losses.perceptual) == (0.1, 0.05, 0.1)
    assert (config.restorer.steps, config.restorer.patch, config.restorer.learning_rate) == (500_000, 256, 2e-4)
    assert config.restorer.batch == (8 if "3task" in name else 4)
    sizes = config.model.backbone_config()
    assert (sizes.widths, sizes.blocks, sizes.refinement) == ((48, 96, 192, 384), (4, 6, 6, 8), 4)
    shown = {"bsd400-wed": 5144 * 3, "reside-ots": 72_135, "rain100l-train": 200 * 120}
    shown |= {} if "3task" in name else {"gopro-train": 2103 * 5, "lol-train": 485 * 200}
    assert dict(config.mix.sets) == shown
    pairs = sum(shown.values()) - shown["bsd400-wed"]
    assert config.mix.paired == pytest.approx(pairs / sum(shown.values()), abs=0.005)


@BOTH
@PARTIAL
def test_a_dry_run_of_the_papers_training_goes_through_every_stage(data, tmp_path, name):
    config = rehearsal(small(load_config(name)))
    lines = list(train(config, data=data, run=tmp_path / "run", log_every=1))
    assert [(line.stage, line.step) for line in lines] == [
        (stage, step) for stage in ("perceiver", "prompts", "restorer") for step in (1, 2)
    ]
    last = lines[-1].losses
    assert {"l1", "clip", "perceptual", "p_low", "p_medium", "p_high"} <= set(last) and last["skipped"] == 0
    assert sum(last[f"p_{tier}"] for tier in ("low", "medium", "high")) == pytest.approx(1, abs=1e-4)

    weights = tmp_path / "run" / "weights.safetensors"
    system, card = load_system(weights)
    signed = system.config.encoder_config()
    assert card.name.endswith("-dry-run")
    assert all(len(digest) == 64 for digest in (signed.semantics_sha256, signed.clip_sha256, signed.vgg_sha256))
    assert not any("taps" in key or "clip" in key for key in system.state_dict())
    tensors, position = read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert position.finished and sum(t.numel() for t in tensors.values()) < 1_000_000, "frozen encoders are not in it"
    image = np.random.default_rng(0).random((50, 60, 3), dtype=np.float32)
    assert load(weights, device="cpu").restore(image, task="denoise").image.shape == image.shape


@PARTIAL
def test_a_dry_run_is_said_to_be_one(data, tmp_path, monkeypatch, capsys):
    brief = replace(load_config(CONFIGS[0]), losses=replace(load_config(CONFIGS[0]).losses, perceptual=0.0))
    monkeypatch.setattr("perceive_ir_training.config.load_config", lambda name: small(brief))
    commands.train(CONFIGS[0], data, "perceiver", tmp_path / "run", dry_run=True)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("dry run: two steps of each stage") and "the weights are of no use" in said[0]
    with pytest.raises(ValueError, match="--resume takes all settings from its folder"):
        commands.train(resume=tmp_path / "run", dry_run=True)


@PARTIAL
def test_the_prompts_give_clips_space_its_tiers_and_leave_the_tower_alone(data, tmp_path):
    config = small(rehearsal(load_config(CONFIGS[0])))
    list(train(config, "perceiver", data=data, run=tmp_path / "first"))
    start = tmp_path / "first" / "weights.safetensors"
    list(train(config, "prompts", data=data, run=tmp_path / "second", init_from=start))
    before, after = (load_system(tmp_path / run / "weights.safetensors")[0] for run in ("first", "second"))
    changed = {n for n, t in before.state_dict().items() if not torch.equal(t, after.state_dict()[n])}
    assert changed == {"tiers"}
    torch.testing.assert_close(after.tiers.norm(dim=1), torch.ones(3))


def test_a_perceiver_can_be_changed_beside_a_frozen_vit(tmp_path):
    model = small(load_config(CONFIGS[0])).model
    system, other = System(model), System(replace(model, tower={"widths": (4, 4, 4, 4)}))
    save_system(tmp_path / "other.safetensors", other, Card("other", "0"), half=False)
    joined = take_perceiver(system, [tmp_path / "other.safetensors"])
    for name, tensor in joined.state_dict().items():
        source = other if name.startswith("perceiver.") else system
        assert torch.equal(tensor, source.state_dict()[name]), name


@PARTIAL
def test_sets_that_are_not_whole_are_refused_but_in_a_dry_run(data, tmp_path):
    config = small(load_config(CONFIGS[1]))
    with pytest.raises(ValueError, match=r"bsd400-wed: .* holds 6 pictures, published are 5,144; get the whole set"):
        next(train(config, data=data, run=tmp_path))
    partial = parse(
        {**to_dict(config), "mix": {**to_dict(config)["mix"], "sets": {"lol-train": 1.0}, "procedural": 1.0}}
    )
    with pytest.raises(ValueError, match=r"lol-train: .* holds 3 pictures, published are 485"):
        load_sources(data, partial.mix, 0)
    assert len(load_sources(data, rehearsal(config).mix, 0).pairs) == 4


@PARTIAL
def test_clean_pictures_of_published_sets_are_held_back_too(data, tmp_path):
    folder = tmp_path / "Denoise"
    shutil.copytree(data / "Denoise", folder)
    name = next(f"held{n}.png" for n in range(1000) if is_held_back(Path(f"held{n}.png")))
    shutil.copy(next(folder.iterdir()), folder / name)
    kept = held_back(str(tmp_path), rehearsal(load_config(CONFIGS[0])).mix)
    assert [picture.name for picture in kept.photos] == [name] and not kept.microscopy
    assert held_back(str(tmp_path), MixConfig()).photos == ()


def test_vgg_by_name_is_the_file_in_the_folder():
    maps = VggFeatures(find("VGG-16", VGG16))(torch.rand(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (256, 8, 8)]


@PARTIAL
def test_the_perceiver_learns_the_type_of_pairs_but_no_severity(data):
    sources = load_sources(data, rehearsal(load_config(CONFIGS[1])).mix, 0)
    images, severities = torch.zeros(12, 3, 16, 16), torch.zeros(12, len(TYPES))
    thumbnails = torch.arange(12) >= 8
    paired = put_pairs(images, severities, thumbnails, 0.5, sources, np.random.default_rng(0))
    assert paired.tolist() == [True] * 4 + [False] * 6 + [True] * 2
    assert (images[paired].flatten(1).std(dim=1) > 0).all() and not images[~paired].any()
    assert (severities[paired].sum(dim=1) == 1).all() and torch.equal(severities[0], severities[1])
    assert not severities[~paired].any() and not severities[:, TYPES.index("noise")].any()

    logits, amounts = (
        torch.zeros(12, len(TYPES), requires_grad=True),
        torch.full((12, len(TYPES)), 0.5).requires_grad_(),
    )
    tiers, z = torch.zeros(12, 3, requires_grad=True), torch.nn.functional.normalize(torch.rand(12, 4), dim=1)
    losses = perceiver_loss(Reading(tiers, logits, amounts, z, z), severities, thumbnails, paired)
    sum(losses.values()).backward()
    assert not amounts.grad.any() and (logits.grad[:4][severities[:4] == 1] < 0).all()
    assert (tiers.grad[:4, 0] < 0).all(), "what is damaged is of low quality"


def test_pairs_for_the_perceiver_need_a_share_of_pairs():
    values = to_dict(load_config(CONFIGS[0]))
    with pytest.raises(ValueError, match=r"expected mix.paired > 0 beside perceiver.paired 0.7"):
        parse({**values, "mix": {**values["mix"], "paired": 0.0}})

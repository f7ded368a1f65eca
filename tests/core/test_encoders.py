"""Frozen encoders of others: they see what their libraries see, they are never random, and they are not saved."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from perceive_ir import Restorer, WeightsError, load
from perceive_ir._encoders import VGG16, equip, find
from perceive_ir._weights import Card, load_system, save_system
from perceive_ir.networks import EncoderConfig, System, SystemConfig
from tests.conftest import CLIP, VIT

pytestmark = pytest.mark.usefixtures("encoders_here")


@pytest.fixture
def system(make_system) -> System:
    return make_system(backbone="restormer", encoder={**VIT, **CLIP})


def pictures(side: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def as_timm_sees(vit: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Catch the first token behind every block of a plain forward pass."""
    seen = []
    for block in vit.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out[:, 0]))
    vit(x)
    return seen


def test_the_vit_gives_the_cls_tokens_of_its_librarys_own_forward_pass(encoder_files, system):
    own = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    own.load_state_dict(load_file(encoder_files / "encoders" / "test_vit.safetensors"))
    with torch.no_grad():
        seen = as_timm_sees(own, (pictures() - 0.5) / 0.5)
    found = equip(system).semantics(pictures())
    assert [f.shape for f in found] == [(2, 64)] * 4
    for mine, number in zip(found, VIT["blocks"], strict=True):
        torch.testing.assert_close(mine, seen[number - 1])


def test_a_picture_of_any_shape_is_seen_whole(system):
    wide = torch.zeros(1, 3, 50, 200)
    wide[..., -40:] = 1
    first, second = (equip(system).semantics(x)[-1] for x in (wide, wide.flip(-1)))
    assert first.shape == (1, 64) and (first - second).abs().max() > 0.01


def test_clip_embeds_as_its_library_does(encoder_files, system):
    own = open_clip.create_model(
        "tiny-clip", pretrained=str(encoder_files / "encoders" / "tiny-clip-mine.safetensors")
    ).eval()
    mean, std = (torch.tensor(v)[:, None, None] for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    equip(system, training=True)
    with torch.no_grad():
        wanted = own.encode_image((pictures(32) - mean) / std, normalize=True)
        torch.testing.assert_close(system.encode_image(pictures(32), normalize=True), wanted)
        cosines = wanted @ torch.nn.functional.normalize(system.tiers, dim=-1).T
        torch.testing.assert_close(system.tier_cosines(pictures(32)), cosines)
        torch.testing.assert_close(system.scale, own.logit_scale.exp())


def test_a_gradient_reaches_the_picture_through_clip_and_leaves_clip_alone(system):
    image = pictures().requires_grad_(True)
    equip(system, training=True).tier_cosines(image).sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(p.grad is None for p in system.clip.net.parameters())


def test_encoders_are_named_in_the_weights_and_not_in_them(system, tmp_path):
    path = tmp_path / "full.safetensors"
    save_system(path, equip(system, training=True), Card("full", "0"), half=False)
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        about = json.loads(file.metadata()["config"])["encoder"]
    assert {name.split(".")[0] for name in names} == {"perceiver", "restorer", "tiers"}
    assert about["semantics"] == "timm:test_vit" and len(about["semantics_sha256"]) == len(about["clip_sha256"]) == 64
    again = load(path, device="cpu").system
    assert again.clip is None, "restoring needs no CLIP"
    assert all(map(torch.equal, again.semantics(pictures()), system.semantics(pictures())))


def test_another_encoder_than_the_one_trained_with_is_refused(system, encoder_files, tmp_path, monkeypatch):
    save_system(tmp_path / "full.safetensors", equip(system), Card("full", "0"))
    (tmp_path / "encoders").mkdir()
    other = load_file(encoder_files / "encoders" / "test_vit.safetensors")
    save_file({**other, "cls_token": other["cls_token"] + 1}, tmp_path / "encoders" / "test_vit.safetensors")
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"timm:test_vit here has weights \w{12}…, but the model was trained with"):
        load(tmp_path / "full.safetensors", device="cpu")


def test_without_its_encoder_a_model_says_what_to_get(system, tmp_path, monkeypatch):
    save_system(tmp_path / "full.safetensors", system, Card("full", "0"))
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(tmp_path))
    assert load_system(tmp_path / "full.safetensors")[1].name == "full", "its head can be read all the same"
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / "full.safetensors", device="cpu")
    message = str(caught.value)
    assert "`hf download timm/test_vit.r160_in1k model.safetensors`" in message
    assert "put test_vit.safetensors into the folder encoders/ of PERCEIVE_IR_WEIGHTS" in message
    assert "\n" not in message


def test_what_the_hub_has_brought_before_is_found_offline(encoder_files, tmp_path, monkeypatch):
    folder = tmp_path / "hub" / "models--timm--vgg16.tv_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    shutil.copy(
        encoder_files / "encoders" / "test_vit.safetensors", folder / "snapshots" / ("a" * 40) / "model.safetensors"
    )
    assert find("VGG-16", VGG16).name == "model.safetensors"
    shutil.copy(encoder_files / "encoders" / "test_vit.safetensors", tmp_path / "vgg16.safetensors")
    (tmp_path / "encoders").mkdir()
    shutil.move(tmp_path / "vgg16.safetensors", tmp_path / "encoders")
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(tmp_path))
    assert find("VGG-16", VGG16) == tmp_path / "encoders" / "vgg16.safetensors", "the local folder comes first"


@pytest.mark.parametrize(("name", "config"), [("test_vit", VIT), ("tiny-clip-mine", CLIP)])
def test_no_tensor_of_an_encoder_stays_random(make_system, encoder_files, tmp_path, monkeypatch, name, config):
    (tmp_path / "encoders").mkdir()
    held = load_file(encoder_files / "encoders" / f"{name}.safetensors")
    lost = sorted(held)[0]
    save_file({n: t for n, t in held.items() if n != lost}, tmp_path / "encoders" / f"{name}.safetensors")
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=f"{lost}.*does not fit|does not fit.*{lost}"):
        equip(make_system(backbone="restormer", encoder=config), training=True)


def test_bringing_encoders_draws_no_random_numbers(system):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    equip(system, training=True)
    assert torch.equal(before, torch.get_rng_state())


def test_encoders_are_shared_by_copies_and_never_trained(system):
    twin = copy.deepcopy(equip(system, training=True)).train()
    assert twin.taps is system.taps and twin.clip is system.clip
    assert not system.clip.net.training and not any(p.requires_grad for p in system.taps.net.parameters())


def test_feature_vectors_are_found_once_per_picture_and_steer_every_tile(system, monkeypatch):
    model = Restorer(system, Card("full", "0"), device="cpu", precision="float32")
    shown = []
    real = system.taps.semantics
    monkeypatch.setattr(system.taps, "semantics", lambda x: shown.append(tuple(x.shape)) or real(x))
    image = np.random.default_rng(0).random((120, 150, 3), dtype=np.float32)
    *_, last = model.steps(image, task="denoise", severity=1, tile=32, overlap=8)
    assert last.total > 4 and shown == [(1, 3, 120, 150)]
    seen = last.result.perception
    assert [len(f) for f in seen.semantics] == [64] * 4
    others = tuple(np.roll(f, 1) for f in seen.semantics)
    changed = model.restore(
        image, task="denoise", severity=1, tile=32, overlap=8, perception=replace(seen, semantics=others)
    )
    assert np.abs(changed.image - last.result.image).max() > 1e-4


def test_a_stack_is_seen_by_the_mean_of_some_planes(system):
    model = Restorer(system, Card("full", "0"), device="cpu", precision="float32")
    planes = np.random.default_rng(0).random((2, 40, 40), dtype=np.float32)
    both = model.perceive(planes, "ZYX", (0, 1)).semantics
    alone = [model.perceive(plane, "YX", (0, 1)).semantics for plane in planes]
    np.testing.assert_allclose(both[3], (alone[0][3] + alone[1][3]) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"semantics": "dinov2"}, "expected encoder.semantics 'tower' or timm:NAME, got 'dinov2'"),
        ({"semantics": "timm:"}, "expected a name after timm:"),
        ({"clip": "open_clip:ViT-B-32"}, "expected encoder.clip 'tower' or open_clip:NAME/TAG"),
        ({"blocks": (4, 1)}, r"expected encoder.blocks to count up from 1 or more, got \[4, 1\]"),
        ({"width": 0}, "expected encoder.width >= 1, got 0"),
    ],
)
def test_a_config_that_names_no_encoder_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        SystemConfig(backbone="restormer", encoder=values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**VIT, "semantics": "timm:no_such_vit"}, "timm has no ViT 'no_such_vit'"),
        ({**VIT, "semantics": "timm:test_resnet"}, "timm has no ViT|with a CLS token"),
        ({**VIT, "semantics": "timm:test_vit2"}, "expected a ViT with a CLS token"),
        ({**VIT, "width": 32}, "encoder.width 64 for timm:test_vit, got .* and 32"),
        ({**VIT, "blocks": (1, 2, 4, 7)}, "expected encoder.blocks up to 6"),
        ({"clip": "open_clip:no-such/mine"}, "open_clip has no model 'no-such'"),
        ({**CLIP, "embedding": 13}, "expected encoder.embedding 12"),
    ],
)
def test_an_encoder_that_is_not_what_the_config_says_is_refused(make_system, values, words):
    with pytest.raises(ValueError, match=words):
        equip(make_system(backbone="restormer", encoder=values), training=True)


def test_sizes_of_the_published_encoders_are_the_defaults():
    assert EncoderConfig().sizes == (768,) * 4
    with torch.device("meta"):
        vit = timm.create_model("vit_base_patch14_dinov2", num_classes=0)
    assert (vit.embed_dim, len(vit.blocks), vit.pretrained_cfg["hf_hub_id"]) == (
        768, 12, "timm/vit_base_patch14_dinov2.lvd142m",
    )  # fmt: skip
    assert open_clip.get_model_config("ViT-B-32-quickgelu")["embed_dim"] == 512

"""Every family of backbones runs, learns, is saved and restores in tiles; and is built as it was published."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perceive_ir import Restorer
from perceive_ir._vocabulary import TYPES
from perceive_ir._weights import Card, load_system, save_system
from perceive_ir.networks import (
    BACKBONES,
    Block,
    Guidance,
    GuidedNet,
    NAFNet,
    NAFNetConfig,
    Perceiver,
    PromptIR,
    PromptIRConfig,
    Restormer,
    RestormerConfig,
    Signals,
    System,
    recompute_blocks,
)
from perceive_ir.networks.nafnet import NAFBlock
from perceive_ir.networks.promptir import Prompt, PromptBlock
from perceive_ir.networks.restormer import EnhancedBlock, TransformerBlock
from tests.conftest import TINY_SIZES

FAMILIES = pytest.mark.parametrize("backbone", BACKBONES)
GUIDED = pytest.mark.parametrize("guided", [False, True], ids=["plain", "guided"])
CARD = Card("tiny", "0")
DINO = (768, 768, 768, 768)
"""Sizes of DINOv2's vectors, which guide the full model."""


def picture(batch: int = 1, height: int = 32, width: int = 48) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def signals(system: System, batch: int = 1) -> Signals:
    """Noise of severity 0.6 and a little blur, and random vectors."""
    condition = torch.tensor([[{"noise": 0.6, "blur": 0.1}.get(name, 0.0) for name in TYPES]]).repeat(batch, 1)
    random = torch.Generator().manual_seed(1)
    sizes = system.config.tower_config().semantics
    return Signals(condition, tuple(torch.randn(batch, n, generator=random) for n in sizes))


def millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


# ---- every family, plain and guided


def test_every_family_is_tested():
    assert set(TINY_SIZES) == set(BACKBONES)


@FAMILIES
@GUIDED
def test_a_family_restores_a_batch_and_every_parameter_learns(make_system, backbone, guided):
    system = make_system(backbone=backbone)
    network = system.restorer if guided else system.restorer.backbone
    out = network(picture(2), signals(system, 2)) if guided else network(picture(2))
    assert out.shape == (2, 3, 32, 48)
    out.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert not [name for name, p in network.named_parameters() if not p.grad.any()]


@FAMILIES
@GUIDED
def test_a_family_is_saved_and_loaded(tmp_path, make_system, backbone, guided):
    system = make_system(backbone=backbone, lively=guided)
    save_system(tmp_path / "a.safetensors", system, CARD, half=False)
    loaded, _ = load_system(tmp_path / "a.safetensors")
    assert loaded.config.to_dict() == system.config.to_dict()
    told = signals(system)
    assert torch.equal(loaded.restorer(picture(), told), system.restorer(picture(), told))


@FAMILIES
@GUIDED
def test_a_family_restores_in_tiles(make_system, backbone, guided):
    model = Restorer(make_system(backbone=backbone, lively=guided), CARD, device="cpu", precision="float32")
    image = picture(1, 200, 221)[0].movedim(0, -1).numpy()
    wish = {"task": "denoise", "severity": 1.0, "value_range": (0, 1)}
    whole, tiled = (model.restore(image, tile=side, **wish) for side in (512, 32))
    assert whole.tile[0] >= 200 > max(tiled.tile)
    assert tiled.image.shape == image.shape
    assert np.abs(whole.image - image).mean() > 1e-3
    assert np.abs(tiled.image - whole.image).mean() < 0.1 * np.abs(whole.image - image).mean()


@FAMILIES
def test_a_family_sees_the_whole_tile_if_it_says_so(make_system, backbone):
    system = make_system(backbone=backbone)
    x, told = picture(1, 160, 160), signals(system)
    changed = x.clone()
    changed[..., :16, :16] = 1 - changed[..., :16, :16]
    far = (system.restorer(changed, told) - system.restorer(x, told))[..., -16:, -16:]
    assert far.any() == (system.restorer.reach is None)


@FAMILIES
def test_a_family_guides_its_latent_first_and_then_each_finer_level(make_system, backbone):
    net, calls = make_system(backbone=backbone).restorer.backbone, []

    def guide(level: int, features: Tensor) -> Tensor:
        calls.append((level, features.shape[1], features.shape[-1]))
        return features

    assert torch.equal(net(picture(), guide), net(picture()))
    levels = list(dict.fromkeys(calls))
    last = max(net.guided_channels)
    assert levels == [(n, net.guided_channels[n], 48 // 2 ** (n - 1)) for n in range(last, 0, -1)]
    assert net.size_needs.multiple_of == 2 ** (last - 1)


@FAMILIES
def test_blocks_computed_again_give_the_same_loss_and_gradients(make_system, backbone):
    found = []
    for again in (False, True):
        system = make_system(backbone=backbone)
        network, told = system.restorer, signals(system, 2)
        runs = count_runs(network)
        if again:
            recompute_blocks(network)
        loss = network(picture(2), told).square().mean()
        loss.backward()
        found.append((loss, [p.grad for p in network.parameters()], runs))
    (kept, gradients, once), (new, others, twice) = found
    assert torch.equal(kept, new)
    assert all(torch.equal(one, other) for one, other in zip(gradients, others, strict=True))
    assert once and len(twice) == 2 * len(once)


def count_runs(network: nn.Module) -> list[str]:
    """Return a list that grows with every run of a block's computation."""
    runs: list[str] = []
    for name, block in network.named_modules():
        if isinstance(block, Block):
            block.compute = lambda *maps, name=name, compute=block.compute: runs.append(name) or compute(*maps)
    return runs


# ---- as they were published


def build(make) -> nn.Module:
    """Build without memory for its numbers."""
    with torch.device("meta"):
        return make()


def test_nafnet_has_the_parameters_that_were_published():
    assert millions(build(NAFNet)) == pytest.approx(17.11, abs=0.01)
    sidd = NAFNetConfig(32, encoder_blocks=(2, 2, 4, 8), middle_blocks=12, decoder_blocks=(2, 2, 2, 2))
    assert millions(build(lambda: NAFNet(sidd))) == pytest.approx(29.16, abs=0.01)


def test_restormer_differs_from_the_published_one_by_the_width_of_its_first_level_alone():
    """Published: 26.13 million. There the skip of the first level is joined and not reduced, so that its four decoder
    blocks and the four of refinement have 96 channels; here, where every skip is joined and reduced, they have 48."""
    ours = build(Restormer)
    assert millions(ours) == pytest.approx(25.45, abs=0.01)
    wide = 8 * millions(build(lambda: TransformerBlock(96, 1, 2.66))) + 2 * millions(ours.leave)
    narrow = sum(map(millions, (ours.decoder[0], ours.refine, ours.merge[0], ours.leave)))
    assert millions(ours) - narrow + wide == pytest.approx(26.14, abs=0.01)  # PGCA normalises twice, 0.01 million


def test_promptir_is_a_little_larger_than_the_published_one():
    """Published: 35.6 million. Here a prompt block returns as many channels as it is given, so that what follows is as
    in the Restormer type; there the deepest returns half, and the first level has 96 channels, see above."""
    ours = build(PromptIR)
    assert millions(ours) == pytest.approx(36.83, abs=0.01)
    assert millions(ours.prompts) == pytest.approx(11.39, abs=0.01)


@pytest.mark.parametrize(("extra", "guided", "whole"), [(False, 26.11, 27.93), (True, 32.12, 33.94)])
def test_the_full_model_has_28_million_parameters_and_34_with_the_extra_attention(extra, guided, whole):
    """Guided by DINOv2's vectors; the whole is what is trained: the restorer, and the perceiver that tells it."""
    restorer = build(lambda: GuidedNet(Restormer(RestormerConfig(extra_attention=extra)), len(TYPES), DINO))
    assert millions(restorer) == pytest.approx(guided, abs=0.01)
    assert millions(restorer) + millions(build(Perceiver)) == pytest.approx(whole, abs=0.01)


# ---- formulas


def published_name(name: str) -> str:
    """Return what the authors of NAFNet call a parameter; they count the decoder from its deepest level."""
    words = {
        "norm1.norm": "norm1", "norm2.norm": "norm2", "spread": "conv1", "neighbours": "conv2", "project": "conv3",
        "attention.mix": "sca.1", "middle": "middle_blks", "encoder": "encoders", "down": "downs",
    }  # fmt: skip
    inside = {"enter": "conv4", "leave": "conv5"} if name.count(".") > 1 else {"enter": "intro", "leave": "ending"}
    for ours, theirs in (words | inside).items():
        name = re.sub(rf"(^|\.){ours}\.", rf"\1{theirs}.", name)
    return re.sub(r"^(up|decoder)\.(\d)", lambda m: f"{m[1]}s.{1 - int(m[2])}", name)


def test_nafnet_computes_what_that_of_its_authors_does():
    published = pytest.importorskip("spandrel.architectures.NAFNet").NAFNet
    ours = NAFNet(NAFNetConfig(4, (1, 2), 1, (2, 1)))
    theirs = published(width=4, enc_blk_nums=[1, 2], middle_blk_num=1, dec_blk_nums=[1, 2])
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    wanted = theirs.state_dict()
    found = {published_name(name): tensor for name, tensor in ours.state_dict().items()}
    theirs.load_state_dict({name: tensor.reshape(wanted[name].shape) for name, tensor in found.items()})
    torch.testing.assert_close(ours(picture()), theirs(picture()), rtol=1e-3, atol=1e-3)


def test_a_fresh_nafnet_block_returns_its_input():
    x = torch.randn(2, 8, 6, 5)
    assert torch.equal(NAFBlock(8)(x), x)


def test_a_nafnet_block_gates_attends_to_means_and_adds_what_it_scales():
    block, x = NAFBlock(3), torch.randn(2, 3, 6, 5)
    nn.init.normal_(block.beta)
    nn.init.normal_(block.gamma)
    spread = block.neighbours(block.spread(block.norm1(x)))
    mixed = spread[:, :3] * spread[:, 3:]
    scale = block.attention.mix(nn.functional.adaptive_avg_pool2d(mixed, 1))
    y = x + torch.einsum("c,bcij->bcij", block.beta, block.project(mixed * scale))
    wide = block.enter(block.norm2(y))
    expected = y + torch.einsum("c,bcij->bcij", block.gamma, block.leave(wide[:, :3] * wide[:, 3:]))
    torch.testing.assert_close(block(x), expected)


def test_a_prompt_is_the_mean_of_its_components_as_the_features_weigh_them():
    prompt, x = Prompt(channels=6, width=4, side=3, components=5), torch.randn(2, 6, 8, 10)
    weights = torch.stack([prompt.choose(one.mean(dim=(1, 2))).exp() for one in x])
    weights = weights / weights.sum(dim=1, keepdim=True)
    summed = sum(weights[:, n, None, None, None] * prompt.components[n] for n in range(5))
    resized = nn.functional.interpolate(summed, size=(8, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(prompt(x), prompt.smooth(resized))


def test_a_prompt_block_reads_the_features_beside_the_prompt():
    block, x = PromptBlock(6, 2, 2.0, Prompt(6, 4, 3, 5)), torch.randn(1, 6, 8, 10)
    torch.testing.assert_close(block(x), block.reduce(block.read(torch.cat([x, block.prompt(x)], dim=1))))


def test_every_step_up_of_promptir_passes_its_prompt():
    net = PromptIR(PromptIRConfig(**TINY_SIZES["promptir"]))
    plain = net(picture())
    for block in net.prompts:
        before = block.prompt.components.detach().clone()
        block.prompt.components.data.mul_(-1)
        assert not torch.equal(net(picture()), plain)
        block.prompt.components.data.copy_(before)
    assert torch.equal(net(picture()), plain)


def test_the_extra_attention_is_added_between_pgca_and_feed_forward():
    block = EnhancedBlock(8, heads=2, expansion=2.0, extra=True)
    plain, guided = torch.randn(1, 8, 4, 6), torch.randn(1, 8, 4, 6)
    x = block.attention(guided, plain) + guided
    x = x + block.extra.attention(block.extra.norm(x))
    torch.testing.assert_close(block(plain, guided), x + block.feed_forward(block.norm(x)))


def test_levels_deeper_than_there_are_semantic_vectors_share_the_deepest():
    guidance = Guidance({1: 4, 2: 4, 3: 4}, types=8, semantics=(5, 6))
    assert [guidance.levels[name].semantic for name in "123"] == [5, 6, 6]
    for level in guidance.levels.values():
        nn.init.normal_(level.leave.weight)
    shallow, deep, other = torch.randn(1, 5), torch.randn(1, 6), torch.randn(1, 6)
    first, second = (guidance.affine(Signals(torch.ones(1, 8), (shallow, f))) for f in (deep, other))
    assert [torch.equal(first[n][0], second[n][0]) for n in (1, 2, 3)] == [True, False, False]

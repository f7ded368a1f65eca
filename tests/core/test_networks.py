"""Networks start from nothing changed, see no farther than they say, and compute what the papers write."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from perceive_ir import networks
from perceive_ir._vocabulary import TYPES
from perceive_ir.networks import (
    PGCA,
    PGM,
    Compact,
    CompactConfig,
    Guidance,
    NAFNet,
    NAFNetConfig,
    Perceiver,
    PromptIR,
    PromptIRConfig,
    Restormer,
    RestormerConfig,
    Signals,
    System,
    SystemConfig,
    gate,
    pool,
    pool_windows,
)
from perceive_ir.networks.compact import ResidualBlock
from perceive_ir.networks.guidance import fit
from perceive_ir.networks.measures import BANDS, DIRECTIONS, FALL, LEVEL, SPREAD, Bands, grid_maps, grid_strength
from perceive_ir.networks.restormer import GDFN, MDTA, EnhancedBlock, TransformerBlock
from perceive_ir.networks.tower import TowerConfig

BACKBONES = pytest.mark.parametrize("backbone", networks.BACKBONES)
SMALL = CompactConfig(widths=(4, 4, 6), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1))
DEEP = CompactConfig((4, 4, 6), (1, 2, 3), (2, 2))
NETS = [
    lambda: Compact(SMALL),
    lambda: Restormer(RestormerConfig((8, 16), (1, 1), (1, 2), refinement=1)),
    lambda: NAFNet(NAFNetConfig(4, (1, 1), 1, (1, 1))),
    lambda: PromptIR(PromptIRConfig((8, 16), (1, 1), (1, 2), 1, prompt_widths=(4,), prompt_sides=(8,))),
]


def picture(batch: int = 1, height: int = 32, width: int = 48, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def told(batch: int = 1, **severities: float) -> Tensor:
    return torch.tensor([[severities.get(name, 0.0) for name in TYPES]]).repeat(batch, 1)


def as_map(condition: Tensor, height: int, width: int) -> Tensor:
    return condition[:, :, None, None].expand(-1, -1, height, width).contiguous()


def semantics(system: System, batch: int = 1) -> tuple[Tensor, ...]:
    return tuple(torch.randn(batch, n) for n in system.config.tower_config().semantics)


# ---- what starts at zero


def test_a_fresh_residual_block_returns_its_input():
    x = torch.randn(2, 8, 10, 12)
    assert torch.equal(ResidualBlock(8)(x), x)


def test_fresh_modulation_changes_nothing():
    gamma, beta = PGM(channels=6, condition=5, semantic=4)(torch.randn(2, 5), torch.randn(2, 4))
    assert gamma.shape == beta.shape == (2, 6, 1, 1)
    assert not gamma.any()
    assert not beta.any()


@pytest.mark.parametrize("net", NETS)
def test_a_network_whose_last_layer_is_silent_returns_its_input(net):
    net = net()
    nn.init.zeros_(net.leave.weight)
    assert torch.equal(net(picture()), picture())


def test_a_fresh_compact_network_begins_with_small_changes():
    torch.manual_seed(0)
    assert Compact().leave.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_a_residual_block_begins_with_weights_that_keep_the_spread_behind_a_relu():
    assert ResidualBlock(32).first.weight.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.05)


@BACKBONES
@pytest.mark.parametrize("severities", [{"noise": 0.25}, {"haze": 1.0}, {"noise": 0.3, "rain": 0.9, "jpeg": 0.1}])
def test_a_fresh_guided_network_equals_its_plain_backbone(make_system, backbone, severities):
    system = make_system(backbone=backbone, lively=False)
    x = picture(2)
    plain = system.restorer.backbone(x)
    assert (plain - x).abs().max() > 1e-3
    for signals in (Signals(told(2, **severities)), Signals(told(1, **severities), semantics(system))):
        torch.testing.assert_close(system.restorer(x, signals), plain, rtol=0, atol=1e-6)


@BACKBONES
def test_told_nothing_a_network_changes_nothing(make_system, backbone):
    system = make_system(backbone=backbone)
    x = picture(2)
    assert torch.equal(system.restorer(x, Signals(told(2))), x)
    assert torch.equal(system.restorer(x, Signals(as_map(told(2), 4, 6), semantics(system))), x)


@BACKBONES
def test_a_condition_as_a_vector_equals_a_constant_map(make_system, backbone):
    system = make_system(backbone=backbone)
    x, condition, known = picture(2), told(2, noise=0.1, blur=0.15), semantics(system)
    vector = system.restorer(x, Signals(condition, known))
    assert (vector - x).abs().max() > 1e-3
    mapped = system.restorer(x, Signals(as_map(condition, 4, 6), known))
    torch.testing.assert_close(mapped, vector, rtol=0, atol=2e-6)


@BACKBONES
def test_condition_and_semantics_both_steer_the_network(make_system, backbone):
    system = make_system(backbone=backbone)
    x = picture()
    outs = [
        system.restorer(x, Signals(told(noise=1.0))),
        system.restorer(x, Signals(told(haze=1.0))),
        system.restorer(x, Signals(told(noise=1.0), semantics(system))),
    ]
    assert (outs[0] - outs[1]).abs().max() > 1e-4
    assert (outs[0] - outs[2]).abs().max() > 1e-4


def test_tiles_of_one_picture_share_its_semantics_also_under_a_map(tiny_system):
    x, known = picture(3), semantics(tiny_system)
    condition = as_map(told(3, noise=0.5), 4, 6)
    together = tiny_system.restorer(x, Signals(condition, known))
    alone = [tiny_system.restorer(x[n : n + 1], Signals(condition[n : n + 1], known)) for n in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-6)


def test_the_gate_opens_with_the_largest_severity_and_is_full_at_a_quarter():
    condition = torch.stack([told(noise=s, rain=s / 2)[0] for s in (0.0, 0.05, 0.125, 0.25, 1.0)])
    torch.testing.assert_close(gate(condition).flatten(), torch.tensor([0.0, 0.2, 0.5, 1.0, 1.0]))
    mapped = gate(as_map(condition, 2, 3))
    assert mapped.shape == (5, 1, 2, 3)
    torch.testing.assert_close(mapped[:, 0, 1, 2], torch.tensor([0.0, 0.2, 0.5, 1.0, 1.0]))


def test_a_half_open_gate_applies_half_of_the_residual(tiny_system):
    x, condition = picture(), told(noise=0.125)
    full = tiny_system.restorer.backbone(x, tiny_system.restorer.guide(Signals(condition)))
    half = tiny_system.restorer(x, Signals(condition))
    torch.testing.assert_close(half, x + 0.5 * (full - x))


# ---- specialists

CHAIN = {"groups": ("noise+jpeg", "blur+lowres+rain+snow", "haze+lowlight")}


def test_a_chain_of_specialists_undoes_group_after_group_and_tells_each_of_its_own_types(make_system):
    chain = make_system(**CHAIN).restorer
    x, noise, haze = picture(2), told(2, noise=0.4), told(2, haze=0.7)
    between = chain.members[0](x, Signals(noise))
    expected = chain.members[2](between, Signals(haze))
    assert (expected - between).abs().max() > 1e-3
    assert torch.equal(chain(x, Signals(noise + haze)), expected)


def test_a_specialist_whose_types_are_absent_is_not_even_asked(make_system):
    chain = make_system(**CHAIN).restorer
    asked = []
    for number, member in enumerate(chain.members):
        member.register_forward_pre_hook(lambda *_, n=number: asked.append(n))
    chain(picture(), Signals(told(rain=0.5, blur=0.2)))
    chain(picture(), Signals(told(jpeg=0.5, lowlight=0.2)))
    assert asked == [1, 0, 2]


def test_a_chain_that_is_told_nothing_returns_its_input(make_system):
    system = make_system(**CHAIN)
    assert torch.equal(system.restorer(picture(2), Signals(told(2))), picture(2))
    assert torch.equal(system.restorer(picture(), Signals(as_map(told(), 4, 6), semantics(system))), picture())


def test_a_chain_takes_the_condition_as_a_map(make_system):
    system = make_system(**CHAIN)
    condition, known = told(2, noise=0.5, haze=0.3), semantics(system)
    vector = system.restorer(picture(2), Signals(condition, known))
    mapped = system.restorer(picture(2), Signals(as_map(condition, 4, 6), known))
    torch.testing.assert_close(mapped, vector, rtol=0, atol=2e-6)


def test_a_chain_sees_as_far_as_all_its_members(make_system):
    chain = make_system(**CHAIN).restorer
    condition = Signals(told(noise=1.0, rain=1.0, haze=1.0))
    assert chain.reach == 3 * chain.members[0].reach
    side = 2 * chain.reach + 64
    x = torch.rand(1, 3, 16, side // 8 * 8)
    changed = x.clone()
    changed[..., :8] = 1 - changed[..., :8]
    difference = (chain(changed, condition) - chain(x, condition)).abs().amax((0, 1, 2))
    assert difference[7 + chain.members[0].reach + 1 :].any(), "one member's reach is not enough"
    assert not difference[8 + chain.reach :].any()


@pytest.mark.parametrize("groups", [("noise+jpeg",), ("+".join(TYPES), "noise"), ("noise+dust",), ()])
def test_groups_that_do_not_share_out_the_types_are_refused(groups):
    with pytest.raises(ValueError, match="exactly one of groups, got"):
        SystemConfig(groups=groups)


def test_the_gain_of_a_compact_network_scales_its_input():
    net = Compact(replace(SMALL, gain=True))
    with torch.no_grad():
        net.leave.weight.zero_()
        net.leave.bias.copy_(torch.tensor([0.5, 0.0, -1.0, 0.0, 0.25, 0.125]))
    scaled = picture() * torch.tensor([1.5, 1.0, 0.0])[:, None, None] + torch.tensor([0, 0.25, 0.125])[:, None, None]
    torch.testing.assert_close(net(picture()), scaled)


# ---- shapes and formulas


def test_modulation_is_one_plus_gamma_times_x_plus_beta(tiny_system):
    guidance = tiny_system.restorer.guidance
    signals = Signals(told(2, noise=0.5), semantics(tiny_system, 2))
    features = torch.randn(2, 16, 5, 7)
    gamma, beta = guidance.levels["3"](guidance.embed(signals.condition), signals.semantics[2])
    assert gamma.shape == beta.shape == (2, 16, 1, 1)
    torch.testing.assert_close(guidance(signals)(3, features), (1 + gamma) * features + beta)


def test_modulation_of_a_map_has_the_shape_of_the_map():
    pgm = PGM(channels=6, condition=5, semantic=4)
    for known in (None, torch.randn(1, 4), torch.randn(2, 4)):
        gamma, beta = pgm(torch.randn(2, 5, 3, 4), known)
        assert gamma.shape == beta.shape == (2, 6, 3, 4)


def test_withheld_semantics_count_as_the_zero_vector():
    pgm = PGM(channels=6, condition=5, semantic=4)
    nn.init.normal_(pgm.leave.weight)
    z = torch.randn(2, 5)
    torch.testing.assert_close(pgm(z, None)[0], pgm(z, torch.zeros(2, 4))[0])


def test_the_scale_of_semantics_does_not_matter():
    pgm, known = PGM(channels=6, condition=5, semantic=4), torch.randn(2, 4)
    nn.init.normal_(pgm.leave.weight)
    z = torch.randn(2, 5)
    torch.testing.assert_close(pgm(z, 30 * known + 7)[0], pgm(z, known)[0], rtol=1e-3, atol=1e-3)
    assert (pgm(z, -known)[0] - pgm(z, known)[0]).abs().max() > 0.01


def test_modulation_reads_semantics_before_the_condition():
    pgm = PGM(channels=6, condition=5, semantic=4)
    nn.init.normal_(pgm.leave.weight)
    nn.init.zeros_(pgm.enter.weight[:, :4].detach())
    z = torch.randn(2, 5)
    assert torch.equal(pgm(z, torch.randn(2, 4))[0], pgm(z, torch.randn(2, 4))[0])
    assert not torch.equal(pgm(z, None)[0], pgm(2 * z, None)[0])


def test_a_map_of_modulation_is_interpolated_between_its_cells():
    cells = torch.tensor([[[[0.0, 1.0]]]])
    assert fit(cells, torch.zeros(1, 1, 1, 8)).flatten().tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]


def attention_by_hand(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Transposed attention, channel by channel, (B, C, H, W) each."""
    heads, size = len(temperature), q.shape[1] // len(temperature)
    out = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        qh, kh, vh = q[:, part], k[:, part], v[:, part]
        qh = qh / qh.square().sum((2, 3), keepdim=True).sqrt()
        kh = kh / kh.square().sum((2, 3), keepdim=True).sqrt()
        weights = (torch.einsum("bihw,bjhw->bij", qh, kh) * temperature[head].item()).softmax(-1)
        out.append(torch.einsum("bij,bjhw->bihw", weights, vh))
    return torch.cat(out, dim=1)


def norm_by_hand(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + norm.eps).sqrt()
    return scaled * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_pgca_asks_with_the_guided_and_answers_with_the_plain_features():
    pgca = PGCA(channels=12, heads=3)
    nn.init.uniform_(pgca.temperature, 0.5, 3)
    nn.init.uniform_(pgca.norm_y.norm.weight)
    guided, plain = torch.randn(2, 12, 6, 5), torch.randn(2, 12, 6, 5)
    query = pgca.query(norm_by_hand(guided, pgca.norm_y.norm))
    key, value = pgca.key_value(norm_by_hand(plain, pgca.norm_x.norm)).split(12, dim=1)
    expected = pgca.project(attention_by_hand(query, key, value, pgca.temperature))
    torch.testing.assert_close(pgca(guided, plain), expected, rtol=1e-4, atol=1e-5)


def test_mdta_attends_between_channels():
    mdta = MDTA(channels=8, heads=2)
    nn.init.uniform_(mdta.temperature, 0.5, 3)
    x = torch.randn(2, 8, 6, 5)
    query, key, value = mdta.query_key_value(x).split(8, dim=1)
    expected = mdta.project(attention_by_hand(query, key, value, mdta.temperature))
    torch.testing.assert_close(mdta(x), expected, rtol=1e-4, atol=1e-5)


def test_gdfn_gates_one_half_with_the_gelu_of_the_other():
    gdfn = GDFN(channels=6, expansion=2.66)
    x = torch.randn(1, 6, 5, 7)
    first, second = gdfn.enter(x).split(15, dim=1)
    torch.testing.assert_close(gdfn(x), gdfn.leave(nn.functional.gelu(first) * second))


def test_an_enhanced_block_adds_attention_to_the_guided_features():
    block = EnhancedBlock(8, heads=2, expansion=2.0)
    plain, guided = torch.randn(1, 8, 4, 6), torch.randn(1, 8, 4, 6)
    x = block.attention(guided, plain) + guided
    torch.testing.assert_close(block(plain, guided), x + block.feed_forward(block.norm(x)))


def test_an_enhanced_block_without_guidance_is_a_transformer_block():
    enhanced, plain = EnhancedBlock(8, 2, 2.0), TransformerBlock(8, 2, 2.0)
    attention = enhanced.attention
    attention.query[0].weight.data, attention.key_value[0].weight.data = plain.attention.query_key_value[
        0
    ].weight.data.split([8, 16])
    attention.query[1].weight.data, attention.key_value[1].weight.data = plain.attention.query_key_value[
        1
    ].weight.data.split([8, 16])
    attention.project.weight.data = plain.attention.project.weight.data
    enhanced.feed_forward.load_state_dict(plain.feed_forward.state_dict())
    x = torch.randn(2, 8, 4, 6)
    torch.testing.assert_close(enhanced(x, x), plain(x))


@pytest.mark.parametrize("net", NETS)
def test_detail_passes_beside_the_latent(net):
    net = net()
    for parameter in net.up.parameters():
        nn.init.zeros_(parameter)
    assert (net(picture()) - picture()).std() > 1e-3


def test_restormer_refines_before_it_leaves():
    net, seen = Restormer(RestormerConfig((8, 16), (1, 1), (1, 2), refinement=1)), []
    net.refine.register_forward_hook(lambda module, given, made: seen.append(made))
    net.leave.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    net(picture())
    assert len(seen) == 2
    assert seen[0] is seen[1]


# ---- sizes


def test_restormer_at_full_size_has_the_parameters_of_the_paper_and_compact_is_small():
    with torch.device("meta"):
        restormer, system = Restormer(), System()
    assert 25e6 < count(restormer) < 26.5e6
    assert count(system.restorer.backbone) <= 5e6
    assert count(system) * 2 <= 16 * 2**20


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    "net",
    [
        Compact(SMALL),
        Compact(CompactConfig((4, 4), (0, 1), (0,))),
        *(make() for make in NETS[1:]),
    ],
)
def test_a_network_takes_every_size_that_it_says_it_takes(net):
    step, least = net.size_needs.multiple_of, net.size_needs.minimum
    for height, width in ((least, least), (least, least + step), (5 * step, 2 * step)):
        assert net(picture(2, height, width)).shape == (2, 3, height, width)


def test_a_guide_is_called_at_the_latent_first_and_then_at_each_finer_level():
    calls: list[tuple[int, int]] = []

    def guide(level: int, features: Tensor) -> Tensor:
        calls.append((level, features.shape[1]))
        return features

    net = Compact(CompactConfig((4, 6, 8), (1, 1, 2), (1, 1)))
    plain = net(picture())
    assert torch.equal(net(picture(), guide), plain)
    assert calls == [(3, 8), (2, 6), (1, 4)]
    assert dict(calls) == dict(net.guided_channels)


@pytest.mark.parametrize("config", [SMALL, DEEP, CompactConfig((4, 4), (2, 1), (3,))])
def test_compact_sees_as_far_as_it_says_and_hardly_less(config):
    net = Compact(config)
    for parameter in net.parameters():  # no cancelling and no dead ReLU: every path counts
        parameter.data.abs_().add_(1e-3)
    cell = net.size_needs.multiple_of
    side = -(-(2 * net.reach + 4 * cell) // cell) * cell
    middle = side // 2 // cell * cell
    seen = max(farthest(net, side, middle + offset) for offset in (0, cell // 2 - 1, cell - 1))
    assert net.reach - 2 <= seen <= net.reach


def farthest(net: nn.Module, side: int, place: int) -> int:
    """Return the largest distance at which the output at a place of the diagonal depends on the input."""
    x = picture(1, side, side).requires_grad_()
    net.double()(x.double())[0, :, place, place].sum().backward()
    rows = torch.nonzero(x.grad.abs().amax((0, 1, 3))).flatten()
    return int(max(place - rows[0], rows[-1] - place))


def test_the_tower_sees_no_farther_than_it_says():
    perceiver = Perceiver(TowerConfig(widths=(4, 4, 4, 4), blocks=(1, 2, 1, 2))).eval()
    tower = perceiver.tower
    for parameter in tower.parameters():
        parameter.data.abs_().add_(1e-3)
    x = torch.full((1, 3, 512, 16), 0.9).requires_grad_()
    tower(x)[3][0, :, 16].sum().backward()
    rows = torch.nonzero(x.grad.abs().amax((0, 1, 3))).flatten()
    reach = int(max(16 * 16 - rows[0], rows[-1] - (17 * 16 - 1)))
    assert reach == tower.reach == 130


# ---- the perceiver


def test_a_perceiver_reads_tiers_types_severities_and_unit_vectors(tiny_system):
    reading = tiny_system.perceiver(picture(3, 64, 48))
    assert reading.tier_logits.shape == (3, 3)
    assert reading.type_logits.shape == reading.severities.shape == (3, len(TYPES))
    assert ((reading.severities >= 0) & (reading.severities <= 1)).all()
    for vectors in (reading.contrast, reading.embedding):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))


def test_tiers_are_told_by_the_angle_to_their_features_times_a_learned_scale(make_system):
    perceiver, x = make_system().perceiver, picture(2, 64, 48)
    reading = perceiver(x)
    cosines = torch.cosine_similarity(reading.embedding[:, None], perceiver.tiers[None], dim=-1)
    torch.testing.assert_close(reading.tier_logits, perceiver.logit_scale.exp() * cosines)


def test_pooled_features_are_normalised_as_in_training(make_system):
    perceiver = make_system().perceiver
    pooled, norm = torch.randn(3, perceiver.normalise.num_features), perceiver.normalise
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    expected = (pooled - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(perceiver.join([pooled[:, :10], pooled[:, 10:]]), expected)


def test_a_mid_grey_is_the_zero_of_the_tower():
    tower = Perceiver().eval().tower
    assert not any(maps.any() for maps in tower(torch.full((1, 3, 32, 32), 0.5)))
    assert all(maps.any() for maps in tower(torch.full((1, 3, 32, 32), 0.4)))


def test_a_perceiver_embeds_pictures_like_an_open_clip_model(tiny_system):
    x = picture(2, 64, 48)
    embedding = tiny_system.perceiver.encode_image(x, normalize=True)
    torch.testing.assert_close(embedding, tiny_system.perceiver(x).embedding)
    raw = tiny_system.perceiver.encode_image(x)
    torch.testing.assert_close(nn.functional.normalize(raw, dim=-1), embedding)


def test_a_window_as_large_as_the_picture_is_the_picture():
    maps = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(pool_windows(maps, 8, 4)[:, :, 0, 0], pool(maps), rtol=1e-4, atol=1e-4)
    assert pool_windows(maps, 4, 2).shape == (2, 6, 3, 3)
    torch.testing.assert_close(pool_windows(maps, 4, 2)[..., 1, 2], pool(maps[:, :, 2:6, 4:8]), rtol=1e-4, atol=1e-4)


# ---- the block grid


def blocky(strength: float, top: int = 0, left: int = 0) -> Tensor:
    """Return noise (1, 3, 64, 96) whose blocks of 8 x 8 differ in brightness."""
    random = torch.Generator().manual_seed(1)
    blocks = torch.rand(1, 1, 10, 14, generator=random).repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = 0.1 * torch.rand(1, 3, 64, 96, generator=random)
    return 0.3 + noise + strength * blocks[..., top : top + 64, left : left + 96]


def grid_of(image: Tensor) -> Tensor:
    return grid_strength(grid_maps(image).mean(dim=(2, 3)))[0]


def test_a_block_grid_stands_out_wherever_it_lies():
    plain, weak, strong = (grid_of(blocky(s))[[0, 3]] for s in (0.0, 0.1, 0.4))
    assert (weak > plain + 0.3).all()
    assert (strong > weak + 0.3).all()
    for moved in (blocky(0.4, top=3), blocky(0.4, left=5), blocky(0.4, top=7, left=7)):
        torch.testing.assert_close(grid_of(moved)[[0, 3]], strong, atol=0.3, rtol=0)


def test_rows_and_columns_of_a_grid_are_told_apart():
    stripes = blocky(0.4).mean(dim=2, keepdim=True).expand(1, 3, 64, 96)
    columns, rows = grid_of(stripes)[[0, 3]]
    assert columns > 1
    assert rows == 0
    torch.testing.assert_close(grid_of(stripes.mT), grid_of(stripes)[[3, 4, 5, 0, 1, 2]])


@pytest.mark.parametrize("bands", [False, True])
def test_semantics_of_windows_are_those_of_the_crops_they_cover(bands):
    torch.manual_seed(0)
    perceiver = Perceiver(TowerConfig(widths=(4, 4, 8, 8), grid=True, bands=bands)).eval()
    image = blocky(0.4).repeat(1, 1, 4, 3)
    image[..., 128:, :] = picture(1, 128, 288)
    windows = perceiver.semantics_of_windows(image, 64, 64, 32)
    assert [w.shape for w in windows] == [(1, n, 3, 4) for n in perceiver.config.semantics]
    for level in range(4, len(windows)):
        upper, lower = (perceiver.semantics(image[..., y : y + 64, 96:160])[level] for y in (64, 128))
        torch.testing.assert_close(
            windows[level][..., 0, 1], upper, atol=0.1, rtol=0.2
        )  # a crop has borders of its own
        torch.testing.assert_close(windows[level][..., 2, 1], lower, atol=0.1, rtol=0.2)
        assert (upper - lower).abs().max() > 1


# ---- the embedding


def test_hidden_units_bend_the_embedding_that_tiers_and_encoders_read():
    torch.manual_seed(0)
    straight = Perceiver(TowerConfig(widths=(4, 4, 8, 8))).eval()
    bent = Perceiver(TowerConfig(widths=(4, 4, 8, 8), hidden=5)).eval()
    bent.load_state_dict({**bent.state_dict(), **straight.state_dict()})
    image = picture(2, 64, 64)
    assert torch.equal(bent(image).tier_logits, straight(image).tier_logits)
    torch.nn.init.normal_(bent.bend[-1].weight)
    joined = bent.join(bent.semantics(image))
    enter, leave = bent.bend[0], bent.bend[-1]
    by_hand = straight.project(joined) + leave(torch.nn.functional.gelu(enter(joined)))
    torch.testing.assert_close(bent.encode_image(image), by_hand)
    torch.testing.assert_close(bent(image).embedding, torch.nn.functional.normalize(by_hand, dim=-1))
    assert not torch.allclose(bent(image).tier_logits, straight(image).tier_logits)


# ---- detail by its size and direction


def measured(bands: Bands, image: Tensor) -> Tensor:
    return bands.said(bands.maps(image).mean(dim=(2, 3)))


def loudest(bands: Bands, image: Tensor) -> tuple[int, int]:
    """Return ring and sector of the grey band with the largest mean power."""
    ring, sector = band_names(bands)
    power = bands.maps(image).mean(dim=(0, 2, 3))[: len(ring)]
    return int(ring[power.argmax()]), int(sector[power.argmax()])


def band_names(bands: Bands) -> tuple[Tensor, Tensor]:
    """Return ring and sector of each grey band, read off the frequencies it has."""
    down, across = torch.fft.fftfreq(32)[:, None] * 32, torch.fft.rfftfreq(32) * 32
    ring, sector = torch.hypot(down, across).round().clamp(max=17), torch.atan2(across, down) / torch.pi * DIRECTIONS
    members = bands.sectors > 0
    first = members.float().argmax(dim=0)
    return ring.flatten()[first], sector.round().flatten()[first] % DIRECTIONS


@pytest.mark.parametrize(("down", "across", "sector"), [(0, 5, 2), (5, 0, 0), (4, 4, 1), (-4, 4, 3)])
def test_a_wave_is_found_in_its_ring_and_direction(down, across, sector):
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    wave = 0.5 + 0.2 * torch.sin(2 * torch.pi * (down * y + across * x) / 32)
    assert loudest(Bands(), wave.expand(1, 3, 64, 96)) == (round((down**2 + across**2) ** 0.5), sector)


def test_white_noise_has_its_variance_in_every_band():
    noise = 0.5 + 0.1 * torch.randn(8, 1, 128, 128, generator=torch.Generator().manual_seed(1)).expand(-1, 3, -1, -1)
    bands = Bands()
    maps = bands.maps(noise).mean(dim=(0, 2, 3))
    ring, _ = band_names(bands)
    torch.testing.assert_close(maps[: len(ring)], torch.full((len(ring),), 0.01), rtol=0.25, atol=0)
    expected = (torch.tensor(0.01).log() - FALL * ring.log() - LEVEL) / SPREAD
    torch.testing.assert_close(bands.said(maps)[: len(ring)], expected, atol=0.1, rtol=0)
    assert maps[3 * len(ring) :].max() == 0, "grey has no colour"


def test_colour_is_measured_apart_from_grey():
    bands, (ring, _) = Bands(), band_names(Bands())
    noise = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    red = bands.maps(0.5 + 0.1 * torch.cat([noise, -noise, 0 * noise], dim=1)).mean(dim=(0, 2, 3))
    assert red[: len(ring)].max() < 1e-8
    torch.testing.assert_close(red[3 * len(ring) :][:17], torch.full((17,), 0.04), rtol=0.25, atol=0)
    torch.testing.assert_close(red[3 * len(ring) :][17:], torch.full((17,), 0.01), rtol=0.25, atol=0)


def test_a_blur_along_rows_takes_detail_across_them_alone():
    noise = torch.rand(2, 3, 128, 160, generator=torch.Generator().manual_seed(1))
    blurred = torch.nn.functional.avg_pool2d(noise, (1, 9), 1, (0, 4), count_include_pad=False)
    bands = Bands()
    ring, sector = band_names(bands)
    lost = (measured(bands, noise) - measured(bands, blurred)).mean(dim=0)[: len(ring)] * SPREAD
    fine = (ring > 6) & (ring < 16)
    assert lost[fine & (sector == 2)].min() > 1.5
    assert lost[fine & (sector == 0)].max() < lost[fine & (sector == 2)].min() - 1


def test_bands_are_there_where_a_network_is_built_without_weights():
    with torch.device("meta"):
        perceiver = Perceiver(TowerConfig(widths=(4, 4, 8, 8), bands=True))
    assert perceiver.project.weight.is_meta
    image = picture(2, 64, 96)
    assert torch.equal(perceiver.bands.maps(image), Bands().maps(image))


def test_bands_are_measured_in_full_precision_and_in_pictures_of_any_size():
    bands, image = Bands(), picture(2, 64, 96)
    expected = measured(bands, image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(measured(bands, image), expected)
    torch.testing.assert_close(measured(bands, image[..., :70, :90]), measured(bands, image[..., :64, :64]))
    small = measured(bands, image[..., :16, :16])
    assert small.shape == (2, BANDS)
    assert small.isfinite().all()
    assert measured(bands, torch.zeros(1, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize(("window", "stride"), [(128, 32), (112, 48), (48, 16), (16, 16), (64, 64)])
def test_bands_of_windows_lie_where_those_of_the_tower_do(window, stride):
    perceiver = Perceiver(TowerConfig(widths=(4, 4, 8, 8), bands=True)).eval()
    assert perceiver.bands is not None
    image = picture(1, 64 + 2 * stride + window, 64 + stride + window)
    *tower, bands = perceiver.semantics_of_windows(image, 32, window, stride)
    assert bands.shape[2:] == tower[0].shape[2:] == (3, 2)
    y, x, side = 32 + 2 * stride, 32 + stride, max(window, 32)
    maps = perceiver.bands.maps(image[..., y : y + side, x : x + side], math.gcd(32, stride))
    torch.testing.assert_close(bands[..., 2, 1], perceiver.bands.said(maps.mean(dim=(2, 3))))


# ---- configs


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SystemConfig(backbone="unet"), "compact, restormer, nafnet, promptir, got 'unet'"),
        (lambda: SystemConfig.from_dict({"size": {}}), "unknown key 'size' for SystemConfig; known keys: backbone"),
        (lambda: SystemConfig(sizes={"depth": 3}), "unknown key 'depth' for CompactConfig"),
        (lambda: SystemConfig(tower={"depth": 3}), "unknown key 'depth' for TowerConfig"),
        (lambda: SystemConfig("restormer", {"refinement": True}), "a whole number for 'refinement' .* got True"),
        (lambda: SystemConfig.from_dict({"semantics": 1}), "true or false for 'semantics' .* got 1"),
        (lambda: CompactConfig(widths=(4, 4)), r"one encoder entry per width .* widths \(4, 4\)"),
        (lambda: CompactConfig(encoder_blocks=(1, 1, 1, 0)), r"latent blocks of 1 or more, got .*\(1, 1, 1, 0\)"),
        (lambda: RestormerConfig(heads=(1, 2)), "as many widths, blocks and heads"),
        (lambda: RestormerConfig(widths=(8, 16), blocks=(1, 1), heads=(1, 3)), "divisible .* heads"),
        (lambda: RestormerConfig((8,), (1,), (3,)), "divisible .* heads"),
        (lambda: RestormerConfig((8, 18), (1, 1), (1, 2)), r"divisible by 4 from the second level on, got \(8, 18\)"),
        (lambda: RestormerConfig((8, 16), (1, 1), (1, 0)), r"heads of 1 or more .* got \(8, 16\), \(1, 0\)"),
        (lambda: RestormerConfig((), (), ()), r"heads of 1 or more"),
        (lambda: NAFNetConfig(decoder_blocks=(1, 1)), r"as many encoder_blocks .* \(1, 1, 1, 28\) and \(1, 1\)"),
        (lambda: NAFNetConfig(middle_blocks=-1), "middle_blocks -1"),
        (lambda: NAFNetConfig(width=0), "width 0"),
        (lambda: PromptIRConfig(heads=(1, 2)), "as many widths, blocks and heads"),
        (lambda: PromptIRConfig(prompt_widths=(64, 128)), r"each level but the first, got \(64, 128\)"),
        (lambda: PromptIRConfig(prompt_widths=(64, 128, 321)), r"divisible by their heads, got \[160, 320, 705\]"),
        (lambda: PromptIRConfig(components=0), "components, .* of 1 or more, got 0"),
        (lambda: Guidance({1: 4}, 8, ()), "at least one, got none"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_where_they_are_given(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_config_written_out_names_every_size_so_that_later_defaults_do_not_matter():
    config = SystemConfig(sizes={"widths": [4, 4, 8, 8]}).to_dict()
    assert set(config["sizes"]) == {"widths", "encoder_blocks", "decoder_blocks", "gain"}
    assert config["tower"]["widths"]
    assert SystemConfig.from_dict(config).to_dict() == config

"""A foreign network with the guidance attached: equal to itself before it learns, steered after, given back clean."""

import copy
import io
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import perceive_ir as pir
from perceive_ir import TYPES, WeightsError
from perceive_ir._attach import evenly
from perceive_ir._taps import Tap, choose
from perceive_ir._weights import read_signed, write_signed
from perceive_ir.networks import (
    BACKBONES,
    Compact,
    CompactConfig,
    Perceiver,
    Restormer,
    RestormerConfig,
    Signals,
    TowerConfig,
)


class UNet(nn.Module):
    """Two scales; a module that is used twice, one that pools, one that gives two things."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.middle = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.split = Halves()
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.decoder = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True))
        self.leave = nn.Conv2d(width, 3, 3, padding=1)
        self.spare = nn.Conv2d(3, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        skip = self.enter(image)
        deep = self.middle(self.down(skip))
        self.pool(deep)  # only to be listed: the network sees no farther than its convolutions
        first, second = self.split(deep)
        x = self.up(torch.cat([second, first], dim=1)) + skip
        return image + self.leave(self.decoder(self.decoder(x)))


class Halves(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.chunk(2, dim=1)


TAPS = {"decoder": 6, "middle": 12}


class Means(nn.Module):
    """An encoder of three vectors; it keeps what it was shown."""

    multiple_of = 7

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.shown = torch.Size()

    def semantics(self, image: Tensor) -> tuple[Tensor, ...]:
        self.shown = image.shape
        means = image.mean(dim=(2, 3)) * self.gain
        return means, means.repeat(1, 2), means.repeat(1, 3)

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        return self.semantics(image)[-1]


def picture(batch: int = 2, height: int = 24, width: int = 32, seed: int = 0, channels: int = 3) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def told(batch: int = 1, **severities: float) -> Tensor:
    return torch.tensor([[severities.get(name, 0.0) for name in TYPES]]).repeat(batch, 1)


def network(seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet().eval()


def enliven(net: pir.Attached) -> pir.Attached:
    """Replace what is zero before training."""
    torch.manual_seed(1)
    for module in (net.guidance, net.cfe):
        for parameter in module.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.3 / parameter[0].numel() ** 0.5)
    return net


@pytest.fixture
def plain() -> UNet:
    return network()


@pytest.fixture
def lively(plain) -> pir.Attached:
    return enliven(pir.attach(plain, TAPS))


def hooks_of(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in module.modules())


# ---- equal before, steered after


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("taps", [TAPS, "auto", {"decoder.0": 6, "enter": 6, "leave": 3}])
def test_before_training_an_attached_network_is_the_network_bit_for_bit(mode, taps):
    x, alone = picture(), network().train(mode)
    net = pir.attach(network().train(mode), taps, encoder=Means())
    assert net.training is mode
    expected = alone(x)
    assert torch.equal(net(x), expected)
    assert torch.equal(net(x, condition=told(2, noise=1.0)), alone(x) if mode else expected)


def test_what_is_seen_steers_the_picture_and_leaves_the_network_alone_when_it_is_called_itself(lively, plain):
    x = picture()
    expected = network()(x)
    steered = lively(x)
    assert (steered - expected).abs().max() > 1e-3
    assert torch.equal(plain(x), expected)
    assert torch.equal(lively(x), steered)


def test_a_failure_in_the_network_leaves_no_guide_behind(lively, plain):
    with pytest.raises(RuntimeError):
        lively(picture(channels=3)[:, :, :23])  # an odd side does not come back up
    assert torch.equal(plain(picture()), network()(picture()))


def test_a_condition_takes_the_place_of_what_the_cfe_sees(lively):
    x, condition = picture(), told(2, noise=0.5)
    given = lively(x, condition=condition)
    lively.cfe = nn.Identity()  # nobody looks
    assert torch.equal(lively(x, condition=condition), given)
    assert (lively(x, condition=told(2, haze=0.5)) - given).abs().max() > 1e-3


def test_without_a_condition_both_what_is_read_and_what_is_felt_enter(lively):
    x = picture()
    seen = lively.read(x)
    assert torch.allclose(seen.contrast.norm(dim=1), torch.ones(2))
    assert torch.equal(lively(x), lively.backbone(x, lively.guide(Signals(seen.condition, z=seen.contrast))))
    assert (lively(x) - lively(x, condition=seen.condition)).abs().max() > 1e-3


def test_a_constant_map_of_conditions_equals_the_vector_and_another_one_acts_in_its_place(lively):
    x, one, other = picture(), told(2, noise=0.9), told(2, blur=0.9)
    mapped = one[:, :, None, None].repeat(1, 1, 3, 4)
    torch.testing.assert_close(lively(x, mapped), lively(x, one), rtol=0, atol=1e-6)
    mapped[..., 2:] = other[:, :, None, None]
    torch.testing.assert_close(lively(x, mapped)[..., :8], lively(x, one)[..., :8], rtol=0, atol=1e-6)
    torch.testing.assert_close(lively(x, mapped)[..., -8:], lively(x, other)[..., -8:], rtol=0, atol=1e-6)


def test_each_picture_is_seen_for_itself(lively):
    x = picture()
    torch.testing.assert_close(lively(x), torch.cat([lively(x[:1]), lively(x[1:])]), rtol=0, atol=1e-6)


def test_a_tap_that_is_used_twice_is_guided_twice(plain):
    net, x = pir.attach(plain, {"decoder": 6}), picture()
    with torch.no_grad():
        nn.init.constant_(net.guidance.levels["1"].leave.bias, 0.0)
        net.guidance.levels["1"].leave.bias[:6] = 1.0  # gamma = 1: the features are doubled
    skip = plain.enter(x)
    first, second = plain.split(plain.middle(plain.down(skip)))
    y = plain.up(torch.cat([second, first], dim=1)) + skip
    expected = x + plain.leave(2 * plain.decoder(2 * plain.decoder(y)))
    torch.testing.assert_close(net(x), expected)


def test_every_part_learns_from_pictures_alone(plain):
    net = pir.attach(plain.train(), TAPS)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):  # the last layers first: what stands before them sees no gradient while they are zero
        optimiser.zero_grad()
        net(picture()).square().mean().backward()
        optimiser.step()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in silent if not name.startswith("backbone.network.spare")] == []


def test_a_condition_of_another_number_of_types_is_refused(lively):
    with pytest.raises(ValueError, match=r"expected a condition \(B, 8\) .* got \(2, 3\); .* noise, haze"):
        lively(picture(), condition=torch.zeros(2, 3))


# ---- semantic vectors


def test_vectors_go_from_the_finest_tap_to_the_deepest():
    assert evenly(4, 4) == [0, 1, 2, 3]
    assert evenly(4, 2) == [0, 3] and evenly(4, 3) == [0, 2, 3]
    assert evenly(2, 4) == [0, 0, 1, 1] and evenly(4, 1) == [3] and evenly(0, 3) == []


def test_an_encoder_sees_the_whole_picture_padded_and_guides_each_tap(plain):
    encoder = Means()
    net = enliven(pir.attach(plain, TAPS, encoder=encoder))
    assert [pgm.semantic for pgm in net.guidance.levels.values()] == [3, 9]
    condition = told(2, noise=0.5)
    first = net(picture(), condition)
    assert encoder.shown == (2, 3, 28, 35)
    brighter = torch.linspace(1, 3, 3)[:, None, None] * picture()
    assert not torch.equal(net.semantics(brighter)[0], net.semantics(picture())[0])
    net.encoder.gain.data *= torch.tensor([-1.0])
    assert (net(picture(), condition) - first).abs().max() > 1e-4


def test_an_encoder_is_frozen_and_stays_in_evaluation_mode(plain):
    net = pir.attach(plain.train(), TAPS, encoder=Means())
    assert net.training and not net.encoder.training
    net.eval().train()
    assert not net.encoder.training and not net.encoder.gain.requires_grad


# ---- finding taps


def test_taps_are_listed_with_channels_and_scale_in_the_order_of_the_pass(plain):
    found = pir.taps(plain)
    assert [tuple(tap) for tap in found] == [
        ("enter", 6, 1.0), ("down", 12, 2.0), ("middle.0", 12, 2.0), ("middle.1", 12, 2.0), ("middle", 12, 2.0),
        ("up", 6, 1.0), ("decoder.0", 6, 1.0), ("decoder.1", 6, 1.0), ("decoder", 6, 1.0), ("leave", 3, 1.0),
    ]  # fmt: skip
    assert str(found[1]).split() == ["down", "12", "channels", "at", "1/2"]


def test_listing_taps_leaves_no_trace():
    net = network().train()
    net.middle.eval()
    drop = nn.Sequential(net, nn.Dropout(0.5))
    modes, state = [m.training for m in drop.modules()], copy.deepcopy(drop.state_dict())
    torch.manual_seed(5)
    before = torch.get_rng_state()
    pir.taps(drop)
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in drop.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in drop.state_dict().items())
    assert hooks_of(drop) == 0


def test_buffers_that_a_network_counts_in_come_back():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(3, 3, 1)
            self.register_buffer("calls", torch.zeros(1))
            self.register_buffer("last", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = x.mean().reshape(1)
            return self.inner(x)

    net = Counting()
    pir.taps(net)
    assert not net.calls.any() and not net.last.any() and not net.last.is_inference()


def test_what_a_network_keeps_of_the_trial_can_be_learned_with():
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.grid = nn.Conv2d(3, 3, 1), None

        def forward(self, x: Tensor) -> Tensor:
            if self.grid is None:
                self.grid = torch.linspace(0, 1, 3)[:, None, None].clone()
            return self.inner(x) * self.grid

    net = pir.attach(Keeping(), {"inner": 3})
    net(picture()).sum().backward()
    assert net.backbone.network.inner.weight.grad.any()


def test_automatic_taps_are_the_latent_and_the_end_of_every_scale_above_it():
    compact = Compact(CompactConfig((4, 6, 8), (1, 1, 2), (1, 1)))
    assert {t.name: t.scale for t in choose(pir.taps(compact))} == {"encoder.2.1": 4, "decoder.1": 2, "decoder.0": 1}
    restormer = Restormer(RestormerConfig((8, 16), (1, 1), (1, 2), refinement=1))
    assert list(pir.attach(restormer).config.taps.values()) == [8, 16]
    flat = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    assert [tap.name for tap in choose(pir.taps(flat))] == ["1"]


def test_a_network_without_planes_cannot_be_tapped():
    with pytest.raises(ValueError, match="no module whose output is"):
        pir.attach(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))


# ---- mistakes


@pytest.mark.parametrize(
    ("taps", "words"),
    [
        ({"decodr": 6}, r"tap 'decodr' is not used or not there; near it: decoder"),
        ({"spare": 3}, r"tap 'spare' is not used"),
        ({"split": 6}, r"tap 'split' gives a tuple, not \(B, C, H, W\); near it:"),
        ({"pool": 12}, r"tap 'pool' gives a tensor \(1, 12, 1, 1\)"),
        ({"decoder": 12}, r"expected 6 channels for tap 'decoder', got 12"),
        ({}, r'expected taps as \{"name of a module": channels\} or "auto", got \{\}'),
        ("all", "got 'all'"),
    ],
)
def test_a_wrong_tap_is_refused_in_one_line_and_leaves_no_hook(plain, taps, words):
    with pytest.raises(ValueError, match=words) as caught:
        pir.attach(plain, taps)
    assert "\n" not in str(caught.value)
    assert hooks_of(plain) == 0


def test_what_is_no_open_network_is_refused(plain):
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module, got function"):
        pir.attach(told)
    with pytest.raises(ValueError, match="is compiled: attach the plain one"):
        pir.attach(torch.compile(plain, backend="eager"))
    with pytest.raises(ValueError, match=r"takes no picture \(1, 1, 64, 128\) \(RuntimeError: .*give another size"):
        pir.attach(plain, TAPS, channels=1)
    with pytest.raises(ValueError, match=r"takes no picture \(1, 3, 9, 18\)"):
        pir.taps(plain, size=9)
    with pytest.raises(ValueError, match="expected multiple_of as a whole number, 1 or more, got 0"):
        pir.attach(plain, TAPS, multiple_of=0)
    assert hooks_of(plain) == 0


# ---- given back, copied, compiled, distributed


def test_detaching_gives_the_same_network_back_without_a_hook(lively, plain):
    assert hooks_of(plain) == 2
    assert lively.detach() is plain
    assert hooks_of(plain) == 0
    assert torch.equal(plain(picture()), network()(picture()))
    with pytest.raises(RuntimeError, match="was detached"):
        lively(picture())


def test_a_network_can_be_attached_to_again_and_by_two_at_once(lively, plain):
    x, first = picture(), lively(picture())
    second = pir.attach(plain, {"up": 6})
    assert torch.equal(second(x), network()(x))
    assert torch.equal(lively(x), first)
    second.detach()
    assert torch.equal(lively(x), first)


def test_a_copy_is_steered_by_itself(lively, plain):
    x, steered = picture(), lively(picture())
    other = copy.deepcopy(lively)
    assert torch.equal(other(x), steered)
    for pgm in other.guidance.levels.values():
        nn.init.zeros_(pgm.leave.weight)
        nn.init.zeros_(pgm.leave.bias)
    assert torch.equal(other(x), network()(x)) and torch.equal(lively(x), steered)
    assert hooks_of(other.detach()) == 0 and hooks_of(plain) == 2


def test_the_state_survives_torchs_own_file(lively):
    file = io.BytesIO()
    torch.save(lively.state_dict(), file)
    file.seek(0)
    fresh = pir.attach(network(seed=3), TAPS)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(picture()), lively(picture()))


def test_it_moves_to_another_number_format(lively):
    out = lively.double()(picture().double())
    assert out.dtype == torch.float64
    torch.testing.assert_close(out.float(), lively.float()(picture()), rtol=0, atol=1e-5)
    assert lively.bfloat16()(picture().bfloat16()).dtype == torch.bfloat16
    assert pir.attach(network().double(), TAPS, encoder=Means())(picture().double()).dtype == torch.float64


def test_compiled_as_one_graph_it_is_steered_as_before(lively, plain):
    torch._dynamo.reset()
    x = picture()
    compiled = torch.compile(lively.train(), backend="aot_eager", fullgraph=True)
    grads = []
    for net in (lively, compiled):
        lively.zero_grad()
        out = net(x)
        out.square().mean().backward()
        grads.append([out.detach(), *(p.grad.clone() for p in lively.parameters() if p.grad is not None)])
    assert (grads[0][0] - network().train()(x)).abs().max() > 1e-3
    for eager, other in zip(*grads, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-4, atol=1e-6)
    condition = told(2, noise=0.5)
    torch.testing.assert_close(compiled(x, condition), lively(x, condition), rtol=0, atol=1e-6)
    torch.testing.assert_close(plain(x), network().train()(x))


def test_distributed_training_needs_no_search_for_unused_parameters(plain, tmp_path):
    plain.spare.requires_grad_(False)  # the network itself has a part that it does not use
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        net = enliven(pir.attach(plain.train(), TAPS))
        twin = copy.deepcopy(net)
        parallel = DistributedDataParallel(net)
        for model in (parallel, twin):
            optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
            for seed in range(3):
                optimiser.zero_grad()
                model(picture(seed=seed)).square().mean().backward()
                optimiser.step()
    finally:
        torch.distributed.destroy_process_group()
    for name, p in net.state_dict().items():
        torch.testing.assert_close(p, twin.state_dict()[name], rtol=1e-5, atol=1e-7)


# ---- every family of ours


FAMILIES = pytest.mark.parametrize("backbone", BACKBONES)


@FAMILIES
def test_a_family_is_guided_at_taps_and_every_parameter_learns(make_system, backbone):
    family, x = make_system(backbone=backbone).restorer.backbone, picture(2, 32, 48)
    expected = family(x)
    net = pir.attach(family)
    assert torch.equal(net(x), expected)
    enliven(net)(x).square().sum().backward()
    assert (net(x) - expected).abs().max() > 1e-3
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert not [name for name, p in net.named_parameters() if not p.grad.any()]


@FAMILIES
def test_an_attached_family_is_saved_and_loaded(make_system, backbone, tmp_path):
    first, other = (make_system(backbone=backbone, seed=seed).restorer.backbone for seed in (0, 1))
    net, x = enliven(pir.attach(first)), picture(1, 32, 48)
    assert not torch.equal(other(x), first(x))
    net.save(tmp_path / "a.safetensors")
    assert torch.equal(pir.attach(other, weights=tmp_path / "a.safetensors")(x), net(x))


@FAMILIES
def test_an_attached_family_restores_in_tiles(make_system, backbone):
    family = make_system(backbone=backbone).restorer.backbone
    net = enliven(pir.attach(family, reach=family.reach))
    model, image = net.as_model(device="cpu", precision="float32"), picture(1, 200, 221)[0].movedim(0, -1).numpy()
    wish = {"task": "denoise", "severity": 1.0, "value_range": (0, 1)}
    whole, tiled = (model.restore(image, tile=side, **wish) for side in (512, 32))
    assert whole.tile[0] >= 200 > max(tiled.tile)
    assert np.abs(whole.image - image).mean() > 1e-3
    assert np.abs(tiled.image - whole.image).mean() < 0.1 * np.abs(whole.image - image).mean()


# ---- weights files


def test_a_saved_network_comes_back_onto_a_fresh_one(lively, tmp_path):
    path = tmp_path / "mine.safetensors"
    digest = lively.save(path)
    other = network(seed=3)
    again = pir.attach(other, weights=path)
    assert again.config == lively.config and again.backbone.network is other
    assert torch.equal(again(picture()), lively(picture()))
    assert again.save(tmp_path / "again.safetensors") == digest


def test_options_and_the_need_of_an_encoder_are_kept(plain, tmp_path):
    path = tmp_path / "mine.safetensors"
    net = enliven(pir.attach(plain, TAPS, encoder=Means(), multiple_of=16, reach=40))
    net.save(path)
    again = pir.attach(network(3), weights=path, encoder=Means())
    assert (again.size_needs.multiple_of, again.reach) == (16, 40)
    assert torch.equal(again(picture()), net(picture()))
    other = network(3)
    with pytest.raises(ValueError, match=r"expects an encoder with vectors of \(3, 6, 9\), got none"):
        pir.attach(other, weights=path)
    with pytest.raises(ValueError, match="holds taps and options: give weights without them"):
        pir.attach(other, TAPS, weights=path)
    assert hooks_of(other) == 0


def test_a_file_that_does_not_fit_is_refused_in_one_line_and_nothing_is_changed(lively, tmp_path, tiny_weights):
    path = tmp_path / "mine.safetensors"
    lively.save(path)
    tensors, about, _ = read_signed(path, "perceive-ir-attached-1", "", "", "")
    wide = {n: t.repeat(2) if n.endswith("leave.bias") else t for n, t in tensors.items()}
    taps = dict(json.loads(about["config"]), taps={"decoder": 8, "middle": 16})
    files = {
        "no weights file": tmp_path / "nowhere.safetensors",
        "was not saved by an attached network": tiny_weights,
        "was changed after it was written": tmp_path / "tampered.safetensors",
        "lacks the tensor backbone.network.leave.bias": tmp_path / "lacking.safetensors",
        "holds the tensor extra, which this network lacks": tmp_path / "surplus.safetensors",
        "not readable safetensors|not a readable safetensors": tmp_path / "noise.safetensors",
        "describes taps that this version does not know": tmp_path / "other.safetensors",
        r"does not fit this network \(expected 6 channels for tap 'decoder', got 8\)": tmp_path / "taps.safetensors",
        r"tensor backbone.network.leave.bias has shape \(6,\), expected \(3,\)": tmp_path / "wide.safetensors",
    }
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    files["was changed after it was written"].write_bytes(data)
    files["not readable safetensors|not a readable safetensors"].write_bytes(b"noise")
    write_signed(files["lacks the tensor backbone.network.leave.bias"],
                 {n: t for n, t in tensors.items() if n != "backbone.network.leave.bias"}, about)  # fmt: skip
    write_signed(files["holds the tensor extra, which this network lacks"], {**tensors, "extra": torch.ones(1)}, about)
    write_signed(tmp_path / "taps.safetensors", tensors, {**about, "config": json.dumps(taps)})
    write_signed(tmp_path / "wide.safetensors", wide, about)
    write_signed(files["describes taps that this version does not know"], tensors, {**about, "config": '{"tips": 1}'})
    fresh = network(3)
    state = copy.deepcopy(fresh.state_dict())
    for words, file in files.items():
        with pytest.raises(WeightsError, match=words) as caught:
            pir.attach(fresh, weights=file)
        assert "\n" not in str(caught.value)
    assert hooks_of(fresh) == 0
    assert all(torch.equal(t, state[name]) for name, t in fresh.state_dict().items())


# ---- through the engine


def test_the_memory_of_our_own_networks_is_guessed_and_rather_too_high():
    for own in (Compact(), Restormer(RestormerConfig((16, 32), (1, 1), (1, 2), refinement=1))):
        guessed = pir.attach(own).bytes_per_pixel
        assert 0.9 < guessed / own.bytes_per_pixel < 6


def reaching(net: nn.Module) -> pir.Attached:
    return enliven(pir.attach(net, TAPS, reach=24))


@pytest.mark.parametrize("fields", [{"task": "denoise", "severity": 0.4}, {"handling": "region"}])
def test_through_the_engine_tiles_equal_the_whole_picture(plain, fields):
    model = reaching(plain).as_model("mine", device="cpu", precision="float32")
    image = np.random.default_rng(0).random((150, 210, 3), np.float32)
    whole = model.restore(image, tile=512, **fields).image
    tiled = model.restore(image, tile=64, overlap="exact", **fields).image
    assert np.abs(whole - image).max() > 1e-3
    assert np.abs(tiled - whole).max() < 1e-5
    assert model.card.name == "mine"


def test_in_the_engine_the_condition_steers_and_no_tile_is_looked_at(plain):
    net = reaching(plain)
    model = net.as_model(device="cpu", precision="float32")
    x = picture(1, 32, 48)
    expected = net(x, condition=told(noise=0.5))
    model.system.restorer.cfe = nn.Identity()
    image = x[0].permute(1, 2, 0).numpy()
    result = model.restore(image, task="denoise", severity=0.5, overlap="exact").image
    np.testing.assert_allclose(result, expected[0].detach().permute(1, 2, 0), atol=1e-6)


def test_the_copy_behind_the_engine_leaves_the_network_as_it_was(plain):
    net = reaching(plain.train())
    net.as_model(device="cpu")
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_told_nothing_the_engine_changes_nothing(lively):
    x = picture()
    assert torch.equal(lively(x, Signals(told(2))), x)
    assert not torch.equal(lively(x, condition=told(2)), x)


def test_a_perceiver_as_encoder_guides_the_tiles_and_perceives(plain):
    torch.manual_seed(0)
    perceiver = Perceiver(TowerConfig(widths=(4, 4, 8, 8)))
    net = enliven(pir.attach(plain, TAPS, encoder=perceiver, reach=24))
    model = net.as_model(device="cpu", precision="float32")
    image = picture(1, 64, 64)[0].permute(1, 2, 0).numpy()
    seen = model.perceive(image, value_range=(0, 1))
    assert [len(f) for f in seen.semantics] == [8, 8, 16, 16]
    result = model.restore(image, task="denoise", severity=0.5, value_range=(0, 1)).image
    known = tuple(torch.from_numpy(f)[None] for f in seen.semantics)
    expected = net(picture(1, 64, 64), Signals(told(noise=0.5), known))
    np.testing.assert_allclose(result, expected[0].detach().permute(1, 2, 0), atol=1e-6)


def test_what_the_engine_cannot_run_is_refused(plain):
    with pytest.raises(ValueError, match="the engine finds semantic vectors with a Perceiver, not with a Means"):
        pir.attach(plain, TAPS, encoder=Means()).as_model()
    larger = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    with pytest.raises(ValueError, match=r"needs a network that gives back pictures \(B, 3, H, W\)"):
        pir.attach(larger, {"0": 12}).as_model()
    model = pir.attach(plain, TAPS).as_model("mine", device="cpu")
    with pytest.raises(ValueError, match="overlap 'exact' does not exist for mine"):
        model.restore(np.zeros((32, 32, 3), np.float32), task="denoise", overlap="exact")


def test_a_network_of_one_channel_is_attached_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    x = picture(channels=1)
    expected = net(x)
    assert torch.equal(pir.attach(net, channels=1)(x), expected)


def test_a_tap_says_where_it_is():
    assert str(Tap("a", 8, 4.0)).endswith("8 channels at 1/4")

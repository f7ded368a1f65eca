"""The terms of the restorer's loss give what is computed by hand, and their gradient goes where it should."""

import math
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from perceive_ir import WeightsError
from perceive_ir.networks import Perceiver, TowerConfig
from perceive_ir_training.losses import clip_aware
from perceive_ir_training.perceptual import (
    Features,
    PerceptualLoss,
    Probe,
    ProbeBatch,
    Rival,
    TowerFeatures,
    VggFeatures,
    betas,
    distance,
    psnr,
    rivals_of,
)

VGG_SIZES = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
"""Channels out and in of the convolutions up to conv3_3, by their place."""


def raw(pictures: Tensor) -> tuple[Tensor, ...]:
    """The picture as its only map."""
    return (pictures,)


def flat(*values: float) -> Tensor:
    """Pictures (B, 3, 4, 4) of one value each."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 4, 4).clone()


def value(loss: Tensor, **tolerance: float):
    assert loss.ndim == 0
    return pytest.approx(loss.item(), **{"rel": 1e-5, "abs": 0, **tolerance})


@pytest.fixture(scope="module")
def perceiver() -> Perceiver:
    torch.manual_seed(0)
    return Perceiver(TowerConfig(widths=(4, 4, 8, 8)))


@pytest.fixture(scope="module")
def vgg_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    made = {}
    for place, (out, into) in VGG_SIZES.items():
        made[f"features.{place}.weight"] = torch.randn(out, into, 3, 3) / (into * 4.5) ** 0.5
        made[f"features.{place}.bias"] = torch.randn(out) * 0.1
    return made


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory, vgg_tensors) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    save_file({**vgg_tensors, "classifier.6.bias": torch.zeros(1000)}, path)
    return path


@pytest.fixture(params=["tower", "vgg"])
def features(request, perceiver) -> Features:
    return TowerFeatures(perceiver) if request.param == "tower" else VggFeatures(request.getfixturevalue("vgg_file"))


# ---- what the tiers say


def test_clip_aware_is_the_probability_that_quality_is_not_high():
    # exp(2·0.5 - 2·0.5), exp(2·0 - 2·0.5), exp(2·0.5 - 2·0.5) = 1, 1/e, 1: p_high = 1 / (2 + 1/e)
    # and all alike: p_high = 1/3.
    loss, tiers = clip_aware(torch.tensor([[0.5, 0.0, 0.5], [0.2, 0.2, 0.2]]), temperature=2.0)
    high = 1 / (2 + 1 / math.e)
    assert value(loss) == ((1 - high) + 2 / 3) / 2
    assert tiers.tolist() == pytest.approx([(high + 1 / 3) / 2, (high / math.e + 1 / 3) / 2, (high + 1 / 3) / 2])


def test_the_default_temperature_is_that_of_clip():
    cosines = torch.tensor([[0.30, 0.28, 0.29]])
    # exp(1), exp(-1), exp(0) relative to the high tier
    others = math.e + 1 / math.e
    assert value(clip_aware(cosines)[0], rel=1e-4) == others / (others + 1)


def test_a_good_picture_still_costs_what_little_it_does():
    # p_low + p_medium = 2·exp(-25) = 2.8e-11, which 1 - p_high rounds to zero.
    loss, _ = clip_aware(torch.tensor([[0.0, 0.0, 0.25]]))
    assert value(loss, rel=1e-3) == 2 * math.exp(-25)


def test_cosines_of_half_precision_are_scaled_in_full_precision():
    cosines = torch.tensor([[0.2812, 0.2793, 0.2832]], dtype=torch.bfloat16)
    assert torch.equal(clip_aware(cosines)[0], clip_aware(cosines.float())[0])


@pytest.mark.parametrize("temperature", [1.0, 100.0, 1000.0])
@pytest.mark.parametrize("high", [-1.0, 0.0, 1.0])
def test_clip_aware_stays_finite_at_every_temperature(temperature, high):
    cosines = torch.tensor([[-1.0, 1.0, high], [1.0, 1.0, high]], requires_grad=True)
    loss, tiers = clip_aware(cosines, temperature)
    loss.backward()
    assert torch.isfinite(torch.cat([loss[None], tiers, cosines.grad.flatten()])).all()
    assert tiers.sum().item() == pytest.approx(1)


def test_clip_aware_pulls_at_the_picture_and_not_at_prompts_or_tower(perceiver):
    perceiver = perceiver.eval().requires_grad_(False)
    restored = torch.rand(2, 3, 32, 32, requires_grad=True)
    embedding = perceiver.encode_image(restored, normalize=True)
    loss, tiers = clip_aware(embedding @ F.normalize(perceiver.tiers, dim=-1).T, temperature=10.0)
    loss.backward()
    assert restored.grad.flatten(1).any(dim=1).all()
    assert not tiers.requires_grad
    assert all(p.grad is None for p in perceiver.parameters())


# ---- the ratio


def test_without_rivals_the_loss_is_the_distance_to_the_target_over_twice_that_to_the_damage():
    # |0.4 - 0.5| / (2·|0.4 - 0.1|) = 0.1 / 0.6
    loss = PerceptualLoss(raw, weights=(1.0,))(flat(0.4), flat(0.5), flat(0.1))
    assert value(loss) == 0.1 / 0.6


def test_rivals_enlarge_the_denominator_by_their_betas():
    # 0.1 / (2·0.3 + 1.25·|0.4 - 0.2| + 0.75·|0.4 - 0.8|) = 0.1 / (0.6 + 0.25 + 0.3)
    rivals = [Rival(flat(0.2), torch.tensor([1.25])), Rival(flat(0.8), torch.tensor([0.75]))]
    loss = PerceptualLoss(raw, weights=(1.0,))(flat(0.4), flat(0.5), flat(0.1), rivals)
    assert value(loss) == 0.1 / 1.15


def test_every_map_has_its_own_ratio_and_weight():
    # The maps p, p², p³, p⁴ of R = 1/2, G = 1, D = 0:
    # 1/12·(1/2)/(2·1/2) + 1/6·(3/4)/(2·1/4) + 1/3·(7/8)/(2·1/8) + 1·(15/16)/(2·1/16)
    # = 1/24 + 1/4 + 7/6 + 15/2
    powers = lambda p: (p, p**2, p**3, p**4)  # noqa: E731
    loss = PerceptualLoss(powers)(flat(0.5), flat(1.0), flat(0.0))
    assert value(loss) == 1 / 24 + 1 / 4 + 7 / 6 + 15 / 2


def test_every_sample_has_its_own_ratio():
    # (0.1/0.6 + 0.4/0.4 + 0.1/(0.4 + 1.25·0.1))/3; a ratio of means would be another number
    rivals = [Rival(flat(0.4, 0.3, 0.4), torch.tensor([1.25, 0.75, 1.25]))]
    loss = PerceptualLoss(raw, weights=(1.0,))(flat(0.4, 0.3, 0.5), flat(0.5, 0.7, 0.6), flat(0.1, 0.1, 0.3), rivals)
    assert value(loss) == (0.1 / 0.6 + 0.4 / 0.4 + 0.1 / 0.525) / 3


def test_the_gradient_through_the_restored_picture_counts_in_numerator_and_denominator():
    # L = (0.5 - r) / (2·(r - 0.1)) at r = 0.3: dL/dr = -(0.5 - 0.1) / (2·0.2²) = -5
    # With a rival at 0.2, β = 1.25: L = (0.5 - r) / s, s = 2·(r - 0.1) + 1.25·(r - 0.2) = 0.525, ds/dr = 3.25:
    # dL/dr = -1/0.525 - 0.2·3.25/0.525²
    loss = PerceptualLoss(raw, weights=(1.0,))
    for rivals, slope in (([], -5), ([Rival(flat(0.2), torch.tensor([1.25]))], -1 / 0.525 - 0.65 / 0.525**2)):
        restored = flat(0.3).requires_grad_()
        loss(restored, flat(0.5), flat(0.1), rivals).backward()
        assert restored.grad.sum().item() == pytest.approx(slope, rel=1e-5)


def test_the_gradient_goes_through_the_restored_picture_only(features):
    torch.manual_seed(0)
    restored, target, damaged, rival = (torch.rand(2, 3, 16, 16, requires_grad=True) for _ in range(4))
    PerceptualLoss(features)(restored, target, damaged, [Rival(rival, torch.ones(2))]).backward()
    assert restored.grad.flatten(1).any(dim=1).all()
    assert target.grad is damaged.grad is rival.grad is None
    assert all(p.grad is None for p in features.parameters())


def test_all_features_enter_the_loss(features):
    torch.manual_seed(0)
    restored, target, damaged = torch.rand(3, 2, 3, 16, 16).unbind()
    r, g, d = (features(p) for p in (restored, target, damaged))
    ratios = [distance(r[i], g[i]) / (2 * distance(r[i], d[i])) for i in range(4)]
    expected = ratios[0] / 12 + ratios[1] / 6 + ratios[2] / 3 + ratios[3]
    assert value(PerceptualLoss(features)(restored, target, damaged)) == expected.mean().item()


def test_a_perfect_picture_costs_nothing():
    loss = PerceptualLoss(raw, weights=(1.0,))(flat(0.5), flat(0.5), flat(0.1), [Rival(flat(0.5), torch.ones(1))])
    assert loss == 0


def test_distances_are_computed_in_full_precision():
    # 256 - (-1) = 257, which bfloat16 rounds to 256.
    a, b = (torch.full((1, 2), v, dtype=torch.bfloat16) for v in (256.0, -1.0))
    assert distance(a, b).tolist() == [257.0]


def test_the_loss_is_finite_under_bfloat16(features):
    torch.manual_seed(0)
    restored = torch.rand(2, 3, 16, 16, requires_grad=True)
    target, damaged = torch.rand(2, 2, 3, 16, 16).unbind()
    full = PerceptualLoss(features)(restored, target, damaged)
    with torch.autocast("cpu", torch.bfloat16):
        loss = PerceptualLoss(features)(restored, target, damaged)
    loss.backward()
    assert loss.dtype == torch.float32
    assert value(loss, rel=0.05) == full.item()
    assert torch.isfinite(restored.grad).all()


# ---- where the denominator would vanish


def test_samples_that_have_nothing_to_be_restored_count_as_zero():
    # Rows: R = D = G; D = G but R is not; 0.1 / (2·0.3 + 1.25·0.1). Kept, the second would be about 1/2.
    restored = flat(0.5, 0.6, 0.4).requires_grad_()
    target, damaged = flat(0.5, 0.5, 0.5), flat(0.5, 0.5, 0.1)
    rivals = [Rival(flat(0.5, 0.5, 0.3), torch.tensor([0.75, 0.75, 1.25]))]
    loss = PerceptualLoss(raw, weights=(1.0,))(restored, target, damaged, rivals)
    loss.backward()
    assert value(loss) == 0.1 / 0.725 / 3
    assert restored.grad.flatten(1).any(dim=1).tolist() == [False, False, True]


def never(pictures: Tensor) -> tuple[Tensor, ...]:
    raise AssertionError(f"asked for features of {len(pictures)} pictures")


def test_a_batch_of_clean_pictures_costs_nothing_needs_no_features_and_can_be_learned_from():
    clean = torch.rand(2, 3, 4, 4)
    restored = (clean + 0.1).requires_grad_()
    loss = PerceptualLoss(never)(restored, clean, clean)
    loss.backward()
    assert loss == 0
    assert not restored.grad.any()


@pytest.mark.parametrize(("share", "counts"), [(0.9, False), (1.1, True)])
def test_damage_below_half_a_step_of_8_bits_is_none(share, counts):
    # One pixel differs; the restored picture is the damaged one with another pixel changed.
    target = flat(0.5)
    damaged, restored = target.clone(), target.clone()
    damaged[0, 0, 0, 0] += share * 0.5 / 255
    restored[0, 0, 1, 1] = 0.6
    assert bool(PerceptualLoss(raw, weights=(1.0,))(restored, target, damaged) > 0) is counts


def test_the_denominator_is_at_least_a_millionth():
    # R = D = 0.1, G = 0.5: 0.4 / 1e-6
    restored = flat(0.1).requires_grad_()
    loss = PerceptualLoss(raw, weights=(1.0,))(restored, flat(0.5), flat(0.1))
    loss.backward()
    assert value(loss) == 0.4e6
    assert torch.isfinite(restored.grad).all()


def test_a_relative_floor_leads_a_restorer_that_returns_its_input_to_the_target():
    # R = D: |0.1 - 0.5| / (0.1·|0.1 - 0.5|) = 10, slope -1 / (0.1·0.4) = -25.
    # R near D, 2·0.005 < 0.1·0.4: 0.395 / 0.04, slope still -25; far from D the floor does nothing: 0.1 / 0.6.
    floored = PerceptualLoss(raw, weights=(1.0,), least=0.1)
    for start, expected in ((0.1, 10.0), (0.105, 0.395 / 0.04)):
        restored = flat(start).requires_grad_()
        loss = floored(restored, flat(0.5), flat(0.1))
        loss.backward()
        assert value(loss) == expected
        assert restored.grad.sum().item() == pytest.approx(-25, rel=1e-4)
    assert value(floored(flat(0.4), flat(0.5), flat(0.1))) == 0.1 / 0.6


def test_values_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match=r"least in 0\.\.1, got -0\.1"):
        PerceptualLoss(raw, least=-0.1)
    with pytest.raises(ValueError, match="got 4 for 1 maps"):
        PerceptualLoss(raw)(flat(0.4), flat(0.5), flat(0.1))


# ---- feature maps


def test_the_tower_gives_the_maps_of_all_its_stages(perceiver):
    pictures = torch.rand(2, 3, 32, 32)
    maps = TowerFeatures(perceiver)(pictures)
    assert [tuple(m.shape) for m in maps] == [(2, 4, 16, 16), (2, 4, 8, 8), (2, 8, 4, 4), (2, 8, 2, 2)]
    for found, expected in zip(maps, perceiver.eval().tower(pictures), strict=True):
        assert torch.equal(found, expected)


def test_the_tower_stays_as_it_was_while_the_perceiver_goes_on_learning():
    perceiver = Perceiver(TowerConfig(widths=(4, 4, 8, 8))).train().requires_grad_(True)
    features = TowerFeatures(perceiver)
    pictures = torch.rand(2, 3, 32, 32)
    before = features(pictures)[-1]
    assert perceiver.training
    assert all(p.requires_grad for p in perceiver.parameters())
    with torch.no_grad():
        perceiver.tower.stages[0][1].weight.add_(1)
    assert torch.equal(features(pictures)[-1], before)


def test_feature_networks_stay_in_evaluation_mode(features):
    assert not any(module.training for module in features.train().modules())
    assert not any(p.requires_grad for p in features.parameters())


def test_vgg_gives_its_four_maps_of_normalised_pictures(vgg_file, vgg_tensors):
    pictures = torch.rand(1, 3, 16, 16)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    def convolve(x: Tensor, place: int) -> Tensor:
        weight, bias = (vgg_tensors[f"features.{place}.{kind}"] for kind in ("weight", "bias"))
        return F.conv2d(x, weight, bias, padding=1).relu()

    x = (pictures - mean[:, None, None]) / std[:, None, None]
    relu1_2 = convolve(convolve(x, 0), 2)
    relu2_2 = convolve(convolve(F.max_pool2d(relu1_2, 2), 5), 7)
    relu3_1 = convolve(F.max_pool2d(relu2_2, 2), 10)
    relu3_3 = convolve(convolve(relu3_1, 12), 14)
    for found, expected in zip(VggFeatures(vgg_file)(pictures), (relu1_2, relu2_2, relu3_1, relu3_3), strict=True):
        torch.testing.assert_close(found, expected)


def test_building_vgg_draws_no_random_numbers(vgg_file):
    state = torch.get_rng_state()
    VggFeatures(vgg_file)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_of_half_precision_are_used_in_full(vgg_tensors, tmp_path):
    save_file({name: tensor.half() for name, tensor in vgg_tensors.items()}, tmp_path / "half.safetensors")
    assert VggFeatures(tmp_path / "half.safetensors")(torch.rand(1, 3, 16, 16))[-1].dtype == torch.float32


def test_vgg_weights_that_cannot_be_used_are_refused_in_one_line_with_a_remedy(vgg_tensors, tmp_path):
    cases = {
        "none": "no weights of VGG-16 at",
        "lacks": "lacks the tensor features.12.bias",
        "shape": r"features.0.bias has shape \(3,\), expected \(64,\)",
        "pickle": "not a readable safetensors file",
    }
    save_file({k: v for k, v in vgg_tensors.items() if k != "features.12.bias"}, tmp_path / "lacks")
    save_file({**vgg_tensors, "features.0.bias": torch.zeros(3)}, tmp_path / "shape")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"features.0.bias": [0.0]}))
    for name, words in cases.items():
        with pytest.raises(WeightsError, match=words) as caught:
            VggFeatures(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert "vgg16(weights=" in str(caught.value)


def test_the_file_may_change_after_it_was_read(vgg_tensors, tmp_path):
    path = tmp_path / "vgg16.safetensors"
    save_file(vgg_tensors, path)
    features = VggFeatures(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))
    assert features.layers[14].weight.any()


# ---- how hard a rival is


def test_psnr_of_every_sample():
    # errors 0.1, 0.01, 0: 20 dB, 40 dB, equal
    found = psnr(flat(0.4, 0.49, 0.5), flat(0.5, 0.5, 0.5))
    assert found.tolist() == pytest.approx([20, 40, 100], abs=1e-3)


def test_psnr_judges_what_is_shown_in_full_precision():
    # -0.3 is shown as 0, 1.2 as 1: errors 0.1 and 0.1
    assert psnr(flat(-0.3, 1.2), flat(0.1, 0.9)).tolist() == pytest.approx([20, 20], abs=1e-3)
    assert psnr(flat(0.4), flat(1.1)).tolist() == pytest.approx([20 * math.log10(1 / 0.6)], abs=1e-3)
    coarse, target = torch.rand(2, 3, 8, 8).bfloat16(), torch.rand(2, 3, 8, 8).bfloat16()
    assert torch.equal(psnr(coarse, target), psnr(coarse.float(), target.float()))


def test_a_proxy_that_is_no_better_than_the_model_is_hard_and_a_better_one_very_hard():
    # The proxy has 20 dB everywhere; the model 19.9, 20.1 and 20.1 dB in the tasks 0, 1, 2; equal is hard.
    proxy, target = flat(0.4, 0.4, 0.4), flat(0.5, 0.5, 0.5)
    own = torch.tensor([19.9, 20.1, 30.0])
    assert betas(proxy, target, torch.tensor([0, 1, 2]), own).tolist() == [0.75, 1.25, 1.25]
    assert betas(proxy, target, torch.tensor([2, 0, 0]), own).tolist() == [1.25, 0.75, 0.75]
    assert betas(proxy, target, torch.tensor([0, 0, 0]), psnr(proxy, target)).tolist() == [1.25] * 3


@pytest.mark.parametrize("task", [-1, 2])
def test_a_task_without_a_probe_is_refused(task):
    with pytest.raises(ValueError, match=rf"0\.\.1, got \[0, {task}\]"):
        betas(flat(0.4, 0.4), flat(0.5, 0.5), torch.tensor([0, task]), torch.tensor([20.0, 20.0]))


def test_rivals_are_what_the_proxies_make_without_gradient():
    brighter = nn.Conv2d(3, 3, 1)
    damaged, target, tasks = flat(0.4, 0.4), flat(0.5, 0.5), torch.tensor([0, 1])
    rivals = rivals_of([lambda p: p, brighter], damaged, target, tasks, torch.tensor([25.0, 15.0]))
    assert torch.equal(rivals[0].pictures, damaged)
    assert rivals[0].beta.tolist() == [1.25, 0.75]
    assert torch.equal(rivals[1].pictures, brighter(damaged))
    assert not rivals[1].pictures.requires_grad
    assert rivals_of([], damaged, target, tasks, torch.tensor([25.0, 15.0])) == ()


def probe() -> Probe:
    """Task 0 shows errors of 0.1 and 0.01 (20 and 40 dB), task 1 one of 0.1."""
    first = ProbeBatch(flat(0.4, 0.49), flat(0.5, 0.5), told=torch.zeros(2, 2))
    return Probe((first, ProbeBatch(flat(0.4), flat(0.5), told=torch.ones(1, 2))))


def test_the_probe_measures_the_mean_psnr_of_each_task():
    measured = probe()
    assert measured.refresh(lambda damaged, told: damaged).tolist() == pytest.approx([30, 20], abs=1e-3)
    # Told 1, a tenth is added: task 1 becomes right.
    restore = lambda damaged, told: damaged + 0.1 * told[:, :1, None, None]  # noqa: E731
    assert measured.refresh(restore).tolist() == pytest.approx([30, 100], abs=1e-3)
    assert torch.equal(measured.psnr, measured.refresh(restore))


def test_measuring_leaves_no_gradient():
    network = nn.Conv2d(3, 3, 1)
    assert not probe().refresh(lambda damaged, told: network(damaged)).requires_grad


def test_before_the_first_measurement_every_rival_is_better():
    own = probe().psnr
    assert betas(flat(0.0), flat(1.0), torch.tensor([1]), own).tolist() == [0.75]


def test_a_probe_goes_on_where_it_stopped():
    stopped, resumed = probe(), probe()
    stopped.refresh(lambda damaged, told: damaged)
    state = stopped.state_dict()
    resumed.load_state_dict(state)
    assert torch.equal(resumed.psnr, stopped.psnr)
    state.zero_()
    assert stopped.psnr.all()
    assert resumed.psnr.all()


def test_a_probe_refuses_what_is_not_its_own():
    with pytest.raises(ValueError, match="a batch for each task"):
        Probe(())
    with pytest.raises(ValueError, match=r"2 tasks, got shape \(3,\)"):
        probe().load_state_dict(torch.zeros(3))

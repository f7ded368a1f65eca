"""Presence and severity are put right by measurement, and parts trained apart are put together."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perceive_ir import TYPES, Restorer
from perceive_ir._engine import look_at
from perceive_ir._perception import combine, look_closely, thumbnail
from perceive_ir._weights import Card, load_system, save_system
from perceive_ir.networks import LIGHT, Overall, System, SystemConfig, light_of
from perceive_ir_training.calibration import (
    Calibration,
    calibrate,
    damaged,
    fit,
    fit_amounts,
    fit_overall,
    fold,
    logit,
    with_overall,
)
from perceive_ir_training.commands import join
from perceive_ir_training.data import Picture, Pictures

CPU = torch.device("cpu")
GROUPS = ("noise+jpeg", "blur+lowres+rain+snow", "haze+lowlight")
TINY = SystemConfig(
    groups=GROUPS,
    semantics=False,
    sizes={"widths": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1)},
    tower={"widths": (4, 4, 8, 8)},
)


def pictures(grey: bool = False) -> Pictures:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 1 if grey else 3), np.uint8)
    large = pixels.repeat(8, 0).repeat(8, 1)
    return Pictures((Picture("one", np.broadcast_to(large, (480, 560, 3)).copy(), grey),))


def squash(logits):
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize(("type", "share"), [("haze", 0.02), ("noise", 0.1)])
def test_presence_is_shifted_until_few_pictures_without_the_type_have_it(type, share):
    random = np.random.default_rng(0)
    true = (random.random(2000) < 0.3) * random.uniform(0.1, 1, 2000)
    read = squash(np.where(true > 0, 2.0, 0.0) + random.normal(0, 0.8, 2000))
    found = fit(type, true, read, np.full(2000, 0.5))
    assert (read[true == 0] >= 0.5).mean() > 0.4
    assert (logit(read[true == 0]) + found.shift >= 0).mean() == pytest.approx(share, abs=0.005)
    assert found.found == pytest.approx((logit(read[true > 0]) + found.shift >= 0).mean())


def test_a_shift_stays_within_its_limits():
    true = np.zeros(100)
    assert fit("haze", true, np.full(100, 0.999), np.full(100, 0.5)).shift == -2.5
    assert fit("rain", true, np.full(100, 0.001), np.full(100, 0.5)).shift == 3.5
    for kind in ("haze", "snow"):
        assert fit(kind, true, np.full(100, 0.001), np.full(100, 0.5)).shift == 0


def test_the_line_of_a_severity_is_found():
    true = np.random.default_rng(0).uniform(0.05, 0.95, 500)
    found = fit("rain", true, np.full(500, 0.9), squash((logit(true) - 0.5) / 1.7))
    assert (found.slope, found.offset) == pytest.approx((1.7, 0.5))
    assert found.error[1] < 0.01 < found.error[0]


def test_a_severity_that_would_gain_little_is_left():
    true = np.random.default_rng(0).uniform(0.05, 0.95, 500)
    blurred = squash(logit(true) + np.random.default_rng(1).normal(0.1, 1, 500))
    found = fit("rain", true, np.full(500, 0.9), blurred)
    assert (found.slope, found.offset) == (1, 0)
    assert found.error[0] == found.error[1] > 0.1


def test_what_was_found_is_folded_into_the_last_layers():
    torch.manual_seed(0)
    perceiver = System(TINY).perceiver.eval()
    image = torch.rand(2, 3, 32, 32)
    before = perceiver(image)
    fold(perceiver, (Calibration("rain", -0.7, 1.5, 0.2, (0, 0), 1.0),))
    after, rain = perceiver(image), TYPES.index("rain")
    assert torch.allclose(after.type_logits[:, rain], before.type_logits[:, rain] - 0.7, atol=1e-5)
    wanted = (1.5 * before.severities[:, rain].logit() + 0.2).sigmoid()
    assert torch.allclose(after.severities[:, rain], wanted, atol=1e-5)
    others = [k for k in range(len(TYPES)) if k != rain]
    assert torch.equal(after.type_logits[:, others], before.type_logits[:, others])
    assert torch.equal(after.severities[:, others], before.severities[:, others])


def test_pictures_to_measure_on_show_what_they_are_said_to_show():
    drawn, again = (list(damaged(pictures(grey=True), 30, np.random.default_rng(1))) for _ in range(2))
    assert all((a == b).all() for (_, a), (_, b) in zip(drawn, again, strict=True))
    assert {image.shape[0] for _, image in drawn} <= {112, 160, 224, 320, 448}
    assert all((image[..., 0] == image[..., 2]).all() for _, image in drawn)
    assert 1 <= sum(not true.any() for true, _ in drawn) <= 15


def test_a_perceiver_is_put_right_by_measurement():
    torch.manual_seed(0)
    system = System(TINY)
    with torch.no_grad():
        system.perceiver.cfe.type_head.bias[TYPES.index("haze")] = 1.5  # sees haze everywhere
    restorer = Restorer(with_overall(system), Card("tiny", "0"), device="cpu", precision="float32")
    found = {c.type: c for c in calibrate(restorer, pictures(), 40)}
    assert found["haze"].shift < -1
    seen = [restorer.perceive(image).types["haze"] for true, image in damaged(pictures(), 10, np.random.default_rng(3))]
    assert np.mean(seen) < 0.5


def test_a_readout_of_whole_pictures_begins_as_the_mean_over_their_parts():
    torch.manual_seed(0)
    plain = System(TINY)
    wide = with_overall(plain)
    assert wide.perceiver.overall is not None
    image = pictures().photos[0].pixels
    seen, again = (
        Restorer(s, Card("tiny", "0"), device="cpu", precision="float32").perceive(image) for s in (plain, wide)
    )
    assert list(again.types.values()) == pytest.approx(list(seen.types.values()), rel=1e-5)
    assert list(again.severities.values()) == pytest.approx(list(seen.severities.values()), rel=1e-5)


def test_what_the_readout_of_whole_pictures_says_is_what_is_perceived():
    torch.manual_seed(0)
    restorer = Restorer(with_overall(System(TINY)), Card("tiny", "0"), device="cpu", precision="float32")
    perceiver, image = restorer.system.perceiver, pictures().photos[0].pixels
    torch.nn.init.normal_(perceiver.overall.weight, std=0.1)
    torch.nn.init.normal_(perceiver.overall.by_light.weight, std=0.1)
    torch.nn.init.constant_(perceiver.overall.slopes, 0.5)
    (look,) = look_closely(perceiver, [look_at(image)], CPU)
    near, far = perceiver.read(look.near), perceiver.read(look.far)
    said = [torch.cat([r.type_logits, r.severities.logit(), r.tier_logits], dim=1) for r in (near, far)]
    crops = said[0].mean(dim=0)
    spread, light = (said[0] - crops).square().mean(dim=0).sqrt(), light_of(thumbnail(look_at(image), 0, CPU))
    gathered = torch.cat([crops, spread, said[1].mean(dim=0), light])
    wanted = (perceiver.overall.weight @ gathered + perceiver.overall.bias).sigmoid()
    seen = restorer.perceive(image)
    assert [seen.types[t] for t in TYPES] == pytest.approx(wanted.tolist(), abs=1e-5)
    parts = combine(near.severities, far.severities)
    amounts = (0.5 * parts.logit() + perceiver.overall.by_light.weight @ light).sigmoid()
    assert [seen.severities[t] for t in TYPES] == pytest.approx(amounts.tolist(), abs=1e-5)
    assert (amounts - parts).abs().min() > 1e-3
    assert len(near.type_logits) > 1
    assert len(set(wanted.tolist())) > 1


def test_whatever_tells_a_type_in_whole_pictures_is_used_for_it():
    """Blur shows by how the crops differ in what they say of haze, noise as it says itself, and rain not at all."""
    random, (noise, rain, blur) = np.random.default_rng(0), (TYPES.index(t) for t in ("noise", "rain", "blur"))
    overall, true = Overall(len(TYPES), 3), np.zeros((3000, len(TYPES)))
    true[:, [noise, rain, blur]] = (random.random((3000, 3)) < 0.3) * 0.5
    gathered = random.normal(0, 1, (3000, overall.in_features))
    gathered[:, noise] += 4 * (true[:, noise] > 0)
    gathered[:, overall.said + TYPES.index("haze")] += 4 * (true[:, blur] > 0)
    fit_overall(overall, torch.from_numpy(gathered[:2000]).float(), true[:2000])
    with torch.no_grad():
        present = overall(torch.from_numpy(gathered[2000:]).float()).numpy() > 0
    there = true[2000:] > 0
    assert present[:, blur][there[:, blur]].mean() > 0.9
    assert present[:, noise][there[:, noise]].mean() > 0.95
    shares = [present[~there[:, k], k].mean() for k in (noise, rain, blur)]
    assert shares == pytest.approx([0.1, 0.05, 0.05], abs=0.03)


def test_how_dark_a_picture_is_is_read_off_its_light_too():
    random, overall, row = np.random.default_rng(0), Overall(len(TYPES), 3), TYPES.index("lowlight")
    true, lights = np.zeros((300, len(TYPES))), torch.from_numpy(random.normal(0, 1, (300, LIGHT)))
    true[:200, row] = random.uniform(0.1, 0.9, 200)
    wanted = torch.from_numpy(true)[:, row]
    lights[:, 6] = wanted.logit(eps=1e-3) + 3
    severities = torch.from_numpy(random.uniform(0.4, 0.6, true.shape))
    fit_amounts(overall, severities, lights, true)
    with torch.no_grad():
        read = overall.amounts(severities, lights.float())
    assert (read[:200, row] - wanted[:200]).abs().mean() < 0.02
    others = [k for k in range(len(TYPES)) if k != row]
    torch.testing.assert_close(read[:, others], severities[:, others].float())
    fit_amounts(overall, severities[194:], lights[194:], true[194:])  # too few to say anything
    assert not overall.by_light.weight.any()
    assert (overall.slopes == 1).all()


def test_low_light_and_snow_are_left_to_the_rule_and_haze_to_it_and_the_light():
    random, overall, haze = np.random.default_rng(0), Overall(len(TYPES), 3), TYPES.index("haze")
    true = (random.random((500, len(TYPES))) < 0.3) * 0.5
    gathered = random.normal(0, 1, (500, overall.in_features))
    gathered[:, overall.said : overall.said + len(TYPES)] += 4 * (true > 0)
    gathered[:, -LIGHT:] += 2 * (true[:, [haze]] > 0)
    fit_overall(overall, torch.from_numpy(gathered).float(), true)
    rule, weight = overall.rule(), overall.weight.detach()
    ruled = {t for t, one, own in zip(TYPES, rule, weight, strict=True) if torch.equal(one, own)}
    assert ruled == {t for t, bias in zip(TYPES, overall.bias.tolist(), strict=True) if not bias}
    assert ruled == {"lowlight", "snow"}
    assert (weight[haze, -LIGHT:] > 0.1).all()
    torch.testing.assert_close(weight[haze, :-LIGHT] / weight[haze, haze], rule[haze, :-LIGHT] / rule[haze, haze])
    assert not weight[[k for k in range(len(TYPES)) if k != haze], -LIGHT:].any()


def test_where_only_the_parts_own_logits_tell_nothing_else_is_listened_to():
    random, overall = np.random.default_rng(1), Overall(len(TYPES), 3)
    true = (random.random((200, len(TYPES))) < 0.3) * 0.5
    gathered = random.normal(0, 1, (200, overall.in_features))
    gathered[:, : len(TYPES)] += 3 * (true > 0)
    fit_overall(overall, torch.from_numpy(gathered).float(), true)
    own = overall.rule() > 0
    weights = overall.weight.detach().abs()
    assert (weights.where(~own, 0).amax(dim=1) < 0.4 * weights.where(own, 0).amax(dim=1)).all()


def save(path: Path, seed: int, config: SystemConfig = TINY) -> Path:
    torch.manual_seed(seed)
    save_system(path, System(config), Card("tiny", str(seed)), half=False)
    return path


def test_joined_weights_hold_each_part_from_where_it_was_named(tmp_path):
    base, first, second = (save(tmp_path / f"{n}.safetensors", n) for n in range(3))
    join(base, tmp_path / "joined.safetensors", [first], [f"{GROUPS[1]}={second}"])
    parts = {name: load_system(path)[0].state_dict() for name, path in zip("abc", (base, first, second), strict=True)}
    for name, value in load_system(tmp_path / "joined.safetensors")[0].state_dict().items():
        origin = "b" if name.startswith("perceiver") else "c" if name.startswith("restorer.members.1") else "a"
        assert torch.equal(value, parts[origin][name]), name


def test_what_is_named_several_times_is_the_mean(tmp_path):
    base, first, second, third = (save(tmp_path / f"{n}.safetensors", n) for n in range(4))
    wishes = [f"{GROUPS[1]}={second}", f"{GROUPS[0]}={third}", f"{GROUPS[1]}={third}", f"{GROUPS[1]}={base}"]
    join(base, tmp_path / "joined.safetensors", [first, second], wishes)
    a, b, c, d = (load_system(path)[0].state_dict() for path in (base, first, second, third))
    for name, value in load_system(tmp_path / "joined.safetensors")[0].state_dict().items():
        if name.startswith("perceiver"):
            wanted = (b[name] + c[name]) / 2
        elif name.startswith("restorer.members.1"):
            wanted = (c[name] + d[name] + a[name]) / 3
        else:
            wanted = d[name] if name.startswith("restorer.members.0") else a[name]
        torch.testing.assert_close(value.float(), wanted.float(), msg=name)


def test_a_perceiver_may_have_other_sizes(tmp_path):
    base = save(tmp_path / "0.safetensors", 0)
    wide = save(tmp_path / "1.safetensors", 1, replace(TINY, tower={"widths": (4, 4, 8, 16), "grid": True}))
    join(base, tmp_path / "joined.safetensors", [wide])
    joined, _ = load_system(tmp_path / "joined.safetensors")
    assert joined.config.tower_config() == load_system(wide)[0].config.tower_config()
    assert torch.equal(joined.perceiver.cfe.enter.weight, load_system(wide)[0].perceiver.cfe.enter.weight)


def test_perceivers_with_and_without_a_readout_of_whole_pictures_join(tmp_path):
    base, plain = save(tmp_path / "0.safetensors", 0), save(tmp_path / "1.safetensors", 1)
    wide = save(tmp_path / "2.safetensors", 2, replace(TINY, tower={**TINY.tower, "overall": True}))
    for several, whole in (([plain, wide], False), ([wide, wide], True), ([wide], True)):
        join(base, tmp_path / "joined.safetensors", several)
        assert (load_system(tmp_path / "joined.safetensors")[0].perceiver.overall is not None) == whole


def test_a_type_that_few_pictures_have_stays_the_rule():
    random, overall, rain = np.random.default_rng(0), Overall(len(TYPES), 3), TYPES.index("rain")
    true = (random.random((60, len(TYPES))) < 0.3) * 0.5
    true[:, rain] = [0.5] * 7 + [0.0] * 53
    gathered = random.normal(0, 1, (60, overall.in_features)) + np.tile(8 * true[:, [rain]], overall.in_features)
    fit_overall(overall, torch.from_numpy(gathered).float(), true)
    assert torch.equal(overall.weight[rain], overall.rule()[rain])
    assert not overall.bias[rain]


def test_parts_that_do_not_fit_are_refused(tmp_path):
    base, out = save(tmp_path / "0.safetensors", 0), tmp_path / "joined.safetensors"
    guided = save(tmp_path / "1.safetensors", 1, replace(TINY, semantics=True))
    alone = save(tmp_path / "2.safetensors", 2, replace(TINY, groups=("+".join(TYPES),)))
    large = save(tmp_path / "3.safetensors", 3, replace(TINY, sizes={**TINY.sizes, "widths": (8, 16, 16)}))
    with pytest.raises(ValueError, match=r"train these with model\.semantics = false"):
        join(guided, out, [base])
    with pytest.raises(ValueError, match="expected GROUP=WEIGHTS with a group out of noise"):
        join(base, out, None, ["noise=x"])
    with pytest.raises(ValueError, match="name other weights"):
        join(base, out, None, [f"{GROUPS[0]}={alone}"])
    with pytest.raises(ValueError, match="restorers of other sizes"):
        join(base, out, None, [f"{GROUPS[0]}={large}"])
    assert not out.exists()


def test_weights_that_do_not_fit_each_other_are_refused_in_one_line(tmp_path):
    base, out = save(tmp_path / "0.safetensors", 0), tmp_path / "joined.safetensors"
    deep = save(tmp_path / "1.safetensors", 1, replace(TINY, tower={**TINY.tower, "blocks": (1, 1, 1, 2)}))
    wide = save(tmp_path / "2.safetensors", 2, replace(TINY, tower={"widths": (4, 8, 8, 8)}))
    lawful = save(tmp_path / "3.safetensors", 3, replace(TINY, scattering=True))
    law = f"{lawful} has a restorer of {GROUPS[2]} with scattering = True, the first weights have False"
    for perceivers, members, said in (
        ([], [f"{GROUPS[2]}={lawful}"], re.escape(law)),
        ([base, deep], [], rf"{deep} has a perceiver of other sizes than {base} \(.*"),
        ([wide], [], rf"{wide} has a perceiver that the restorers do not fit \(.*"),
        ([], [f"{GROUPS[0]}={base}", f"{GROUPS[0]}={wide}"], rf"{wide} has restorers for features of other sizes \(.*"),
    ):
        with pytest.raises(ValueError, match=f"^{said}; train with one configuration$"):
            join(base, out, perceivers, members)
    assert not out.exists()
    join(lawful, out, [base], [f"{GROUPS[0]}={base}"])
    assert load_system(out)[0].config.scattering

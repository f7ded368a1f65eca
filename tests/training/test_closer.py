"""A closer look at the detail of whole pictures is fitted, kept, and does what it may."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from perceive_ir import TYPES, Restorer
from perceive_ir._engine import look_at
from perceive_ir._errors import WeightsError
from perceive_ir._perception import look_closely
from perceive_ir._weights import Card, load_system, save_system
from perceive_ir.networks import SOFT, Closer, System, SystemConfig
from perceive_ir.networks.measures import BANDS
from perceive_ir_training import closer as fitting
from perceive_ir_training.calibration import damaged, with_overall
from perceive_ir_training.closer import Sight, fit, improvements, look_closer, with_closer
from perceive_ir_training.commands import calibrate
from perceive_ir_training.config import TrainConfig
from perceive_ir_training.data import Picture, Pictures
from perceive_ir_training.joining import take_perceiver
from perceive_ir_training.starting import load_start

BLUR, JPEG = (TYPES.index(t) for t in ("blur", "jpeg"))
TINY = SystemConfig(
    groups=("noise+jpeg", "blur+lowres+rain+snow", "haze+lowlight"),
    semantics=False,
    sizes={"widths": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1)},
    tower={"widths": (4, 4, 8, 8)},
)


def pictures() -> Pictures:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    return Pictures((Picture("one", pixels.repeat(8, 0).repeat(8, 1), False),))


def seeing() -> System:
    """A calibrated perceiver that measures bands."""
    torch.manual_seed(0)
    return with_overall(System(replace(TINY, tower={**TINY.tower, "bands": True}))).eval()


def restorer_of(system: System) -> Restorer:
    return Restorer(system, Card("tiny", "0"), device="cpu", precision="float32")


def sight(count: int = 1200) -> Sight:
    """Pictures whose first band tells blur, and its severity, by which it was not known before; the second JPEG."""
    drawn = torch.Generator().manual_seed(0)
    true = torch.rand(count, len(TYPES), generator=drawn) * (torch.rand(count, len(TYPES), generator=drawn) < 0.5)
    bands = torch.randn(count, BANDS, generator=drawn)
    bands[:, 0], bands[:, 1] = 4 * true[:, BLUR] - 1, 2 * (true[:, JPEG] > 0) - 1
    return Sight(bands, 0.3 * torch.randn(true.shape, generator=drawn), torch.full_like(true, 0.3), true)


def test_a_closer_look_changes_nothing_before_it_is_fitted():
    plain, image = seeing(), pictures().photos[0].pixels
    wide = with_closer(plain)
    assert wide.perceiver.closer is not None
    before, after = (restorer_of(system).perceive(image) for system in (plain, wide))
    assert list(after.types.values()) == pytest.approx(list(before.types.values()), rel=1e-6)
    assert list(after.severities.values()) == pytest.approx(list(before.severities.values()), rel=1e-4)


def test_what_a_closer_look_adds_is_read_off_the_mean_bands_of_the_crops():
    restorer, image = restorer_of(with_closer(seeing())), pictures().photos[0].pixels
    perceiver = restorer.system.perceiver
    (look,) = look_closely(perceiver, [look_at(image)], torch.device("cpu"))
    features = torch.cat(look.near, dim=1)
    assert len(features) > 1
    bands = torch.nn.functional.batch_norm(
        features, perceiver.normalise.running_mean, perceiver.normalise.running_var,
        perceiver.normalise.weight, perceiver.normalise.bias,
    )[:, -BANDS:].mean(dim=0)  # fmt: skip
    before = restorer.perceive(image)
    torch.nn.init.normal_(perceiver.closer.leave.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    enter, leave = perceiver.closer.enter, perceiver.closer.leave
    types, amounts = (leave.weight @ torch.nn.functional.gelu(enter.weight @ bands + enter.bias) + leave.bias).chunk(2)
    after = restorer.perceive(image)
    for k, t in enumerate(TYPES):
        added = types[k] if t in SOFT else types[k].clamp(max=0)
        wanted = (torch.tensor(before.types[t]).logit() + added).sigmoid().item()
        assert after.types[t] == pytest.approx(wanted, abs=1e-5)
        amount = (torch.tensor(before.severities[t]).logit() + amounts[k]).sigmoid().item()
        assert after.severities[t] == pytest.approx(amount, abs=1e-5)


def test_only_soft_types_are_found_where_they_were_not_seen():
    closer, zeros = Closer(4, len(TYPES)), torch.zeros(len(TYPES))
    torch.nn.init.constant_(closer.leave.bias, 3.0)
    logits, _ = closer(torch.zeros(BANDS), zeros, zeros + 0.5)
    assert {t for t, logit in zip(TYPES, logits.tolist(), strict=True) if logit > 0} == set(SOFT)
    torch.nn.init.constant_(closer.leave.bias, -3.0)
    logits, _ = closer(torch.zeros(BANDS), zeros, zeros + 0.5)
    assert (logits < -2).all()


def test_a_fitted_look_tells_what_the_bands_tell_and_nothing_else(monkeypatch):
    monkeypatch.setattr(fitting, "STEPS", 400)
    seen, closer = sight(), Closer(16, len(TYPES))
    fit(closer, seen)
    with torch.no_grad():
        logits, severities = closer(seen.bands, seen.logits, seen.severities)
    blurred, damaged_by_jpeg = seen.true[:, BLUR] > 0.2, seen.true[:, JPEG] > 0
    assert ((logits[:, BLUR] > 0) == blurred)[blurred | (seen.true[:, BLUR] == 0)].float().mean() > 0.9
    assert ((logits[:, BLUR] > 0) & (seen.true[:, BLUR] == 0)).sum() <= 0.06 * (seen.true[:, BLUR] == 0).sum()
    errors = (severities - seen.true)[blurred, BLUR].abs()
    assert errors.mean() < 0.1 < (0.3 - seen.true)[blurred, BLUR].abs().mean()
    before, after = ((said[:, JPEG] > 0)[~damaged_by_jpeg].float().mean() for said in (seen.logits, logits))
    assert after < 0.2 < before
    others = [k for k, t in enumerate(TYPES) if t not in fitting.RIGHTED]
    assert torch.equal(logits[:, others], seen.logits[:, others])
    assert torch.allclose(severities[:, others], seen.severities[:, others], atol=1e-6)
    told = {i.type: i for i in improvements(closer, seen)}
    assert set(told) == set(fitting.RIGHTED)
    shown = seen.true[:, BLUR] > 0.03
    assert told["blur"].found[1] == pytest.approx((logits[shown, BLUR] > 0).float().mean().item())
    assert told["blur"].error[1] < 0.1 < told["blur"].error[0]
    free = seen.true[:, BLUR] == 0
    assert told["blur"].mistaken[1] == pytest.approx((logits[free, BLUR] >= 0).float().mean().item())
    assert told["blur"].mistaken[1] < 0.1 < told["blur"].mistaken[0]
    said = r"blur +found 0\.\d\d -> 0\.\d\d  by mistake 0\.\d{3} -> 0\.\d{3}  severity error 0\.\d{3} -> 0\.\d{3}"
    assert re.fullmatch(said, str(told["blur"]))


def test_the_same_seed_fits_the_same_look(monkeypatch):
    monkeypatch.setattr(fitting, "STEPS", 5)
    one, two, other = (Closer(8, len(TYPES)) for _ in range(3))
    for closer, seed in ((one, 1), (two, 1), (other, 2)):
        fit(closer, sight(300), seed)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.enter.weight, other.enter.weight)


def test_pictures_are_looked_at_as_they_are_perceived():
    restorer = restorer_of(with_closer(seeing()))
    shown = list(damaged(pictures(), 6, np.random.default_rng([7, 6]), fitting.MIX))
    before = [restorer.perceive(image) for _, image in shown]
    seen = fitting.see(restorer, pictures(), 6, 7)
    assert np.allclose(seen.true, np.stack([true for true, _ in shown]))
    for row, perceived in enumerate(before):
        assert seen.logits[row].sigmoid().tolist() == pytest.approx(list(perceived.types.values()), abs=1e-4)
        assert seen.severities[row].tolist() == pytest.approx(list(perceived.severities.values()), abs=1e-4)


def test_a_look_is_judged_by_pictures_that_it_was_not_fitted_to(monkeypatch):
    parts = {}
    monkeypatch.setattr(fitting, "see", lambda *_: sight(100))
    monkeypatch.setattr(fitting, "fit", lambda _, seen, __: parts.update(fitted=seen.true))
    monkeypatch.setattr(fitting, "improvements", lambda _, seen: parts.update(judged=seen.true))
    look_closer(restorer_of(with_closer(seeing())), pictures(), 100)
    assert (len(parts["fitted"]), len(parts["judged"])) == (95, 5)
    assert torch.equal(torch.cat([parts["judged"], parts["fitted"]]), sight(100).true)


def test_fitting_leaves_the_rest_of_a_perceiver_as_it_is(monkeypatch):
    monkeypatch.setattr(fitting, "STEPS", 3)
    system = with_closer(seeing())
    before = {name: t.clone() for name, t in system.state_dict().items()}
    told = look_closer(restorer_of(system), pictures(), 40, 7)
    assert {i.type for i in told} <= set(fitting.RIGHTED)
    changed = {name for name, t in system.state_dict().items() if not torch.equal(t, before[name])}
    assert changed == {f"perceiver.closer.{n}" for n in ("enter.weight", "enter.bias", "leave.weight", "leave.bias")}
    assert not any(p.requires_grad for p in system.parameters())


def test_the_command_fits_a_closer_look_or_takes_it_away(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "data/train/photos"
    folder.mkdir(parents=True)
    for name in "abcd":
        Image.fromarray(pictures().photos[0].pixels).save(folder / f"{name}.png")
    monkeypatch.setattr(fitting, "STEPS", 3)
    monkeypatch.setattr(fitting, "LEFT_OUT", 0.5)
    plain, wide, again = (tmp_path / f"{name}.safetensors" for name in ("plain", "wide", "again"))
    save_system(plain, seeing(), Card("tiny", "0"), half=False)
    calibrate(plain, tmp_path / "data", wide, pictures=40, closer=True)
    assert "by mistake" in capsys.readouterr().out
    before, after = (load_system(path)[0] for path in (plain, wide))
    assert after.perceiver.closer.leave.weight.any()
    assert torch.equal(after.perceiver.overall.weight, before.perceiver.overall.weight)
    calibrate(wide, tmp_path / "data", again, pictures=40, closer=False)
    assert "presence" in capsys.readouterr().out
    assert load_system(again)[0].perceiver.closer is None


def test_a_new_look_forgets_the_old_one():
    old = with_closer(seeing())
    torch.nn.init.constant_(old.perceiver.closer.leave.bias, 0.5)
    assert not with_closer(old).perceiver.closer.leave.bias.any()


def test_what_is_looked_at_is_mixed_as_asked():
    both = Pictures(pictures().photos, (Picture("two", np.full((480, 560, 3), 90, np.uint8), True, microscopy=True),))
    only = [replace(fitting.MIX, microscopy=share, weights={"noise": 1000.0}, several=0.0) for share in (0.0, 1.0)]
    photos, micrographs = (list(damaged(both, 12, np.random.default_rng(0), mix)) for mix in only)
    grey = [[bool((image[..., 0] == image[..., 2]).all()) for _, image in shown] for shown in (photos, micrographs)]
    assert not any(grey[0])
    assert all(grey[1])
    assert {TYPES[k] for true, _ in photos + micrographs for k in np.flatnonzero(true)} == {"noise"}


def test_a_closer_look_needs_bands_and_a_calibrated_perceiver():
    without_bands = with_overall(System(TINY))
    for system in (without_bands, System(replace(TINY, tower={**TINY.tower, "bands": True}))):
        with pytest.raises(ValueError, match=r"needs a calibrated perceiver with tower\.bands; .* calibrate first"):
            with_closer(system)


def test_what_was_fitted_to_other_readings_is_left_out(tmp_path):
    """A new calibration, or the mean of two perceivers, says something else of a picture."""
    path, wide = tmp_path / "wide.safetensors", with_closer(seeing())
    torch.nn.init.constant_(wide.perceiver.closer.leave.bias, 0.5)
    save_system(path, wide, Card("tiny", "0"), half=False)
    assert load_system(path)[0].perceiver.closer.leave.bias.eq(0.5).all()
    assert with_overall(wide).perceiver.closer is None
    assert take_perceiver(wide, [path]).perceiver.closer.leave.bias.eq(0.5).all()
    assert take_perceiver(wide, [path, path]).perceiver.closer is None


@pytest.mark.parametrize("lacking", ["bands", "overall"])
def test_a_closer_look_without_what_it_looks_at_is_refused(lacking):
    tower = {**TINY.tower, "bands": True, "overall": True, "closer": 8}
    System(replace(TINY, tower=tower))
    with pytest.raises(ValueError, match="expected bands and overall beside closer = 8; set them, or closer = 0"):
        System(replace(TINY, tower={**tower, lacking: False}))


def test_a_training_goes_on_from_a_file_with_a_closer_look_or_without(tmp_path):
    plain, wide = tmp_path / "plain.safetensors", tmp_path / "wide.safetensors"
    with_look = with_closer(seeing())
    torch.nn.init.constant_(with_look.perceiver.closer.leave.bias, 0.5)
    for path, system in ((plain, System(TINY)), (wide, with_look)):
        save_system(path, system, Card("tiny", "0"), half=False)
    without = TrainConfig(name="tiny", model=TINY)
    asked = replace(without, model=with_look.config)
    assert load_start(wide, asked).perceiver.closer.leave.bias.eq(0.5).all()
    fresh = load_start(plain, asked).perceiver
    assert fresh.bands is not None
    assert not fresh.closer.leave.weight.any()
    less = replace(without, model=replace(TINY, tower={**TINY.tower, "bands": True, "overall": True}))
    assert load_start(wide, less).perceiver.closer is None
    other = replace(asked, model=replace(TINY, tower={**less.model.tower, "closer": 8}))
    with pytest.raises(WeightsError, match=r"closer=128.*closer=8"):
        load_start(wide, other)

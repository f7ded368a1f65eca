"""The law of scattering undoes known haze, counts only where haze is told, and leaves no seams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from perceive_ir import Restorer
from perceive_ir._vocabulary import TYPES
from perceive_ir._weights import Card
from perceive_ir.networks import BACKBONES, Signals, scattering
from perceive_ir.networks.scattering import AIRLIGHT, REACH, THINNEST, lift

CHAIN = {"groups": ("noise+jpeg", "blur+lowres+rain+snow", "haze+lowlight"), "semantics": False, "scattering": True}


def told(**severities: float) -> Tensor:
    """Return severities (1, T)."""
    return torch.tensor([[severities.get(name, 0.0) for name in TYPES]])


def scene(side: int = 96) -> Tensor:
    """Return colours of all brightnesses in blocks of 6 pixels: near every place something is dark."""
    blocks = torch.rand(1, 3, side // 6, side // 6, generator=torch.Generator().manual_seed(0))
    return blocks.square().repeat_interleave(6, 2).repeat_interleave(6, 3)


def fogged(clear: Tensor, through: Tensor | float) -> Tensor:
    return clear * through + AIRLIGHT * (1 - through)


@pytest.mark.parametrize("through", [0.8, 0.5, 0.3])
def test_haze_of_the_law_is_undone(through: float) -> None:
    clear = scene()
    hazy = fogged(clear, through)
    change, found = lift(hazy)
    assert float(found.mean()) == pytest.approx(through, abs=0.06)
    assert float((hazy + change - clear).abs().mean()) < 0.2 * float((fogged(clear, through) - clear).abs().mean())


def test_haze_that_grows_along_the_picture_is_found_where_it_is() -> None:
    through = torch.linspace(0.9, 0.3, 96).expand(1, 1, 96, 96)
    _, found = lift(fogged(scene(), through))
    inside = slice(16, -16)  # at a border less is seen around a place
    torch.testing.assert_close(found.mean(2)[..., inside], through.mean(2)[..., inside], rtol=0, atol=0.1)


def test_a_trace_of_the_haze_stays() -> None:
    _, found = lift(torch.full((1, 3, 48, 48), AIRLIGHT / 2))
    torch.testing.assert_close(found, torch.full_like(found, 1 - 0.95 / 2))


def test_a_clear_scene_stays_as_it_is() -> None:
    change, found = lift(scene())
    assert float(found.mean()) > 0.95
    assert float(change.abs().mean()) < 0.02


def test_haze_follows_the_edges_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    through = torch.full((1, 1, 96, 96), 0.9)
    through[..., 50:] = 0.3
    hazy = fogged(0.2 * scene(), through)
    edge = lift(hazy)[1].mean(2)[0, 0]
    monkeypatch.setattr(scattering, "SOFTNESS", 1e6)
    smooth = lift(hazy)[1].mean(2)[0, 0]
    assert edge[46] - edge[53] > 2 * (smooth[46] - smooth[53]) > 0


@pytest.mark.parametrize("value", [AIRLIGHT, 1.0, 1.25, 1e20])
def test_where_nothing_shines_through_no_value_is_lost(value: float) -> None:
    change, found = lift(torch.full((1, 3, 48, 48), value))
    assert (found == THINNEST).all() and change.isfinite().all()
    torch.testing.assert_close(0.0 * change, torch.zeros(1, 3, 48, 48))


def test_what_is_far_away_does_not_count_and_full_precision_is_kept() -> None:
    x = torch.rand(1, 3, 8, 4 * REACH).requires_grad_()
    place = 2 * REACH
    lift(x)[1][..., place].sum().backward()
    columns = torch.nonzero(x.grad.abs().amax((0, 1, 2))).flatten()
    assert place - REACH <= int(columns[0]) < place - REACH // 2
    assert place + REACH // 2 < int(columns[-1]) <= place + REACH
    with torch.autocast("cpu", torch.bfloat16):
        again = lift(x)[0]
    assert again.dtype == torch.float32 and torch.equal(again, lift(x)[0])


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_without_haze_a_network_works_as_if_it_knew_no_law(make_system: Any, backbone: str) -> None:
    lawful = make_system(backbone=backbone, scattering=True).restorer
    plain = make_system(backbone=backbone).restorer
    plain.load_state_dict({n: t for n, t in lawful.state_dict().items() if not n.startswith("scattering.")})
    x = fogged(scene(), 0.5)
    dark, hazy = told(lowlight=0.5), told(lowlight=0.5, haze=0.5)
    torch.testing.assert_close(lawful(x, Signals(dark)), plain(x, Signals(dark)))
    assert (lawful(x, Signals(hazy)) - plain(x, Signals(hazy))).abs().mean() > 0.02


def silenced(net: Any) -> None:
    """Let a restorer show nothing and trust both alike, as a fresh one does."""
    for parameter in net.scattering.parameters():
        parameter.data.zero_()


def test_a_fresh_network_counts_as_much_as_the_law_and_less_haze_makes_the_law_count_less(make_system: Any) -> None:
    lawful, plain = make_system(scattering=True).restorer, make_system().restorer
    silenced(lawful)
    plain.load_state_dict({n: t for n, t in lawful.state_dict().items() if not n.startswith("scattering.")})
    x = fogged(scene(), 0.5)
    law = x + lift(x)[0]
    for severity, share in ((0.5, 0.5), (0.25, 0.5), (0.125, 0.25)):
        condition = Signals(told(haze=severity, noise=1.0))  # noise opens the gate
        own = plain(x, condition)
        torch.testing.assert_close(lawful(x, condition), own + share * (law - own), rtol=0, atol=1e-5)


def test_how_far_the_law_is_trusted_is_learnt(make_system: Any) -> None:
    lawful, plain = make_system(scattering=True).restorer, make_system().restorer
    silenced(lawful)
    plain.load_state_dict({n: t for n, t in lawful.state_dict().items() if not n.startswith("scattering.")})
    x, hazy = fogged(scene(), 0.5), Signals(told(haze=0.5))
    for bias, expected in ((20.0, x + lift(x)[0]), (-20.0, plain(x, hazy))):
        lawful.scattering.trust.bias.data.fill_(bias)
        torch.testing.assert_close(lawful(x, hazy), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", [1, 2])
def test_what_the_law_changes_is_shown_at_every_level(make_system: Any, level: int) -> None:
    lawful = make_system(scattering=True).restorer
    silenced(lawful)
    x = fogged(scene(), 0.5)
    conditions = [Signals(told(**{name: 0.5})) for name in ("haze", "lowlight")]
    before = [lawful(x, condition) for condition in conditions]
    lawful.scattering.show[str(level)].weight.data.fill_(0.3)
    after = [lawful(x, condition) for condition in conditions]
    assert (after[0] - before[0]).abs().max() > 1e-4
    assert torch.equal(after[1], before[1])


def test_values_beyond_white_and_black_are_not_pulled_in(make_system: Any) -> None:
    lawful = make_system(scattering=True).restorer
    silenced(lawful)
    x = fogged(scene(), 1.0)
    x[..., :8] += 0.25
    inside, hazy = x.clamp(0, 1), Signals(told(haze=0.5))
    lawful.scattering.trust.bias.data.fill_(20.0)
    torch.testing.assert_close(lawful(x, hazy) - x, lawful(inside, hazy) - inside, rtol=0, atol=1e-5)


def test_haze_may_be_told_place_by_place(make_system: Any) -> None:
    chain = make_system(**CHAIN).restorer
    x = fogged(scene(), 0.5)
    vector = chain(x, Signals(told(haze=0.5)))
    as_map = told(haze=0.5)[:, :, None, None].expand(-1, -1, 12, 12)
    torch.testing.assert_close(chain(x, Signals(as_map)), vector, rtol=0, atol=2e-6)
    half = as_map.clone()
    half[..., :6] = 0
    assert torch.equal(chain(x, Signals(half))[..., :40], x[..., :40])


def test_only_the_restorer_of_haze_knows_the_law_and_sees_farther_for_it(make_system: Any) -> None:
    chain = make_system(**CHAIN).restorer
    assert [member.scattering is not None for member in chain.members] == [False, False, True]
    first, _, last = (member.reach for member in chain.members)
    assert last > first + REACH and chain.reach == 2 * first + last
    two_levels = {"widths": (4, 4), "encoder_blocks": (1, 1), "decoder_blocks": (1,)}
    needs = make_system(sizes=two_levels, scattering=True).restorer.size_needs
    assert (needs.multiple_of, needs.minimum) == (4, 4)


def test_tiles_join_to_the_whole(make_system: Any) -> None:
    system = make_system(scattering=True, semantics=False)
    model = Restorer(system, Card("tiny", "0"), device="cpu", precision="float32")
    wide = scene(192).repeat(1, 1, 1, 4)[0].movedim(0, -1).numpy()
    through = np.linspace(0.9, 0.3, wide.shape[1], dtype=np.float32)[:, None]
    image = wide * through + AIRLIGHT * (1 - through)
    options = {"task": "dehaze", "severity": 0.6, "value_range": (0, 1)}
    whole = model.restore(image, tile=1024, **options).image
    tiled = model.restore(image, tile=32, overlap="exact", **options).image
    assert np.abs(whole - image).mean() > 0.05
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=5e-7)


def test_it_is_written_for_onnx(make_system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("onnxruntime")
    from perceive_ir._onnx import export_onnx
    from perceive_ir._weights import save_system

    system = make_system(**CHAIN)
    monkeypatch.chdir(tmp_path)
    save_system("s.safetensors", system, Card("s", "0"), half=False)
    assert export_onnx("s.safetensors", "s.onnx") <= 1e-3
    session = runtime.InferenceSession("s.onnx", providers=["CPUExecutionProvider"])
    x, condition = fogged(scene(), 0.5)[..., :72], told(haze=0.4)
    with torch.inference_mode():
        expected = system.restorer(x, Signals(condition))
    names = [one.name for one in session.get_inputs()]
    (made,) = session.run(None, dict(zip(names, (x.numpy(), condition.numpy()), strict=True)))
    torch.testing.assert_close(torch.from_numpy(made), expected, rtol=0, atol=1e-4)

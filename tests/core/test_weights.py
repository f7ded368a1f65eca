"""A weights file explains itself, comes back as it was written, and anything else gives one clear line."""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from perceive_ir import WeightsError
from perceive_ir._weights import FORMAT, Card, digest_of, load_system, read_tensors, save_system

CARD = Card("tiny", "3", licence="CC0", data="nothing", scores={"noise": {"psnr": 28.5}}, notes="for tests")


def refusal(path: Path) -> str:
    """Return the one line that says why a file is not loaded."""
    with pytest.raises(WeightsError) as caught:
        load_system(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def rewrite(path: Path, change) -> None:
    """Write a file anew with changed tensors and metadata, and with a digest that fits them."""
    tensors, about = read_tensors(path)
    about.pop("digest")
    change(tensors, about)
    save_file(tensors, path, {**about, "digest": digest_of(tensors, about)})


def test_networks_and_card_come_back_as_they_were_written(tmp_path, tiny_system):
    digest = save_system(tmp_path / "a.safetensors", tiny_system, CARD, half=False)
    system, card = load_system(tmp_path / "a.safetensors")
    assert card == replace(CARD, digest=digest)
    assert system.config.to_dict() == tiny_system.config.to_dict()
    assert not system.training
    assert not any(p.requires_grad for p in system.parameters())
    for name, tensor in tiny_system.state_dict().items():
        assert torch.equal(system.state_dict()[name], tensor), name
    save_system(tmp_path / "b.safetensors", system, CARD, half=False)
    assert load_system(tmp_path / "b.safetensors")[1].digest == digest


def test_a_loaded_network_computes_what_the_saved_one_does(tiny_weights, tiny_system):
    x = torch.rand(1, 3, 32, 48)
    loaded, _ = load_system(tiny_weights)
    torch.testing.assert_close(loaded.perceiver(x).type_logits, tiny_system.perceiver(x).type_logits)


def test_a_loaded_network_does_not_hang_on_its_file(tiny_weights, tiny_system):
    loaded, _ = load_system(tiny_weights)
    with tiny_weights.open("r+b") as file:  # in place: a network that maps the file would change, or die on truncation
        file.write(bytes(tiny_weights.stat().st_size))
    for name, tensor in tiny_system.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_restormer_systems_are_saved_too(tmp_path, make_system):
    save_system(tmp_path / "r.safetensors", make_system(backbone="restormer"), CARD)
    assert load_system(tmp_path / "r.safetensors")[0].config.backbone == "restormer"


def test_half_precision_halves_the_file_and_is_read_as_float32(tmp_path, tiny_system, tiny_weights):
    path = tmp_path / "half.safetensors"
    save_system(path, tiny_system, CARD)
    assert path.stat().st_size < 0.6 * tiny_weights.stat().st_size
    with safe_open(path, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}
    system, _ = load_system(path)
    for name, tensor in tiny_system.state_dict().items():
        assert system.state_dict()[name].dtype == tensor.dtype
        torch.testing.assert_close(system.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path, make_system):
    system = make_system()
    system.perceiver.normalise.running_var[0] = 1e5
    with pytest.raises(ValueError, match=r"perceiver\.normalise\.running_var reaches 100000, .* half=False"):
        save_system(tmp_path / "a.safetensors", system, CARD)
    assert not any(tmp_path.iterdir())


def test_the_metadata_can_be_read_without_this_project(tiny_weights):
    with safe_open(tiny_weights, "pt") as file:
        about = file.metadata()
    assert about["format"] == FORMAT
    assert json.loads(about["config"])["backbone"] == "compact"
    assert json.loads(about["card"])["licence"] == "CC0"


def test_others_may_read_what_was_written(tmp_path, tiny_system):
    path = tmp_path / "new folder" / "a.safetensors"
    save_system(path, tiny_system, CARD)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, tiny_weights, tiny_system, monkeypatch):
    before = tiny_weights.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_system(tiny_weights, tiny_system, CARD)
    assert tiny_weights.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [tiny_weights.name]


# ---- what is not a weights file


def test_a_file_that_is_not_there(tmp_path):
    assert "no weights file at" in refusal(tmp_path / "none.safetensors")
    assert "no weights file at" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b"II*\0", b"text " * 100, struct.pack("<Q", 2**60) + b"{}", bytes(99)])
def test_foreign_bytes(tmp_path, content):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    assert "not a readable safetensors file" in refusal(path)


def test_safetensors_of_another_project(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    assert "not a weights file of this project (format None" in refusal(path)
    save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})
    assert "format 'pt'" in refusal(path)
    save_file({"weight": torch.zeros(3)}, path, {"format": "perceive-ir-attached-1"})
    assert "attach(network, weights=path) reads what an attached network saved" in refusal(path)


def test_a_later_format(tiny_weights):
    rewrite(tiny_weights, lambda tensors, about: about.update(format="perceive-ir-2"))
    assert "'perceive-ir-2', not perceive-ir-1" in refusal(tiny_weights)


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.001, 0.02, 0.3, 0.9, 0.9999])
def test_a_truncated_file(tiny_weights, share):
    data = tiny_weights.read_bytes()
    tiny_weights.write_bytes(data[: int(len(data) * share)])
    assert "get it again" in refusal(tiny_weights)


def test_a_file_that_goes_on(tiny_weights):
    tiny_weights.write_bytes(tiny_weights.read_bytes() + b"\0")
    refusal(tiny_weights)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), header=st.booleans(), mask=st.integers(1, 255))
def test_a_byte_that_was_changed_is_noticed(tiny_weights, place, header, mask):
    data = bytearray(tiny_weights.read_bytes())
    end = 8 + struct.unpack("<Q", data[:8])[0]
    index = int(place * end) if header else end + int(place * (len(data) - end))
    data[index] ^= mask
    changed = tiny_weights.with_name("changed.safetensors")
    changed.write_bytes(data)
    refusal(changed)


def test_one_changed_weight_gives_another_digest(tmp_path, make_system):
    system = make_system()
    first = save_system(tmp_path / "a.safetensors", system, CARD, half=False)
    assert save_system(tmp_path / "a.safetensors", system, CARD, half=False) == first
    weight = system.restorer.backbone.leave.bias.data
    weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    assert save_system(tmp_path / "a.safetensors", system, CARD, half=False) != first
    assert save_system(tmp_path / "a.safetensors", make_system(), replace(CARD, notes=""), half=False) != first


def test_a_digest_depends_on_names_types_shapes_and_bytes():
    zeros = torch.zeros(2, 3)
    others = [{"a": zeros.T}, {"b": zeros}, {"a": zeros.half()}, {"a": zeros + 1}, {"a": zeros, "b": zeros}, {}]
    digests = [digest_of(tensors, {"format": "x"}) for tensors in [{"a": zeros}, *others]]
    digests.append(digest_of({"a": zeros}, {"format": "y"}))
    assert len(set(digests)) == len(digests)


NAME = "restorer.backbone.leave.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors, about: tensors.pop(NAME), f"lacks the tensor {NAME}"),
        (lambda tensors, about: tensors.update({NAME: torch.zeros(12, 8, 3, 4)}), "shape (12, 8, 3, 4), expected"),
        (lambda tensors, about: tensors.update({NAME: torch.zeros(())}), "has shape (), expected"),
        (lambda tensors, about: about.pop("config"), "cannot build"),
        (lambda tensors, about: about.pop("card"), "cannot build"),
        (lambda tensors, about: about.update(config="{"), "cannot build"),
        (lambda tensors, about: about.update(config="[1]"), "cannot build"),
        (lambda tensors, about: about.update(config='{"backbone": "unet"}'), "'unet'"),
        (lambda tensors, about: about.update(config='{"depth": 3}'), "unknown key 'depth'"),
        (lambda tensors, about: about.update(config='{"sizes": {"widths": [8, 8, 8, -16]}}'), "cannot build"),
        (lambda tensors, about: about.update(config='{"sizes": 5}'), "cannot build"),
        (lambda tensors, about: about.update(config='{"sizes": {"widths": ["a", "b", "c", "d"]}}'), "cannot build"),
        (lambda tensors, about: about.update(card='{"name": "a"}'), "version"),
        (lambda tensors, about: about.update(card='{"name": "a", "version": "1", "colour": 3}'), "colour"),
    ],
)
def test_a_file_whose_parts_do_not_fit_together(tiny_weights, change, words):
    rewrite(tiny_weights, change)
    assert words in refusal(tiny_weights)

"""A model written as ONNX computes what torch does, says how it is used, and is not written where it would not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import perceive_ir as pir
from perceive_ir import _onnx
from perceive_ir._onnx import export_onnx
from perceive_ir._vocabulary import TYPES
from perceive_ir._weights import Card, save_system
from perceive_ir.commands import app
from perceive_ir.networks import BACKBONES, ForeignNet, Signals, SizeNeeds
from tests.conftest import VIT

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CHAIN = {
    "groups": ("noise+jpeg+rain+snow", "haze+lowlight+blur+lowres"),
    "sizes": {"widths": (4, 6), "encoder_blocks": (1, 1), "decoder_blocks": (1,)},
}


def run(*words: object, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, (done.output, done.exception)
    assert len(done.stderr.splitlines()) == (code != 0), done.stderr
    return done


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, make_system: Any) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_system(path, make_system(**CHAIN), Card("tiny", "3", licence="CC0"), half=False)
    return path


@pytest.fixture(scope="module")
def exported(weights: Path) -> Path:
    path = weights.with_name("tiny.onnx")
    said = run("models", "export-onnx", weights, "-o", path).stdout
    assert said.startswith(f"{path}: restorer of ") and "of torch" in said
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.glob(".*"))


def compute(path: Path, *inputs: Tensor) -> list[Tensor]:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
    return [torch.from_numpy(one) for one in found]


def told(*rows: dict[str, float]) -> Tensor:
    return torch.tensor([[row.get(name, 0.0) for name in TYPES] for row in rows])


@pytest.mark.parametrize(("height", "width"), [(32, 48), (104, 8)])
def test_onnx_runtime_restores_as_torch_does_at_any_size(
    exported: Path, weights: Path, height: int, width: int
) -> None:
    system = pir.load(weights, device="cpu", precision="float32").system
    image = torch.rand(3, 3, height, width)
    condition = told({"noise": 0.5, "haze": 0.1}, {"haze": 0.9}, {})
    semantics = [torch.rand(3, n) for n in system.config.tower_config().semantics]
    with torch.inference_mode():
        expected = system.restorer(image, Signals(condition, tuple(semantics)))
    (restored,) = compute(exported, image, condition, *semantics)
    assert (expected[:2] - image[:2]).abs().amax((1, 2, 3)).min() > 0.01
    torch.testing.assert_close(restored, expected, rtol=0, atol=1e-5)
    assert torch.equal(restored[2], image[2]), "told nothing, it changes nothing"


def test_the_file_says_how_it_is_used_and_not_where_it_was_made(exported: Path, weights: Path) -> None:
    about = {one.key: one.value for one in onnx.load(exported).metadata_props}
    assert (about["name"], about["version"], about["licence"], about["part"]) == ("tiny", "3", "CC0", "restorer")
    assert json.loads(about["types"]) == list(TYPES) and about["value_range"] == "[0, 1]"
    assert about["size_multiple"] == "8" and about["digest"] == pir.load(weights).card.digest
    assert b"site-packages" not in exported.read_bytes() and str(Path.home()).encode() not in exported.read_bytes()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_done(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_onnx, "traced", None)
    Path("there.onnx").write_bytes(b"old")
    for output, words in {
        "there.onnx": "exists; give --force",
        "no/where.onnx": "there is no folder no",
        "picture.png": "ends in .onnx",
        ".": "ends in .onnx",
    }.items():
        assert words in run("models", "export-onnx", weights, "-o", output, code=1).stderr
    assert Path("there.onnx").read_bytes() == b"old"
    assert "no model 'huge' here" in run("models", "export-onnx", "huge", "-o", "huge.onnx", code=1).stderr


def test_a_graph_that_computes_something_else_is_not_written(
    exported: Path, tmp_path: Path, make_system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_system("other.safetensors", make_system(seed=1, **CHAIN), Card("other", "0"))
    monkeypatch.setattr(_onnx, "traced", lambda _: onnx.load(exported))
    line = run("models", "export-onnx", "other.safetensors", "-o", "other.onnx", code=1).stderr
    assert "ONNX Runtime differs by " in line and "more than 0.001: nothing is written" in line
    assert [path.name for path in tmp_path.iterdir()] == ["other.safetensors"]
    Path("old.onnx").write_bytes(b"old")
    run("models", "export-onnx", "other.safetensors", "-o", "old.onnx", "--force", code=1)
    assert Path("old.onnx").read_bytes() == b"old"


def test_without_the_extra_one_line_says_what_to_install(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    line = run("models", "export-onnx", weights, "-o", "a.onnx", code=1).stderr
    assert 'pip install "napari-perceive-ir[onnx]"' in line


class Blurring(nn.Module):
    """Stands for a network of others for grey pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.leave = nn.Conv2d(1, 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        blurred: Tensor = self.leave(x)
        return blurred


@pytest.mark.slow
def test_a_network_of_others_keeps_its_gate(tmp_path: Path) -> None:
    network = Blurring().eval()
    net = ForeignNet(network, lambda x: network(x).clamp(0, 1), 1, SizeNeeds(2), 1.0, types=("noise",))
    system = pir.networks.System(pir.networks.SystemConfig(semantics=False), net).eval()
    made = _onnx.restoring(system)
    Path("grey.onnx").write_bytes(_onnx.traced(made).SerializeToString())
    image, condition = torch.rand(3, 3, 16, 24) * 1.2 - 0.1, told({"noise": 1}, {"noise": 0.1}, {"haze": 1})
    with torch.inference_mode():
        expected = net(image, Signals(condition))
    torch.testing.assert_close(compute(Path("grey.onnx"), image, condition)[0], expected, rtol=0, atol=1e-5)
    assert torch.equal(expected[2], image[2])


@pytest.mark.slow
def test_a_network_that_cannot_be_traced_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Branching(nn.Module):
        def forward(self, image: Tensor, condition: Tensor) -> Tensor:
            return image if float(condition.sum()) > 1 else image * 2

    made = _onnx.Graph(Branching(), Branching(), {"image": None, "condition": 8}, ("restored",), 8)
    with pytest.raises(pir.PerceiveIRError, match="cannot be written as ONNX") as caught:
        _onnx.traced(made)
    assert "\n" not in str(caught.value) and "data-dependent" in str(caught.value), "what stands in the way"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["restorer", "perceiver"])
def test_the_shipped_model_is_written(part: str) -> None:
    assert 0 <= export_onnx("compact", "compact.onnx", part) <= 1e-3
    if part == "perceiver":
        crops = torch.rand(2, 3, 128, 96)
        tiers, types, severities = compute(Path("compact.onnx"), crops)
        with torch.inference_mode():
            read = pir.load("compact", device="cpu", precision="float32").system.perceiver(crops)
        torch.testing.assert_close(tiers, read.tier_logits.softmax(-1), rtol=0, atol=1e-3)
        torch.testing.assert_close(types, read.type_logits.sigmoid(), rtol=0, atol=1e-3)
        torch.testing.assert_close(severities, read.severities, rtol=0, atol=1e-3)


def shapes(path: str) -> dict[str, int]:
    """Names of the inputs, and the length of those that are vectors."""
    inputs = onnx.load(path).graph.input
    return {one.name: one.type.tensor_type.shape.dim[1].dim_value for one in inputs}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "compact"])
def test_every_other_family_is_written_with_its_feature_vectors(make_system: Any, backbone: str) -> None:
    system = make_system(backbone=backbone)
    save_system("r.safetensors", system, Card("r", "0"), half=False)
    assert export_onnx("r.safetensors", "r.onnx") <= 1e-3
    multiple = system.restorer.size_needs.multiple_of
    image, condition = torch.rand(2, 3, 3 * multiple, 2 * multiple), told({"noise": 0.5}, {})
    vectors = [torch.rand(2, n) for n in system.config.semantic_sizes()]
    with torch.inference_mode():
        expected = system.restorer(image, Signals(condition, tuple(vectors)))
    assert (expected[0] - image[0]).abs().max() > 0.01
    torch.testing.assert_close(compute(Path("r.onnx"), image, condition, *vectors)[0], expected, rtol=0, atol=1e-3)


def test_a_perceiver_with_bands_is_written_for_crops_of_any_size(make_system: Any) -> None:
    system = make_system(tower={"widths": (4, 4, 8, 16), "grid": True, "bands": True}, semantics=False)
    save_system("b.safetensors", system, Card("b", "0"), half=False)
    assert export_onnx("b.safetensors", "b.onnx", "perceiver") <= 1e-3
    for crops in (torch.rand(1, 3, 16, 48), torch.rand(3, 3, 112, 80)):
        with torch.inference_mode():
            read = system.perceiver(crops)
        torch.testing.assert_close(compute(Path("b.onnx"), crops)[1], read.type_logits.sigmoid(), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_a_perceiver_is_written_with_the_feature_vectors_that_guide(make_system: Any) -> None:
    save_system("r.safetensors", make_system(), Card("r", "0"), half=False)
    assert export_onnx("r.safetensors", "p.onnx", "perceiver") <= 1e-3
    assert len(onnx.load("p.onnx").graph.output) == 3 + 4


@pytest.mark.slow
def test_a_model_that_a_frozen_encoder_guides_takes_the_vectors_of_that_encoder(
    make_system: Any, encoders_here: Path
) -> None:
    save_system("f.safetensors", make_system(backbone="restormer", encoder=VIT), Card("f", "0"), half=False)
    assert export_onnx("f.safetensors", "f.onnx") <= 1e-3
    assert list(shapes("f.onnx").values())[1:] == [len(TYPES)] + [VIT["width"]] * 4
    assert export_onnx("f.safetensors", "p.onnx", "perceiver") <= 1e-3
    assert len(onnx.load("p.onnx").graph.output) == 3, "what the tower sees guides nothing"


def test_a_graph_that_onnx_runtime_cannot_compute_is_refused_in_one_line(
    exported: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx.load(exported)
    graph.graph.node[0].op_type = "NoSuchOperation"
    monkeypatch.setattr(_onnx, "traced", lambda _: graph)
    line = run("models", "export-onnx", weights, "-o", "other.onnx", code=1).stderr
    assert "ONNX Runtime cannot compute this network (" in line and not Path("other.onnx").exists()

"""Networks of others that spandrel knows restore as models of ours, cannot be told anything, and say so."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

import perceive_ir as pir
from perceive_ir import _catalogue, files
from perceive_ir._foreign import FORMAT, read_state, unfit
from perceive_ir._held import most_held
from perceive_ir._weights import Card, save_system
from perceive_ir.commands import app
from perceive_ir.networks import ForeignNet, Signals, SizeNeeds

spandrel = pytest.importorskip("spandrel")
NOISY = {"task": "denoise", "severity": 0.5}


def nafnet(channels: int = 3, seed: int = 0) -> nn.Module:
    from spandrel.architectures.NAFNet import NAFNet

    torch.manual_seed(seed)
    made = NAFNet(img_channel=channels, width=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1])
    for name, parameter in made.named_parameters():
        if name.endswith((".beta", ".gamma")):
            nn.init.normal_(parameter, std=0.3)  # they begin at zero, which would leave most of the network out
    return made.eval()


def dncnn() -> nn.Module:
    """Return a network for grey pictures that changes them visibly."""
    from spandrel.architectures.DnCNN import DnCNN

    torch.manual_seed(1)
    made = DnCNN(in_nc=1, out_nc=1, nc=8, nb=9, act_mode="R")
    nn.init.normal_(made.model[-1].weight, std=1.0)
    return made.eval()


def enlarging() -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_feat=4, num_conv=1, upscale=4).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_system: Any) -> Path:
    """A folder with the tiny model by the name of the shipped one, and two networks of others."""
    folder = tmp_path_factory.mktemp("weights")
    save_system(folder / "compact.safetensors", tiny_system, Card("compact", "test"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERCEIVE_IR_WEIGHTS", str(folder))
        source = tmp_path_factory.mktemp("sources")
        torch.save({"params": nafnet().state_dict()}, source / "naf.pth")
        save_file(dncnn().state_dict(), source / "grey.safetensors")
        pir.add_model(source / "naf.pth")
        pir.add_model(source / "grey.safetensors", tasks=["denoise"], licence="CC0")
    return folder


@pytest.fixture(autouse=True)
def here(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(weights))
    monkeypatch.chdir(tmp_path)
    _catalogue.loaded.cache_clear()
    yield tmp_path
    _catalogue.loaded.cache_clear()


def run(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, (done.output, done.exception)
    assert len(done.stderr.splitlines()) == (code != 0), done.stderr
    return done


def picture(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def stand_in(run: Any = lambda x: x * 0.5, channels: int = 3, **settings: Any) -> ForeignNet:
    return ForeignNet(nn.Identity(), run, channels, SizeNeeds(), 1.0, **settings)


def told(severity: float) -> Signals:
    return Signals(torch.tensor([[severity] + [0.0] * 7]))  # noise


# ---- what the network does


def test_a_model_of_others_gives_what_its_own_network_gives() -> None:
    image = picture(40, 56, 3)
    with torch.inference_mode():
        expected = nafnet()(torch.from_numpy(image).permute(2, 0, 1)[None])[0].clamp(0, 1).permute(1, 2, 0).numpy()
    restored = pir.restore(image, model="naf", device="cpu", **NOISY)
    np.testing.assert_allclose(restored, expected, atol=2e-6)
    assert np.abs(restored - image).max() > 0.1


def test_a_network_for_grey_pictures_restores_each_colour(weights: Path) -> None:
    model = pir.load(weights / "grey.safetensors", device="cpu")
    image = picture(40, 56, 3)
    coloured = model.restore(image, axes="YXC", value_range="dtype", **NOISY).image
    for colour in range(3):
        alone = model.restore(image[..., colour], value_range=(0, 1), **NOISY).image
        np.testing.assert_allclose(coloured[..., colour], alone, atol=1e-6)
    assert np.abs(coloured - image).max() > 0.1


def test_values_beyond_the_range_keep_their_distance() -> None:
    image = torch.tensor([-1.0, 0.5, 3.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(stand_in()(image, told(1)).flatten(), torch.tensor([-1.0, 0.25, 2.5]))


def test_a_network_that_works_in_place_does_not_change_its_input() -> None:
    image = torch.rand(2, 3, 4, 4)
    assert torch.equal(stand_in(lambda x: x.mul_(0.5))(image.clone(), told(1)), stand_in()(image, told(1)))


def test_where_nothing_is_wrong_the_network_does_not_even_run() -> None:
    image, seen = torch.rand(2, 3, 8, 8), []

    def half(x: Tensor) -> Tensor:
        seen.append(x)
        return x * 0.5

    condition = torch.cat([told(0).condition, told(0.1).condition])
    out = stand_in(half)(image, Signals(condition))
    assert torch.equal(out[0], image[0]) and len(seen) == 1
    torch.testing.assert_close(out[1], image[1] * (1 - 0.4 * 0.5))


def test_of_a_map_each_place_gets_its_share() -> None:
    condition = torch.zeros(1, 8, 2, 4)
    condition[0, 0, :, 2:] = 0.25
    out = stand_in()(torch.ones(1, 3, 16, 32), Signals(condition))
    assert (out[..., :8] == 1).all() and (out[..., -8:] == 0.5).all()


def test_damage_that_it_was_not_made_for_is_left_alone() -> None:
    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(stand_in(types=("haze", "rain"))(image, told(1)), image)


def test_grey_pictures_go_once_through_a_network_for_grey_ones() -> None:
    seen: list[Tensor] = []
    net = stand_in(lambda x: seen.append(x) or x * 0.5, channels=1)
    grey, coloured = torch.rand(1, 1, 4, 4).expand(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    assert torch.equal(net(grey, told(1)), grey * 0.5) and len(seen) == 1
    assert torch.equal(net(coloured, told(1)), coloured * 0.5) and len(seen) == 4


def test_sizes_that_a_network_cannot_take_are_filled_up(weights: Path) -> None:
    odd = picture(37, 51)
    assert pir.load("naf").restore(odd, **NOISY).image.shape == odd.shape
    assert pir.load("naf").restore(odd[:1, :1], **NOISY).image.shape == (1, 1)


# ---- what it says of itself


def test_a_result_says_that_the_network_could_not_be_told_anything() -> None:
    model = pir.load("naf", device="cpu")
    image = picture(40, 56)
    full = model.restore(image, task="dehaze", severity=0.9)
    assert full.note == "a second opinion: naf cannot be told a task or a severity and changes what it was made for"
    assert np.array_equal(full.image, model.restore(image, task="denoise", severity=0.25).image)
    slight = model.restore(image, task="denoise", severity=0.1)
    assert slight.note.endswith("; 40% of its change is applied, for a severity of 0.10 (all of it from 0.25)")
    np.testing.assert_allclose(slight.image, image + 0.4 * (full.image - image), atol=1e-6)
    half = model.restore(image, task="denoise", severity=0.9, strength=0.5)
    np.testing.assert_allclose(half.image, image + 0.5 * (full.image - image), atol=1e-6)


def test_a_task_that_it_was_not_made_for_changes_nothing_and_says_why() -> None:
    image = picture(40, 56)
    result = pir.load("grey", device="cpu").restore(image, task="dehaze", severity=0.9)
    assert result.note == "unchanged: grey was made to denoise, and to nothing else"
    assert np.array_equal(result.image, image)


def test_by_region_and_painted_the_result_says_so_too() -> None:
    model, image = pir.load("naf", device="cpu"), picture(64, 64)
    labels = np.zeros((64, 64), int)
    labels[:, 32:] = 1
    painted = model.restore(image, handling="painted", painted={1: ("denoise", 1)}, labels=labels)
    assert "less of it where little is wrong" in painted.note
    assert np.array_equal(painted.image[:, :16], image[:, :16]) and np.abs(painted.image - image)[:, 48:].max() > 0.1


def test_exact_overlap_and_bfloat16_are_as_the_network_allows(weights: Path) -> None:
    model = pir.load("naf", device="cpu")
    assert model.precision == torch.float32
    with pytest.raises(ValueError, match="overlap 'exact' does not exist for naf"):
        model.restore(picture(40, 40), overlap="exact", **NOISY)
    assert pir.load("naf", device="cpu", precision="bfloat16").precision == torch.bfloat16
    model.system.restorer.half_works = False
    with pytest.raises(ValueError, match="does not work in bfloat16"):
        pir.Restorer(model.system, model.card, device="cpu", precision="bfloat16")


def test_it_sees_what_the_model_sees_whose_perceiver_it_has() -> None:
    image = picture(140, 150, 3)
    mine, theirs = (pir.load(name, device="cpu").perceive(image) for name in ("compact", "naf"))
    assert mine.tiers == pytest.approx(theirs.tiers, abs=1e-3) and mine.types == pytest.approx(theirs.types, abs=1e-3)


def test_the_file_says_where_the_network_came_from(weights: Path) -> None:
    with safe_open(weights / "grey.safetensors", "pt") as file:
        about = file.metadata()
    config, card = json.loads(about["config"]), json.loads(about["card"])
    assert about["format"] == FORMAT and len(config["source_sha256"]) == 64
    assert (config["architecture"], config["purpose"], config["types"]) == ("DnCNN", "Restoration", ["noise"])
    assert config["source"] == "grey.safetensors" and config["perceiver"].startswith("compact test ")
    assert card["licence"] == "CC0" and "SHA-256" in card["notes"]


def test_the_plain_network_can_be_reached() -> None:
    network = pir.load("naf", device="cpu").system.restorer.network
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(network(x), nafnet()(x))


def test_it_can_be_attached_to_and_fine_tuned(tmp_path: Path) -> None:
    x, condition = torch.rand(2, 3, 16, 16), torch.cat([told(0.5).condition] * 2)
    network = pir.load("naf", device="cpu").system.restorer.network.requires_grad_(True)
    before, net = network(x), pir.attach(network)
    assert torch.equal(net(x), before)
    learned = [net.guidance.levels["1"].leave.weight, network.intro.weight]
    old = [p.detach().clone() for p in learned]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    net(x, condition).square().mean().backward()
    optimiser.step()
    assert not any(map(torch.equal, learned, old))
    net.save(tmp_path / "tuned.safetensors")
    again = pir.attach(pir.load("naf", device="cpu").system.restorer.network, weights=tmp_path / "tuned.safetensors")
    assert torch.equal(again(x, condition), net(x, condition)) and not torch.equal(again(x, condition), before)
    restored = again.as_model(device="cpu").restore(picture(40, 56, 3), value_range=(0, 1), **NOISY).image
    assert np.abs(restored - picture(40, 56, 3)).max() > 0.1


def test_memory_is_counted_at_its_peak() -> None:
    def work() -> Tensor:
        first = torch.zeros(1000)
        second = first + 1
        del first
        return second[:10]

    assert most_held(work)[0] == 8000


# ---- the command line


def test_networks_are_added_and_restore_files_and_folders(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(nafnet(seed=3).state_dict(), "new net.pt")
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", "mine")
    monkeypatch.setattr(_catalogue, "PACKAGED", weights)
    said = run("models", "add", "new net.pt", "--name", "other", "--licence", "MIT").stdout
    assert "NAFNet, licence MIT" in said and "--model other" in said
    assert {m["name"]: m["version"] for m in json.loads(run("models", "--json").stdout)}["other"] == "NAFNet"
    Path("in").mkdir()
    for name in ("a.png", "b.png"):
        files.write_image(f"in/{name}", (picture(40, 48, 3) * 255).astype(np.uint8))
    words = ("--model", "other", "--task", "denoise", "--severity", "0.5", "--device", "cpu")
    assert "other cannot be told" in run("restore", "in/a.png", "-o", "out.png", *words).stdout
    run("batch", "in", "done", *words)
    alone = files.read_image("out.png")
    shown = torch.tensor(files.read_image("in/a.png").data).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = (nafnet(seed=3)(shown).clamp(0, 1) * 255)[0].permute(1, 2, 0).numpy()
    assert np.abs(alone.data - expected).max() < 0.6, "what its own network gives, as whole numbers"
    assert np.abs(expected - files.read_image("in/a.png").data).max() > 20
    assert np.array_equal(files.read_image("done/a.png").data, alone.data)
    assert files.read_description("out.png")["model"]["name"] == "other"  # type: ignore[index]
    assert "other" in Path("done/.perceive-ir/report.html").read_text(encoding="utf-8")


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must never be run",)


def write_wrong_files() -> None:
    torch.save({"params": nafnet().state_dict(), "code": Code()}, "code.pth")
    Path("raw.pth").write_bytes(pickle.dumps(Code()))
    save_file(enlarging().state_dict(), "x4.safetensors")
    save_file({"a": torch.zeros(3)}, "unknown.safetensors")
    save_file({**nafnet().state_dict(), "intro.weight": torch.zeros(9, 3, 3, 3)}, "bent.safetensors")
    save_file(nafnet(channels=2).state_dict(), "two.safetensors")
    torch.save([1, 2], "list.pth")
    torch.save({"params": {"intro.weight": 3}}, "numbers.pth")
    torch.save({"state_dict": {1: torch.zeros(3), 2: torch.zeros(3)}}, "counted.pth")
    Path("text.pth").write_text("a letter", encoding="utf-8")
    Path("text.safetensors").write_text("a letter", encoding="utf-8")
    Path("text.txt").write_text("a letter", encoding="utf-8")
    Path("cut.pth").write_bytes(Path("list.pth").read_bytes()[:300])


WRONG = {
    "code.pth": "holds more than weights, which could run as code",
    "raw.pth": "holds more than weights, which could run as code",
    "x4.safetensors": "a network that enlarges 4 times (RealESRGAN Compact)",
    "unknown.safetensors": "unknown architecture",
    "bent.safetensors": "fit no architecture",
    "two.safetensors": "from 2 to 2 channels",
    "list.pth": "holds no weights by name",
    "numbers.pth": "holds no weights by name",
    "counted.pth": "holds no weights by name",
    "text.pth": "no checkpoint of torch",
    "text.safetensors": "not a readable safetensors file",
    "text.txt": "expected a network in .safetensors",
    "cut.pth": "",
    "missing.pth": "no file at missing.pth",
    "naf.safetensors": "is a model of this project already",
}


def test_a_wrong_file_is_one_line_and_adds_nothing(weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_wrong_files()
    Path("naf.safetensors").write_bytes((weights / "naf.safetensors").read_bytes())
    before = sorted(weights.iterdir())
    for name, words in WRONG.items():
        line = run("models", "add", name, "--name", "wrong", code=1).stderr
        assert words in line and name in line, line
    assert sorted(weights.iterdir()) == before
    assert "never be run" not in "".join(capfd.readouterr())


def test_a_name_that_is_taken_or_no_name_is_refused(weights: Path) -> None:
    save_file(nafnet().state_dict(), "net.safetensors")
    for name in ("compact", "naf", "a/b", ".hidden", "", "net.safetensors"):
        assert repr(name) in run("models", "add", "net.safetensors", "--name", name, code=1).stderr
    assert "expected a task" in run("models", "add", "net.safetensors", "--task", "fly", code=1).stderr


def test_a_model_that_was_added_may_be_replaced_and_no_other(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", "mine")
    monkeypatch.setattr(_catalogue, "PACKAGED", weights)
    save_file(nafnet(seed=5).state_dict(), "net.safetensors")
    pir.add_model("net.safetensors")
    first = pir.load("net").card.digest
    save_file(nafnet(seed=6).state_dict(), "net.safetensors")
    with pytest.raises(ValueError, match="there is a model 'net' already"):
        pir.add_model("net.safetensors")
    assert pir.add_model("net.safetensors", force=True).digest == pir.load("net").card.digest != first
    (tmp_path / "mine" / "own.safetensors").write_bytes((weights / "compact.safetensors").read_bytes())
    with pytest.raises(ValueError, match="a model of another kind"):
        pir.add_model("net.safetensors", "own", force=True)


def test_without_spandrel_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(nafnet().state_dict(), "net.safetensors")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    for words in (("models", "add", "net.safetensors"), ("assess", "x.png", "--model", "naf")):
        assert 'pip install "napari-perceive-ir[spandrel]"' in run(*words, code=1).stderr


def test_a_changed_file_is_not_loaded(weights: Path) -> None:
    data = bytearray((weights / "naf.safetensors").read_bytes())
    data[-1] ^= 1
    Path("naf.safetensors").write_bytes(data)
    with pytest.raises(pir.WeightsError, match=r"was changed .* add the network again"):
        pir.load("naf.safetensors")


def test_what_does_not_restore_pictures_as_they_are_is_named() -> None:
    class Found:
        input_channels = output_channels = 3
        scale = 1
        purpose = "FaceSR"

    assert unfit(Found) == "a network for FaceSR"
    assert unfit(type("Filling", (Found,), {"purpose": "Inpainting"})) == "a network that fills holes"
    assert unfit(type("Right", (Found,), {"purpose": "Restoration"})) == ""


def test_weights_within_a_checkpoint_are_found() -> None:
    wrapped = {"state_dict": {f"module.{name}": t for name, t in nafnet().state_dict().items()}, "epoch": 3}
    torch.save(wrapped, "wrapped.ckpt")
    assert read_state(Path("wrapped.ckpt")).keys() == nafnet().state_dict().keys()


def test_triton_stays_out_of_a_process_that_may_draw() -> None:
    drawing = "import sys, types; sys.modules['vispy'] = types.ModuleType('vispy')"
    code = f"{drawing}; from perceive_ir._foreign import spandrel; spandrel(); assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Every family of backbones trains from a TOML file that names it, and alike whether its blocks are kept or not."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perceive_ir import load
from perceive_ir._weights import load_system
from perceive_ir.networks import BACKBONES, Block
from perceive_ir_training import load_config, train
from tests.conftest import TINY_SIZES

TOML = """
name = "mini"
checkpointing = {again}

[model]
backbone = "{backbone}"

[model.sizes]
{sizes}

[model.tower]
widths = [4, 4, 8, 8]

[restorer]
steps = 2
batch = 3
patch = 32
warm_up = 1
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with coarse pictures."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for number in range(3):
        pixels = random.integers(0, 256, (12, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(folder / f"p{number}.png")
    return folder


def train_one(folder: Path, data: Path, backbone: str, again: bool) -> list[dict[str, float]]:
    """Train a tiny restorer; return the losses of its steps."""
    folder.mkdir()
    sizes = "\n".join(f"{key} = {json.dumps(value)}" for key, value in TINY_SIZES[backbone].items())
    path = folder / "mine.toml"
    path.write_text(TOML.format(again=json.dumps(again), backbone=backbone, sizes=sizes), encoding="utf-8")
    return [p.losses for p in train(load_config(path), "restorer", data=data, run=folder / "run", log_every=1)]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_family_trains_from_its_name_and_alike_if_its_blocks_are_computed_again(tmp_path, data, backbone):
    plain = train_one(tmp_path / "plain", data, backbone, again=False)
    before, runs = Block.forward, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Block, "forward", lambda self, *maps: runs.append(self.recompute) or before(self, *maps))
        again = train_one(tmp_path / "again", data, backbone, again=True)
    assert any(runs)
    assert plain == again
    assert len(plain) == 2
    systems = [load_system(tmp_path / name / "run" / "weights.safetensors") for name in ("plain", "again")]
    assert systems[0][1].digest == systems[1][1].digest
    assert systems[0][0].config.backbone == backbone
    model = load(tmp_path / "again" / "run" / "weights.safetensors", device="cpu")
    assert model.restore(np.zeros((40, 30)), task="denoise", severity=1).image.shape == (40, 30)

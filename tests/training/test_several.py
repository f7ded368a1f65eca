"""Several processes train as one does: what each sees, the weights, a change of their number, and the end of one.

As a script, this file is what starts the processes: ``python test_several.py`` with a list of tasks as JSON on stdin.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from perceive_ir import MissingExtraError
from perceive_ir._errors import PerceiveIRError
from perceive_ir._weights import load_system
from perceive_ir.networks import System, SystemConfig
from perceive_ir_training import (
    MixConfig,
    StageConfig,
    TrainConfig,
    keeping,
    loop,
    ranks,
    resume,
    sources,
    starting,
    validation,
)
from perceive_ir_training.checkpoint import read_checkpoint
from perceive_ir_training.config import STAGES, LossConfig, PerceiverConfig, PromptsConfig, refuse_uneven
from perceive_ir_training.crossfit import fold_of
from perceive_ir_training.data import is_held_back
from perceive_ir_training.language import TextConfig, TextTower
from perceive_ir_training.paired import Pair
from perceive_ir_training.plan import Plan, as_json
from perceive_ir_training.ranks import SharedNorm, World, meet
from perceive_ir_training.sources import load_sources
from perceive_ir_training.stages import PerceiverBatch, PerceiverStage, RestorerBatch, RestorerStage, Setting

MODEL = SystemConfig(
    sizes={"widths": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1)},
    tower={"widths": (4, 4, 8, 8), "embedding": 16},
)
ALL = TrainConfig(
    model=MODEL,
    mix=MixConfig(paired=0.5),
    perceiver=PerceiverConfig(steps=3, batch=20, patch=32, warm_up=1, learning_rate=5e-5, paired=0.5),
    prompts=PromptsConfig(steps=3, batch=4, patch=32, warm_up=1, medium_steps=1, medium_batch=2, medium_patch=32),
    restorer=StageConfig(steps=2, batch=4, patch=32, warm_up=1, learning_rate=2e-4),
    losses=LossConfig(contrast=0.1, clip=0.05, perceptual=0.1),
    precision="float32",
)
"""Every stage, every loss, and pairs: the first process shows the paired crops, the second the paired thumbnails."""
READOUTS = replace(
    ALL,
    model=replace(MODEL, tower={**MODEL.tower, "hidden": 6}),
    losses=LossConfig(types=0, severities=0, contrast=0, language=0),
    perceiver=PerceiverConfig(steps=3, batch=20, patch=32, warm_up=1, weight_decay=0.1, readouts_alone=True),
)
GROUPS = replace(
    ALL,
    model=replace(MODEL, groups=("noise+jpeg+blur+lowres", "rain+snow+haze+lowlight")),
    mix=MixConfig(clean=0.5, told_wrong=0),
    perceiver=replace(ALL.perceiver, paired=0.0),
    restorer=StageConfig(steps=6, batch=4, patch=32, warm_up=1, learning_rate=2e-4),
    losses=LossConfig(language=0),
)
"""Half of the pictures are clean, and the restorer leaves these alone: at times a process has nothing else."""
SMALL = TextConfig(embedding=16, width=16, layers=1, heads=2)
TERMS = {"tiers", "types", "severities", "contrast", "language", "prompts", "l1", "clip", "perceptual", "norm"}
CLOSE, ALIKE = 1e-5, 1e-3
"""Of weights, and of gradients relative to their length. Adam makes much of gradients that are hardly there."""


@contextmanager
def small() -> Iterator[None]:
    """Small sample sheets, gates and text towers; of every stage a checkpoint is kept."""
    save = keeping.save_checkpoint

    def save_twice(path, learner, position):
        save(path, learner, position)
        save(path.with_name(f"{position.stage}.safetensors"), learner, position)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "SIDE", 32)
        patch.setattr(keeping, "GATE_SCENES", 8)
        patch.setattr(keeping, "save_checkpoint", save_twice)
        patch.setattr(starting, "TextConfig", lambda embedding: SMALL)
        yield


# ---- the processes


def work(tasks: list[dict]) -> list[dict]:
    """Go on with each run by so many processes, one of which may kill itself: their exit codes and what they said."""
    import lightning_fabric  # noqa: F401  once for all

    return [start(**task) for task in tasks]


def start(run: str, processes: int, victim: int = -1, step: int = 0) -> dict:
    """Start the processes of one run, and wait for all of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = [Path(f"{run}.{rank}.txt") for rank in range(processes)]
    children = []
    for rank in range(processes):
        children.append(os.fork())
        if children[-1] == 0:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            os.environ.update({name: str(value) for name, value in place.items()})
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            os._exit(go_on(run, said[rank], step if rank == victim else 0))
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return {"codes": codes, "said": [path.read_text() for path in said]}


def go_on(run: str, said: Path, last: int) -> int:
    """Be one of the processes; it ends in a step, where one is given."""
    learn = loop.learn

    def mortal(stage, learner, batch, step, rate):
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return learn(stage, learner, batch, step, rate)

    said.touch()
    try:
        with small(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "learn", mortal)
            list(resume(run))
    except PerceiveIRError as error:
        said.write_text(str(error))
        return 1
    except BaseException as error:
        said.write_text(repr(error))
        return 2
    return 0


def names(held: bool, count: int) -> list[str]:
    """Names of pictures that are held back or not, of both folds."""
    chosen = [f"p{n}.png" for n in range(2000) if is_held_back(Path(f"p{n}.png")) == held]
    return [next(n for n in chosen[k:] if fold_of(n) == k % 2) for k in range(count)]


def plan_run(folder: Path, name: str, config: TrainConfig, stages: tuple[str, ...], save_every: float = 1e9) -> Path:
    """Write down what a run is to do; to resume it is to begin it."""
    run = folder / name
    run.mkdir()
    plan = Plan(config, stages, str(folder / "data"), log_every=1, save_every=save_every)
    (run / "run.json").write_text(as_json(plan), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with pictures of both folds, some of which are held back, and with pairs."""
    folder = tmp_path_factory.mktemp("several")
    random = np.random.default_rng(0)
    for kind in ("photos", "microscopy", "pairs/rain/input", "pairs/rain/target"):
        (folder / "data" / kind).mkdir(parents=True)
        for name in (*names(False, 6), *names(True, 2)):
            pixels = random.integers(0, 256, (22, 25, 3), np.uint8).repeat(4, 0).repeat(4, 1)
            Image.fromarray(pixels).save(folder / "data" / kind / name)
    return folder


@pytest.fixture(scope="module")
def runs(folder) -> dict:
    """All runs of this file, by one process in here or by two out there."""
    with small():
        list(resume(plan_run(folder, "alone", ALL, STAGES)))
        list(resume(plan_run(folder, "groups alone", GROUPS, ("restorer",))))
        stopped = resume(plan_run(folder, "more", GROUPS, ("restorer",), save_every=0))
        while next(stopped).step < 3:
            pass
        stopped.close()
    plan_run(folder, "together", ALL, STAGES)
    plan_run(folder, "fewer", GROUPS, ("restorer",), save_every=0)
    plan_run(folder, "readouts", READOUTS, ("perceiver",))
    tasks = [
        {"run": str(folder / "together"), "processes": 2},
        {"run": str(folder / "readouts"), "processes": 2},
        {"run": str(folder / "more"), "processes": 2},
        {"run": str(folder / "fewer"), "processes": 2, "victim": 1, "step": 4},
    ]
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(tasks), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(("together", "readouts", "more", "fewer"), json.loads(done.stdout), strict=True))


def differences(one: Path, other: Path, stage: str) -> dict[str, float]:
    """What differs between the checkpoints of two runs, and by how much."""
    first, second = (load_file(run / f"{stage}.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    found = {}
    for name, tensor in first.items():
        apart = (tensor.double() - second[name].double()).flatten()
        if name.endswith("exp_avg") and not apart.norm() <= ALIKE * tensor.double().norm():
            found[name] = float(apart.norm() / tensor.double().norm())
        if not name.startswith("optimiser") and not apart.abs().max() <= CLOSE:
            found[name] = float(apart.abs().max())
    return found


def losses_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


# ---- together


def test_two_processes_train_every_stage_as_one_does(folder, runs):
    assert runs["together"] == {"codes": [0, 0], "said": ["", ""]}
    for one, other in zip(losses_of(folder / "alone"), losses_of(folder / "together"), strict=True):
        assert one.keys() == other.keys()
        for key in TERMS & one.keys():
            assert one[key] == pytest.approx(other[key], abs=1e-5, rel=ALIKE if key == "norm" else 1e-4), key
    for stage in STAGES:
        found = differences(folder / "alone", folder / "together", stage)
        # Attention does not depend on the bias of its keys, whose gradient is rounding errors alone.
        assert [name for name in found if not name.endswith("text.transformer.resblocks.0.attn.in_proj_bias")] == []


def test_readouts_that_two_processes_train_leave_the_tower_and_other_readouts_alone(folder, runs):
    assert runs["readouts"] == {"codes": [0, 0], "said": ["", ""]}
    torch.manual_seed(READOUTS.seed)
    before = System(READOUTS.model).perceiver.state_dict()
    after = load_system(folder / "readouts" / "weights.safetensors")[0].perceiver.state_dict()
    learnt = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert learnt == {"project", "bend", "tiers", "logit_scale"}


def test_one_process_begins_and_two_go_on(folder, runs):
    assert runs["more"] == {"codes": [0, 0], "said": ["", ""]}
    assert [line["step"] for line in losses_of(folder / "more")] == [1, 2, 3, 4, 5, 6]
    assert differences(folder / "groups alone", folder / "more", "restorer") == {}


def test_one_that_is_killed_ends_the_other_and_one_goes_on(folder, runs):
    assert runs["fewer"]["codes"] == [1, -signal.SIGKILL]
    (line,) = runs["fewer"]["said"][0].splitlines()
    assert line.startswith("another process of this training does not answer (")
    assert line.endswith("then go on with --resume")
    assert read_checkpoint(folder / "fewer" / "checkpoint.safetensors")[1].step == 3
    with small():
        assert [progress.step for progress in resume(folder / "fewer")] == [4, 5, 6]
    assert differences(folder / "groups alone", folder / "fewer", "restorer") == {}


def test_at_times_a_process_has_nothing_to_learn_from(folder):
    told = [share.told for step in range(1, 7) for share in shares(RestorerStage, GROUPS, folder, step)]
    assert 0 < sum(not rows.any() for rows in told) < len(told)


# ---- who sees what


def shares(kind, config: TrainConfig, folder: Path, step: int, processes: int = 2) -> list:
    """Return what each process sees in a step."""
    found, made = load_sources(folder / "data", config.mix, config.seed), []
    for rank in range(processes):
        torch.manual_seed(0)
        setting = Setting(config, found, torch.device("cpu"), World(rank, processes))
        more = (TextTower(SMALL),) if kind is PerceiverStage else ()
        made.append(kind(setting, System(config.model), *more).batch(step, 32))
    return made


def test_two_processes_see_what_one_sees(folder):
    (whole,), parts = (shares(RestorerStage, ALL, folder, 5, n) for n in (1, 2))
    assert isinstance(whole, RestorerBatch)
    for name in ("damaged", "target", "told", "tasks"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    assert {part.semantics for part in parts} == {whole.semantics}


def test_two_crops_of_one_picture_stay_together(folder):
    (whole,), parts = (shares(PerceiverStage, ALL, folder, 5, n) for n in (1, 2))
    assert isinstance(whole, PerceiverBatch)
    for kind in (torch.logical_not, torch.clone):  # crops, thumbnails
        for name in ("images", "severities", "paired"):
            joined = torch.cat([getattr(part, name)[kind(part.thumbnails)] for part in parts])
            assert torch.equal(joined, getattr(whole, name)[kind(whole.thumbnails)])
    assert [caption for part in parts for caption in part.captions] == whole.captions
    assert [int((~part.thumbnails).sum()) for part in parts] == [8, 8]
    assert [int(part.paired.sum()) for part in parts] == [8, 2]


@pytest.mark.parametrize("kind", [PerceiverStage, RestorerStage])
def test_pairs_that_another_process_shows_are_not_read(folder, monkeypatch, kind):
    monkeypatch.setattr(sources, "ROOM", 0)
    config = replace(ALL, mix=MixConfig(paired=0.7), restorer=replace(ALL.restorer, batch=8))
    read, real = [], Pair.read
    monkeypatch.setattr(Pair, "read", lambda pair: read.append(pair.name) or real(pair))
    shares(kind, config, folder, 2, 1)
    by_one = len(read)
    shares(kind, config, folder, 2, 2)
    assert len(read) == 2 * by_one > 8


# ---- normalisation


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 5)])
def test_shared_statistics_are_those_of_batch_normalisation(shape):
    torch.manual_seed(0)
    known, shared = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(5), SharedNorm(5)
    shared.world = World()
    nn.init.normal_(known.weight), nn.init.normal_(known.bias)
    shared.load_state_dict(known.state_dict())
    x, towards = torch.randn(shape) * 3 + 7, torch.randn(shape)
    results = []
    for norm in (known, shared):
        own = x.clone().requires_grad_()
        out = norm(own)
        (out * towards).sum().backward()
        results.append((out, own.grad, norm.weight.grad, norm.bias.grad, norm.eval()(x), *norm.buffers()))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


# ---- what cannot be


def test_batches_that_cannot_be_shared_alike_are_refused():
    refuse_uneven(ALL, STAGES, 2)
    with pytest.raises(ValueError, match=r"expected a batch in perceiver that 3 .* got 20; give a multiple of 15"):
        refuse_uneven(ALL, STAGES, 3)
    scenes = replace(ALL, losses=LossConfig(scenes=1.0))
    refuse_uneven(scenes, STAGES, 2)
    odd = replace(scenes, perceiver=replace(ALL.perceiver, scenes=5))
    with pytest.raises(ValueError, match=r"expected scenes in perceiver that 2 .* got 5; give a multiple of 2"):
        refuse_uneven(odd, STAGES, 2)
    refuse_uneven(replace(odd, losses=LossConfig()), STAGES, 2)
    with pytest.raises(ValueError, match="expected scenes >= 1 in perceiver, got 0"):
        replace(ALL.perceiver, scenes=0)
    with pytest.raises(ValueError, match=r"expected a batch in restorer that 3 .* got 4; give a multiple of 3"):
        refuse_uneven(ALL, ("restorer",), 3)


def test_each_of_several_processes_has_a_gpu_of_its_own(monkeypatch):
    assert meet("cpu") == (World(), torch.device("cpu"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="expected device cpu, cuda or auto for 2 processes, got 'cpu:0'"):
        meet("cpu:0")
    monkeypatch.setattr(ranks, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="expected a GPU for each of 2 processes, got 1; give --nproc-per-node 1"):
        meet("cuda")


def test_without_fabric_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingExtraError, match=r'need Lightning Fabric: pip install "napari-perceive-ir\[train\]"'):
        meet("cpu")


# ---- the command


TOML = """
name = "mine"
precision = "float32"
[losses]
language = 0
[model.sizes]
widths = [8, 8, 16]
encoder_blocks = [1, 1, 1]
decoder_blocks = [1, 1]
[model.tower]
widths = [4, 4, 8, 8]
[restorer]
steps = 20
batch = 4
patch = 32
"""


def torchrun(folder: Path, processes: int, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [*command, "-m", "perceive_ir_training", *words], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does(folder, tmp_path):
    (tmp_path / "mine.toml").write_text(TOML, encoding="utf-8")
    words = ["mine.toml", "--stage", "restorer", "--data", str(folder / "data")]
    for processes in (1, 2):
        done = torchrun(tmp_path, processes, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == f"runs/mine-{processes}"
        assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [["restorer", "20"]]
    one, two = (load_system(tmp_path / "runs" / f"mine-{n}" / "weights.safetensors")[0] for n in (1, 2))
    for name, tensor in two.state_dict().items():
        assert torch.allclose(tensor, one.state_dict()[name], atol=1e-4), name


@pytest.mark.slow
def test_what_is_wrong_is_said_in_one_line(folder, tmp_path):
    (tmp_path / "mine.toml").write_text(TOML.replace("batch = 4", "batch = 3"), encoding="utf-8")
    done = torchrun(tmp_path, 2, "mine.toml", "--stage", "restorer", "--data", str(folder / "data"))
    said = [line for line in done.stderr.splitlines() if "expected a batch in restorer that 2 processes" in line]
    assert done.returncode == 1
    assert 1 <= len(said) <= 2 and said[0].endswith("got 3; give a multiple of 2")
    assert "perceive_ir_training/loop.py" not in done.stderr


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.stdout.write(json.dumps(work(json.load(sys.stdin))))

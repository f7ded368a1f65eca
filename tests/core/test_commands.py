"""The command line does what the library does, on files; and says in one line what it cannot do."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

import perceive_ir as pir
from perceive_ir import files
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir.commands import _demo, _doctor, _group, _restore, app
from perceive_ir.samples import load_sample, sample_names

CLI = CliRunner()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_system: Any) -> Path:
    from perceive_ir._weights import Card, save_system

    folder = tmp_path_factory.mktemp("weights")
    card = Card("compact", "test", licence="CC0", data="none", scores={"noise": {"given": 20.25}})
    save_system(folder / "compact.safetensors", tiny_system, card)
    return folder


@pytest.fixture(autouse=True)
def here(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, with the tiny model by the name of the shipped one."""
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(weights))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(files.PARTIAL_SUFFIX)]


def run(*words: object, code: int = 0) -> Any:
    result = CLI.invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    assert len(result.stderr.splitlines()) == (code != 0), result.stderr
    return result


def picture(*shape: int, dtype: str = "uint8", seed: int = 0) -> NDArray[Any]:
    values = np.random.default_rng(seed).integers(0, 200, shape or (40, 56, 3))
    return values.astype(dtype)


def saved(name: str, array: NDArray[Any] | None = None, **options: Any) -> Path:
    files.write_image(name, picture() if array is None else array, **options)
    return Path(name)


# --- the program


def test_the_program_starts_without_torch_and_numpy() -> None:
    code = (
        "import sys, perceive_ir.commands; print([m for m in ('torch', 'numpy', 'PIL', 'napari') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_words_at_all_ask_for_help() -> None:
    assert "restore" in run().stdout
    assert "speed" in run("benchmark").stdout
    assert run("--version").stdout.startswith("perceive-ir ")


def test_every_field_of_the_recipe_is_an_option_with_its_own_description() -> None:
    command = typer.main.get_command(app).commands["restore"]  # type: ignore[attr-defined]
    found = {option.name: option for option in command.params}
    for name, field in Recipe.model_fields.items():
        assert found[name].opts == ["--" + name.replace("_", "-")]
        assert found[name].help.startswith(field.description)


@pytest.mark.parametrize("words", ["restore", "nothing", "restore --nothing", "benchmark nothing", "restore x --tile"])
def test_a_mistake_in_the_command_line_is_one_line_that_says_where_to_read(words: str) -> None:
    assert "--help`" in run(*words.split(), code=1).stderr


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(_restore.Restoring, "restored", broken)
    with pytest.raises(KeyError, match="a bug"):
        run("restore", saved("a.png"), "-o", "b.png")


def test_an_expected_error_is_one_line_and_its_traceback_is_kept_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "perceive_ir")
    assert run("restore", "missing.png", "-o", "b.png", code=1).stderr.startswith("missing.png: ")
    assert "--force" in run("degrade", saved("a.png"), "-o", "a.png", "--type", "noise", code=1).stderr
    kept = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [type(error) for error in kept] == [pir.ImageFileError, ValueError]
    assert all(error is not None and error.__traceback__ for error in kept)


@pytest.mark.parametrize("way", ["--debug", "variable"])
@pytest.mark.parametrize("words", ["restore missing.png -o b.png", "degrade missing.png -o b.png --type noise"])
def test_with_debug_the_traceback_stands_below_the_line(way: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEIVE_IR_DEBUG", "1" if way == "variable" else "0")
    done = CLI.invoke(app, ["--debug"] * (way == "--debug") + words.split())
    assert done.exit_code == 1
    first, second, *_, last = done.stderr.splitlines()
    assert "missing.png: does not exist" in first or "missing.png does not exist" in first
    assert second.startswith("Traceback") and "ImageFileError: missing.png does not exist" in last


def test_an_error_of_the_system_says_what_to_do() -> None:
    line = run("restore", saved("a.png"), "-o", "b.png", "--recipe", "missing.json", code=1).stderr
    assert line == "perceive-ir: missing.json: No such file or directory; check its name\n"


# --- restore


def test_restoring_a_file_is_restoring_its_array() -> None:
    done = run("restore", saved("a.png"), "-o", "b.png", "--task", "denoise", "--severity", ".5")
    assert "a.png -> b.png" in done.stdout
    wanted = pir.restore(picture(), task="denoise", severity=0.5)
    assert np.array_equal(files.read_image("b.png").data, wanted)
    assert not np.array_equal(wanted, picture())


RECIPES = {
    "defaults": {},
    "task": {"task": "denoise", "severity": 0.6},
    "tasks": {"task": ("denoise", "deblur"), "severity": 0.4, "strength": 1.3},
    "region": {"handling": "region", "tier_strength": {"low": 1.25, "medium": 0.5, "high": 0.1}, "task": "derain"},
    "tiles": {"task": "dejpeg", "severity": 1.0, "tile": 16, "overlap": 8, "memory": 0.5},
    "exact": {"task": "sharpen", "severity": 0.2, "tile": 32, "overlap": "exact"},
    "numbers": {"task": "brighten", "value_range": (-20.5, 250.0), "axes": "yxc", "precision": "float32"},
    "percentile": {"task": "desnow", "value_range": "percentile", "device": "cpu"},
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_command_that_a_recipe_writes_gives_the_same_pixels(name: str) -> None:
    recipe = make_recipe(RECIPES[name])
    words = shlex.split(recipe.to_command(str(saved("a picture.tif")), "the result.tif"))
    assert words[0] == "perceive-ir"
    run(*words[1:])
    result = pir.load(device=recipe.device, precision=recipe.precision).restore(picture(), recipe)
    assert np.array_equal(files.read_image("the result.tif").data, result.image)
    assert make_recipe(files.read_description("the result.tif")["recipe"]) == recipe  # type: ignore[index]


def test_a_region_is_that_of_the_whole_result() -> None:
    saved("a.tif", picture(90, 120))
    recipe, box = make_recipe(task="denoise", severity=0.5), (slice(10, 61), slice(0, 100))
    run(*shlex.split(recipe.to_command("a.tif", "b.tif", box))[1:])
    run(*shlex.split(recipe.to_command("a.tif", "whole.tif"))[1:])
    part, whole = (tifffile.imread(name).astype(float) for name in ("b.tif", "whole.tif"))
    assert part.shape == (51, 100) and np.abs(part - whole[box]).max() <= 1
    assert not np.array_equal(part, tifffile.imread("a.tif")[box])
    about = files.read_description("b.tif")
    assert about is not None and about["region"] == {"rows": [10, 61], "columns": [0, 100]}


@pytest.mark.parametrize(("given", "why"), [("10:61", "such as 0:256,128:512"), ("99:200,0:9", "in 40 x 56 pixels")])
def test_what_is_no_region_is_refused_in_one_line(given: str, why: str) -> None:
    saved("a.png")
    assert why in run("restore", "a.png", "-o", "b.png", "--region", given, code=1).stderr
    assert not Path("b.png").exists()


def test_labels_say_what_is_done_where() -> None:
    marks = np.zeros((40, 56), np.uint8)
    marks[:, 28:] = 3
    saved("marks.png", marks)
    recipe = make_recipe(handling="painted", painted={3: ("denoise", 0.5)})
    words = shlex.split(recipe.to_command(str(saved("a.png")), "b.png"))
    run(*words[1:], "--labels", "marks.png")
    wanted = pir.restore(picture(), labels=marks, handling="painted", painted={3: ("denoise", 0.5)})
    assert np.array_equal(files.read_image("b.png").data, wanted)
    run("restore", "a.png", "-o", "c.png", "--handling=painted", "--painted=3=denoise:.5", "--labels=marks.png")
    assert np.array_equal(files.read_image("c.png").data, wanted)


def test_strength_per_tier_can_be_written_in_short() -> None:
    run("restore", saved("a.png"), "-o", "b.png", "--handling", "region", "--tier-strength", "low=1.5,high=0.5")
    recipe = files.read_description("b.png")["recipe"]  # type: ignore[index]
    assert recipe["tier_strength"] == {"low": 1.5, "medium": 1.0, "high": 0.5}


def test_several_inputs_and_patterns_go_into_a_folder_under_their_names() -> None:
    for number in (1, 2, 10):
        saved(f"p{number}.png", picture(20, 20, seed=number))
    saved("q.tif", picture(20, 20, dtype="uint16"))
    done = run("restore", "p*.png", "q.tif", "-o", "new/folder", "--task", "denoise")
    assert sorted(os.listdir("new/folder")) == ["p1.png", "p10.png", "p2.png", "q.tif"]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["p1.png", "p2.png", "p10.png", "q.tif"]
    run("restore", "q.tif", "-o", "one/")
    assert os.listdir("one") == ["q.tif"]


def test_what_can_only_be_read_is_written_as_png() -> None:
    from PIL import Image

    Image.fromarray(picture()).save("a.bmp")
    run("restore", "a.bmp", "-o", "out/")
    assert os.listdir("out") == ["a.png"]


def test_the_axes_of_a_file_hold_unless_others_are_given() -> None:
    stack = picture(3, 24, 32, dtype="uint16")
    tifffile.imwrite("a.ome.tif", stack, metadata={"axes": "CYX"})
    run("restore", "a.ome.tif", "-o", "b.ome.tif", "--task", "denoise")
    assert np.array_equal(files.read_image("b.ome.tif").data, pir.restore(stack, task="denoise", axes="CYX"))
    turned = np.moveaxis(stack, 0, -1)  # bare, this would be colour
    tifffile.imwrite("t.tif", turned, photometric="minisblack", metadata={"axes": "ZYX"})
    run("restore", "t.tif", "-o", "u.tif", "--task", "denoise", "--axes", "YXZ")
    assert np.array_equal(files.read_image("u.tif").data, pir.restore(turned, task="denoise", axes="YXZ"))


def test_a_recipe_comes_from_a_file_or_out_of_a_result_and_options_override_it() -> None:
    Path("r.json").write_text(json.dumps({"task": "denoise", "severity": 0.3}), encoding="utf-8")
    run("restore", saved("a.png"), "-o", "b.png", "--recipe", "r.json", "--strength", "0.5", "--side-json")
    wanted = pir.restore(picture(), task="denoise", severity=0.3, strength=0.5)
    run("restore", "a.png", "-o", "c.png", "--recipe", "b.png")
    run("restore", "a.png", "-o", "d.png", "--recipe", "b.png.json")
    for name in ("b.png", "c.png", "d.png"):
        assert np.array_equal(files.read_image(name).data, wanted)
    run("restore", "a.png", "-o", "e.png", "--recipe", "b.png", "--handling", "region")
    recipe = files.read_description("e.png")["recipe"]  # type: ignore[index]
    assert recipe["tier_strength"]["high"] == 0, "the strength per tier follows a changed handling"


def test_nothing_is_overwritten_without_force() -> None:
    saved("b.png", picture(8, 8))
    before = Path("b.png").read_bytes()
    assert "--force" in run("restore", saved("a.png"), "-o", "b.png", code=1).stderr
    assert Path("b.png").read_bytes() == before
    run("restore", "a.png", "-o", "b.png", "--force")
    assert files.read_image("b.png").data.shape == (40, 56, 3)
    assert "the input itself" in run("restore", "a.png", "-o", "a.png", code=1).stderr


def test_failures_leave_the_good_ones_done() -> None:
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = run("restore", saved("a.png"), "broken.png", saved("z.png"), "-o", "out", code=1)
    assert sorted(os.listdir("out")) == ["a.png", "z.png"]
    assert done.stderr.startswith("broken.png: ")


def test_a_folder_as_input_names_batch() -> None:
    Path("folder").mkdir()
    done = run("restore", "folder", saved("a.png"), "-o", "out", code=1)
    assert done.stderr.startswith("folder: is a folder") and "perceive-ir batch" in done.stderr
    assert '"folder/*.png"' in done.stderr
    assert os.listdir("out") == ["a.png"]


def test_two_inputs_never_share_a_result() -> None:
    for name in ("x", "y"):
        Path(name).mkdir()
        saved(f"{name}/a.png")
    assert "y/a.png" in run("restore", "x/a.png", "y/a.png", "-o", "out", "--force", code=1).stderr
    assert os.listdir("out") == ["a.png"]


def test_json_says_what_was_done_with_each_file() -> None:
    done = run("restore", saved("a.png"), "missing.png", "-o", "out", "--json", "--task", "denoise", code=1)
    good, bad = json.loads(done.stdout)
    assert good["ok"] and good["output"] == "out/a.png" and good["recipe"]["task"] == "denoise"
    assert bad == {"input": "missing.png", "ok": False, "error": "does not exist; check its name"}


def test_a_write_that_fails_half_way_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    saved("a.png")
    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in run("restore", "a.png", "-o", "out/", code=1).stderr
    assert os.listdir("out") == []


def test_ctrl_c_is_one_line_and_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Path] = []
    restored = _restore.Restoring.restored

    def interrupted(self: Any, picture: files.Picture, on_step: Any) -> Any:
        done.append(picture.path)
        if len(done) == 2:
            raise KeyboardInterrupt
        return restored(self, picture, on_step)

    monkeypatch.setattr(_restore.Restoring, "restored", interrupted)
    assert run("restore", saved("a.png"), saved("b.png"), "-o", "out", code=130).stderr.startswith("stopped")
    assert os.listdir("out") == ["a.png"]


# --- assess, map, degrade


def test_assess_says_what_the_library_says() -> None:
    saved("a.png")
    saved("b.tif", picture(20, 30, dtype="uint16"))
    assert "a.png" in run("assess", "a.png", "b.tif").stdout
    first, second = json.loads(run("assess", "a.png", "b.tif", "--json").stdout)
    seen = pir.load().perceive(picture())
    assert first["words"] == seen.words() and first["tier"] == seen.tier
    assert first["types"] == seen.to_dict()["types"]
    assert second["input"] == "b.tif"


def test_assess_writes_csv_and_goes_on_after_a_failure() -> None:
    done = run("assess", "missing.png", saved("a.png"), "--csv", "-", code=1)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["file"] for row in rows] == ["a.png", "missing.png"]
    assert rows[0]["tier"] in pir.TIERS and set(pir.TYPES) < rows[0].keys()
    assert rows[1]["error"] == "does not exist; check its name"
    run("assess", "a.png", "--csv", "t.csv")
    assert Path("t.csv").read_text(encoding="utf-8").splitlines()[1].startswith("a.png,")
    assert "--force" in run("assess", "a.png", "--csv", "t.csv", code=1).stderr


@pytest.mark.parametrize("what", ["tiers", "score", "types"])
def test_a_map_holds_the_values_at_full_size(what: str) -> None:
    stack = picture(2, 50, 70, dtype="uint16")
    tifffile.imwrite("a.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    run("map", "a.tif", "-o", "m.tif", "--what", what, "--stride", "16", "--window", "48")
    qmap = pir.load().quality_map(stack, axes="ZYX", stride=16, window=48)
    wanted = {"tiers": qmap.tier_labels, "score": qmap.score, "types": qmap.type_labels}[what]
    found = files.read_image("m.tif")
    assert found.axes == "ZYX" and found.data.dtype == ("float32" if what == "score" else "uint8")
    assert np.array_equal(found.data, qmap.full(wanted))
    assert files.read_description("m.tif")["map"]["what"] == what  # type: ignore[index]


def test_a_coloured_map_leaves_what_is_good_grey() -> None:
    from perceive_ir.commands._map import What
    from perceive_ir.commands._paint import COLOURS, draw, palette

    run("map", saved("a.png"), "-o", "m.png", "--what", "types")
    assert files.read_image("m.png").data.shape == (40, 56, 3)
    run("map", "a.png", "-o", "p.png", "--plain")
    assert files.read_image("p.png").data.shape == (40, 56, 4)
    qmap = one_tier("high")
    coloured = draw(picture(), "YXC", qmap, What.tiers)
    assert np.array_equal(coloured[..., 0], coloured[..., 1])
    orange = draw(picture(), "YXC", one_tier("medium"), What.tiers, plain=True)[0, 0]
    assert "#" + bytes(orange[:3]).hex().upper() == COLOURS["medium"] and orange[3] == 255
    assert len(palette(What.types)) == len(pir.TYPES) + 1


def one_tier(tier: str) -> pir.QualityMap:
    tiers = np.array([name == tier for name in pir.TIERS], np.float32)[:, None, None].repeat(2, 1).repeat(2, 2)
    none = np.zeros((len(pir.TYPES), 2, 2), np.float32)
    return pir.QualityMap(tiers, none, none, 32, 128, (40, 56))


def test_a_stack_has_no_coloured_map_and_a_map_never_replaces_its_picture() -> None:
    tifffile.imwrite("a.tif", picture(2, 20, 20), metadata={"axes": "ZYX"})
    assert "write a .tif" in run("map", "a.tif", "-o", "m.png", code=1).stderr
    assert "the input itself" in run("map", "a.tif", "-o", "a.tif", "--force", code=1).stderr
    assert ".png" in run("map", "a.tif", "-o", "m.jpg", code=1).stderr


def test_degrading_a_file_is_degrading_its_array() -> None:
    run(
        "degrade",
        saved("a.png"),
        "-o",
        "b.png",
        "--type",
        "haze=0.4",
        "--type",
        "noise",
        "--severity",
        "0.2",
        "--seed",
        7,
    )
    wanted = pir.degrade(picture(), {"haze": 0.4, "noise": 0.2}, seed=7)
    assert np.array_equal(files.read_image("b.png").data, wanted)
    assert files.read_description("b.png")["degraded"] == {"types": {"haze": 0.4, "noise": 0.2}, "seed": 7}  # type: ignore[index]


# --- models, doctor, benchmark, demo


def test_models_says_what_weights_say_of_themselves(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("models").stdout
    assert "compact" in shown and "CC0" in shown and "noise given 20.25" in shown
    model = next(m for m in json.loads(run("models", "--json").stdout) if m["name"] == "compact")
    assert model["path"] == str(weights / "compact.safetensors") and len(model["sha256"]) == 64
    Path("broken.safetensors").write_bytes(b"nothing")
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", ".")
    assert run("models", code=1).stderr.startswith("broken.safetensors: ")


def test_doctor_measures_with_weights_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "SIDE", 64)
    assert "megapixels/s" in run("doctor").stdout
    found = json.loads(run("doctor", "--json").stdout)
    assert found["precisions"]["float32"]["works"] and found["speed"]["megapixels_per_s"]["float32"] > 0
    assert found["weights"]["compact"] and not found["speed"]["random_weights"]
    monkeypatch.setattr("perceive_ir._catalogue.folders", list)
    found = json.loads(run("doctor", "--json").stdout)
    assert "no model 'compact'" in found["weights_problem"] and found["speed"]["random_weights"]


def test_the_speed_benchmark_compares_with_the_bare_network() -> None:
    words = ("benchmark", "speed", "--size", 48, "--size", 64, "--repeat", 1, "--precision", "float32")
    found = json.loads(run(*words, "--json").stdout)
    assert [run_["side"] for run_ in found["runs"]] == [48, 64]
    assert all(run_["seconds"]["bare"] > 0 and run_["pipeline_over_bare"] > 0 for run_ in found["runs"])
    assert "ratio" in run(*words).stdout


def test_the_demonstration_is_one_page_and_exact_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = tuple(case for case in _demo.CASES if case.name in ("nuclei", "tissue", "clean"))
    monkeypatch.setattr(_demo, "CASES", cases)
    monkeypatch.setattr("perceive_ir.samples.load_sample", lambda name: load_sample(name)[:96, :128].copy())
    shown = run("demo", "-o", "out").stdout
    assert all(case.title.split(",")[0] in shown for case in cases)
    page = Path("out/index.html").read_text(encoding="utf-8")
    assert page.count("<article") == 3 and "$" not in page
    assert 'src="http' not in page and page.count("data:image/webp;base64,") == 5 + 5 + 3
    measured = json.loads(Path("out/measurements.json").read_text(encoding="utf-8"))
    clean, after = (files.read_image(f"out/nuclei-{name}.png").data for name in ("clean", "after"))
    assert measured[0]["psnr"]["auto"] == pytest.approx(_demo.psnr(after, clean), abs=1e-3)
    assert np.array_equal(clean, load_sample("nuclei")[:96, :128])
    run("demo", "-o", "out")  # again into the same folder
    saved("a.png")
    assert "--force" in run("demo", "-o", ".", code=1).stderr


def test_a_number_that_fell_is_shown_as_fallen() -> None:
    assert [_demo.verdict(value, 20.0) for value in (21.0, 19.0, 20.001)] == ["up", "down", "same"]


def test_the_samples_are_small_and_have_a_notice() -> None:
    import perceive_ir.samples

    folder = Path(perceive_ir.samples.__file__).parent
    notice = (folder / "NOTICE").read_text(encoding="utf-8")
    assert all(f"{name}." in notice for name in sample_names())
    assert sum(path.stat().st_size for path in folder.glob("*.*")) < 1.2e6
    assert load_sample("nuclei").ndim == 2 and load_sample("van").shape == (448, 640, 3)
    with pytest.raises(ValueError, match="expected a sample"):
        load_sample("nothing")


# --- commands of other packages


def quality(size: int = 3) -> None:
    """Say a size."""
    typer.echo(f"size {size}")


def extended(monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    found = [EntryPoint(name.replace("__", "."), value, _group.ENTRY_POINTS) for name, value in entries.items()]
    monkeypatch.setattr(_group, "entry_points", lambda group: found)
    monkeypatch.setitem(sys.modules, "offering", sys.modules[__name__])


def test_other_packages_add_commands_and_broken_ones_harm_none(monkeypatch: pytest.MonkeyPatch) -> None:
    extended(
        monkeypatch, adapt="offering:quality", benchmark__quality="offering:quality", far__away="offering:quality",
        broken="nowhere_at_all:command",
    )  # fmt: skip
    shown = run().stdout
    assert "adapt" in shown and "Say a size." in shown and "Does not load" in shown
    assert "quality" in run("benchmark").stdout
    assert run("adapt", "--size", 4).stdout == run("far", "away", "--size", 4).stdout == "size 4\n"
    assert run("benchmark", "quality").stdout == "size 3\n"
    assert "nowhere_at_all" in run("broken", "x", "--option", code=1).stderr


def test_commands_of_other_packages_are_not_imported_until_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("imported")

    monkeypatch.setattr(_group, "load", load)
    run("models")

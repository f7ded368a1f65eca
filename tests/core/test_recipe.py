"""The recipe holds every wish with its default, refuses nonsense in one line, and turns into text that runs."""

import json
import pickle
import shlex

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import perceive_ir
from perceive_ir import TASKS, TIERS, Recipe
from perceive_ir._recipe import make_recipe

DEFAULTS = {
    "model": "compact",
    "task": "auto",
    "severity": "auto",
    "handling": "image",
    "painted": {},
    "strength": 1.0,
    "tier_strength": {"low": 1.0, "medium": 1.0, "high": 1.0},
    "value_range": "auto",
    "axes": "auto",
    "tile": "auto",
    "overlap": "auto",
    "memory": "auto",
    "device": "auto",
    "precision": "auto",
}  # the table of PRODUCT.md

severities = st.floats(0, 1)
strengths = st.floats(0, 1.5)
tasks = st.one_of(st.just("auto"), st.sampled_from(TASKS), st.lists(st.sampled_from(TASKS), min_size=2, unique=True))
finite = st.floats(-1e6, 1e6)
recipes = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["compact", "mine", "some folder/my model.safetensors", "it's.safetensors"]),
        "task": tasks,
        "severity": st.one_of(st.just("auto"), severities),
        "handling": st.sampled_from(["image", "region", "painted"]),
        "painted": st.dictionaries(st.integers(-5, 300), st.tuples(st.sampled_from(TASKS), severities), max_size=4),
        "strength": strengths,
        "tier_strength": st.dictionaries(st.sampled_from(TIERS), strengths),
        "value_range": st.one_of(
            st.sampled_from(["auto", "dtype", "percentile"]),
            st.tuples(finite, finite).filter(lambda r: r[0] < r[1]),
        ),
        "axes": st.sampled_from(["auto", "yx", "YXC", "tzcyx"]),
        "tile": st.one_of(st.just("auto"), st.integers(16, 4096)),
        "overlap": st.one_of(st.sampled_from(["auto", "exact"]), st.integers(0, 512)),
        "memory": st.one_of(st.just("auto"), st.floats(0.01, 1000)),
        "device": st.sampled_from(["auto", "cpu", "cuda:1"]),
        "precision": st.sampled_from(["auto", "float32", "bfloat16"]),
    },
).map(lambda fields: make_recipe(**fields))


def test_the_defaults_are_those_of_the_table():
    assert Recipe().model_dump() == DEFAULTS


def test_every_field_says_what_it_means():
    assert all(field.description for field in Recipe.model_fields.values())


def test_regions_spare_what_is_good_unless_told_otherwise():
    assert Recipe(handling="region").tier_strength == {"low": 1, "medium": 1, "high": 0}
    even = dict.fromkeys(TIERS, 1.0)
    assert Recipe(handling="region", tier_strength=even).tier_strength == even


def test_tiers_that_are_not_named_keep_full_strength_and_the_order_is_always_low_medium_high():
    recipe = Recipe(tier_strength={"high": 0.5, "low": 0.2})
    assert list(recipe.tier_strength.items()) == [("low", 0.2), ("medium", 1.0), ("high", 0.5)]


@pytest.mark.parametrize("fields", [{"strenght": 1}, {"Strength": 1}, {"": 1}, {"labels": 1}])
def test_an_unknown_field_is_refused_by_name_in_one_line_that_lists_the_known(fields):
    with pytest.raises(ValueError) as caught:
        make_recipe(**fields)
    message = str(caught.value)
    assert message.startswith(f"unknown recipe field {next(iter(fields))!r}; known fields: model, task, ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": "denoize"}, ["task", "'auto'", "denoise, dehaze", "'denoize'"]),
        ({"task": ["denoise", "auto"]}, ["task", "auto"]),
        ({"task": []}, ["at least one task"]),
        ({"task": 5}, ["task", "5"]),
        ({"task": None}, ["task", "None"]),
        ({"task": np.array(["denoise", "nope"])}, ["task", "nope"]),
        ({"severity": 1.1}, ["severity", "1.1"]),
        ({"severity": "much"}, ["severity", "'auto'", "'much'"]),
        ({"severity": float("nan")}, ["severity", "nan"]),
        ({"handling": "regions"}, ["handling", "'region'", "'regions'"]),
        ({"painted": {1: ("denoize", 0.5)}}, ["painted", "label 1", "denoize"]),
        ({"painted": {1: ("denoise", 2)}}, ["painted", "1", "2"]),
        ({"painted": {"one": ("denoise", 1)}}, ["painted", "one"]),
        ({"painted": {1: "denoise"}}, ["painted", "'denoise'"]),
        ({"strength": -0.1}, ["strength", "-0.1"]),
        ({"strength": 1.6}, ["strength", "1.5", "1.6"]),
        ({"strength": np.zeros((100, 100))}, ["strength", "array"]),
        ({"tier_strength": {"height": 1}}, ["tier_strength", "low, medium, high", "'height'"]),
        ({"tier_strength": {"high": 2}}, ["tier_strength", "1.5", "2"]),
        ({"value_range": (1, 1)}, ["value_range", "low < high", "(1, 1)"]),
        ({"value_range": (2, 1)}, ["value_range", "(2, 1)"]),
        ({"value_range": (0, float("inf"))}, ["value_range", "finite", "inf"]),
        ({"value_range": (float("nan"), 1)}, ["value_range", "nan"]),
        ({"value_range": (-1.5e308, 1.5e308)}, ["value_range", "finite"]),
        ({"value_range": "minmax"}, ["value_range", "'percentile'", "'minmax'"]),
        ({"tile": 15}, ["tile", "16", "15"]),
        ({"tile": 64.5}, ["tile", "64.5"]),
        ({"overlap": -1}, ["overlap", "0", "-1"]),
        ({"overlap": "exactly"}, ["overlap", "'exact'", "'exactly'"]),
        ({"memory": 0}, ["memory", "0"]),
        ({"memory": float("inf")}, ["memory", "inf"]),
        ({"precision": "float16"}, ["precision", "'bfloat16'", "'float16'"]),
        ({"axes": 3}, ["axes", "3"]),
        ({"model": None}, ["model", "None"]),
    ],
)
def test_nonsense_is_refused_in_one_line_with_field_value_and_remedy(fields, words):
    with pytest.raises(ValueError) as caught:
        make_recipe(**fields)
    message = str(caught.value)
    assert not isinstance(caught.value, ValidationError)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert len(message) < 300


def test_a_recipe_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().strength = 0.5


def test_a_single_task_in_a_list_is_that_task_and_repetitions_do_not_count():
    assert Recipe(task=["denoise"]).task == "denoise"
    assert Recipe(task=("denoise", "deblur", "denoise")).tasks == ("denoise", "deblur")
    assert Recipe().tasks == ()


def test_axes_may_be_written_small():
    assert Recipe(axes="tzcyx").axes == "TZCYX"
    assert Recipe(axes="Auto").axes == "auto"


def test_numbers_of_numpy_and_paths_are_taken(tmp_path):
    fields = {"strength": np.float32(0.5), "tile": np.int64(64), "painted": {np.uint8(3): ("denoise", np.float64(1))}}
    recipe = make_recipe(model=tmp_path / "a.safetensors", **fields)
    assert (recipe.strength, recipe.tile, recipe.painted) == (0.5, 64, {3: ("denoise", 1.0)})
    assert recipe.model == str(tmp_path / "a.safetensors")


def test_fields_override_a_recipe_and_the_tiers_follow_the_handling():
    base = Recipe(strength=0.5, task="denoise")
    recipe = make_recipe(base, handling="region", strength=0.7)
    assert (recipe.strength, recipe.task, recipe.tier_strength["high"]) == (0.7, "denoise", 0.0)
    assert make_recipe(recipe, handling="image").tier_strength["high"] == 1.0
    assert make_recipe({"strength": 0.5}, strength=0.6).strength == 0.6
    assert make_recipe(base) == base


@given(recipes)
def test_a_recipe_survives_json_and_pickle(recipe):
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    plain = json.loads(json.dumps(recipe.model_dump(mode="json"), allow_nan=False))
    assert make_recipe(**plain) == recipe
    again = pickle.loads(pickle.dumps(recipe))
    assert again == recipe
    assert hash(again) == hash(recipe)


def test_equal_recipes_have_equal_hashes():
    one = Recipe(painted={1: ("denoise", 1), 2: ("deblur", 0.5)})
    other = Recipe(painted={2: ("deblur", 0.5), 1: ("denoise", 1.0)})
    assert one == other
    assert hash(one) == hash(other)


@given(recipes)
def test_what_changed_is_all_that_is_needed_to_make_the_recipe_again(recipe):
    assert make_recipe(**recipe.changed()) == recipe


def test_nothing_changed_in_a_fresh_recipe():
    assert Recipe().changed() == {}
    assert Recipe(handling="region").changed() == {"handling": "region"}


@given(recipes)
def test_the_python_of_a_recipe_runs_and_makes_the_same_recipe(recipe):
    asked = {}
    code = recipe.to_python("picture")
    assert code.startswith("import perceive_ir as pir\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceive_ir, "restore", lambda image, **fields: asked.update(fields), raising=False)
        exec(code, {"picture": None})
    assert make_recipe(**asked) == recipe


@given(recipes)
def test_the_command_of_a_recipe_is_one_line_of_options_and_values(recipe):
    command = recipe.to_command("my picture.tif", "out.tif")
    words = shlex.split(command)
    assert words[:5] == ["perceive-ir", "restore", "my picture.tif", "-o", "out.tif"]
    assert "\n" not in command
    options = words[5::2]
    assert {option.removeprefix("--").replace("-", "_") for option in options} == set(recipe.changed())
    assert all(option.startswith("--") for option in options)


def test_the_command_writes_tasks_ranges_and_mappings_so_that_they_can_be_read_back():
    recipe = Recipe(task=("denoise", "deblur"), value_range=(-1.5, 2e-7), tier_strength={"high": 0})
    words = shlex.split(recipe.to_command())[5:]
    assert words[:4] == ["--task", "denoise", "--task", "deblur"]
    assert tuple(map(float, words[words.index("--value-range") + 1].split(","))) == (-1.5, 2e-7)
    assert json.loads(words[words.index("--tier-strength") + 1]) == {"low": 1.0, "medium": 1.0, "high": 0.0}

"""Several pictures at once get what each would get alone, to the bit."""

import numpy as np
import pytest
import torch

from perceive_ir import TYPES, Restorer
from perceive_ir._engine import look_at
from perceive_ir._recipe import make_recipe
from perceive_ir._weights import Card
from perceive_ir.networks import Signals

CHAIN = {"groups": ("noise+jpeg", "rain+snow+blur+lowres", "haze+lowlight")}
SHAPES = [(40, 56, 3), (40, 56), (40, 56, 3), (64, 64), (2, 40, 56), (150, 33), (40, 56, 4), (1, 1)]


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    made = [(rng.random(shape) ** (n + 1) * 255).astype(np.uint8) for n, shape in enumerate(SHAPES)]
    return [*made, made[0].astype(np.float32) / 255, np.full((40, 56), 7, np.uint16)]


@pytest.fixture(scope="module", params=["single", "chain"])
def model(request, make_system):
    return Restorer(make_system(**(CHAIN if request.param == "chain" else {})), Card("tiny", "0"), device="cpu")


@pytest.mark.parametrize("fields", [{}, {"task": "denoise", "tile": 32, "overlap": 8}, {"handling": "region"}], ids=str)
def test_pictures_restored_together_are_those_restored_alone(model, pictures, fields):
    recipe = make_recipe(**fields)
    subjects = [look_at(picture, value_range=recipe.value_range) for picture in pictures]
    seen = model.perceive_all(subjects)
    together = dict(model.restore_all(subjects, seen, recipe))
    assert sorted(together) == list(range(len(pictures)))
    for number, picture in enumerate(pictures):
        alone = model.restore(picture, recipe)
        assert seen[number].to_dict() == alone.perception.to_dict()
        assert seen[number] == alone.perception
        assert together[number].note == alone.note
        np.testing.assert_array_equal(together[number].image, alone.image)


def test_a_brief_look_at_several_is_that_at_each_alone(model, pictures):
    subjects = [look_at(picture) for picture in [*pictures, np.tile(pictures[0], (5, 5, 1))]]
    together = model.perceive_all(subjects, brief=True)
    assert together == [model.perceive_all([one], brief=True)[0] for one in subjects]
    assert together[0] == model.perceive_all(subjects[:1])[0]  # one crop is the least
    assert together[-1] != model.perceive_all(subjects[-1:])[0]


def test_together_really_means_in_one_batch(model, pictures, monkeypatch):
    batches = []
    whole = model.residuals
    monkeypatch.setattr(model, "residuals", lambda images, told: batches.append(len(images)) or whole(images, told))
    subjects = [look_at(picture) for picture in pictures[:3]]
    list(model.restore_all(subjects, model.perceive_all(subjects), make_recipe(task="denoise")))
    assert batches == [3]


def test_pictures_are_handed_out_as_they_are_finished(model, pictures):
    subjects = [look_at(pictures[0]), look_at(pictures[3])]
    results = model.restore_all(subjects, model.perceive_all(subjects), make_recipe(task="denoise"))
    assert next(results)[0] == 0
    results.close()


def test_a_specialist_works_only_on_the_pictures_of_a_batch_that_need_it(make_system):
    chain = make_system(**CHAIN).restorer
    asked = []
    for number, member in enumerate(chain.members):
        member.register_forward_pre_hook(lambda _, given, n=number: asked.append((n, len(given[0]))))
    condition = torch.zeros(3, len(TYPES))
    condition[0, TYPES.index("noise")] = condition[2, TYPES.index("noise")] = condition[1, TYPES.index("haze")] = 0.5
    images = torch.rand(3, 3, 32, 32).to(memory_format=torch.channels_last)
    together = chain(images, Signals(condition))
    assert asked == [(0, 2), (2, 2)]  # the second is a lone picture and its company
    for n in range(3):
        alone = chain(images[n : n + 1], Signals(condition[n : n + 1]))
        torch.testing.assert_close(together[n : n + 1], alone, rtol=0, atol=1e-5)

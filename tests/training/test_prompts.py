"""Prompts learn the tiers, nothing else learns with them unasked, and the numbers are those of the hand."""

import math

import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch.nn.functional import normalize

from perceive_ir.networks import Perceiver, TowerConfig
from perceive_ir_training.language import TextConfig, TextTower, text_part, tokenise, tokeniser
from perceive_ir_training.prompts import (
    SPREAD,
    VECTORS,
    WORDS,
    PromptLearner,
    only_token,
    prompt_loss,
    put_tiers,
    stack_qualities,
)

SMALL = TextConfig(embedding=6, width=8, heads=2, layers=2, context=20)
SENTENCES = [f"{'a photo with ' * 5} {word}" for word in WORDS]  # sixteen words each


def small_tower() -> TextTower:
    torch.manual_seed(0)
    return TextTower(SMALL)


def small_clip() -> torch.nn.Module:
    """A complete CLIP model, with a context of the usual length."""
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=16)
    return open_clip.CLIP(6, vision, CLIPTextCfg(width=8, heads=2, layers=2))


TOWERS = pytest.mark.parametrize("make", [small_tower, small_clip])


@pytest.fixture
def learner() -> PromptLearner:
    return PromptLearner(small_tower())


@pytest.fixture
def perceiver() -> Perceiver:
    torch.manual_seed(1)
    return Perceiver(TowerConfig(widths=(4, 4, 4, 4), embedding=6))


def pictures() -> torch.Tensor:
    """Six pictures, of low, medium and high contrast, two each."""
    torch.manual_seed(2)
    contrast = torch.tensor([0.05, 0.05, 0.4, 0.4, 1.0, 1.0])
    return 0.5 + (torch.rand(6, 3, 16, 16) - 0.5) * contrast[:, None, None, None]


# ---- the prompts


@TOWERS
def test_vectors_that_are_token_embeddings_give_the_features_of_the_text(make):
    tower = make()
    learner = PromptLearner(tower)
    tokens = tokenise(SENTENCES, len(text_part(tower).positional_embedding))
    assert (tokens[0] > 0).sum() == VECTORS + 2
    with torch.no_grad():
        learner.context.copy_(text_part(tower).token_embedding(tokens)[:, 1 : VECTORS + 1])
    torch.testing.assert_close(learner.features(), tower.encode_text(tokens, normalize=True), rtol=0, atol=1e-5)


@TOWERS
def test_vectors_start_small_and_end_with_the_word_of_the_tier(make):
    tower = make()
    context = PromptLearner(tower).context
    assert context.shape == (3, 16, 8)
    words = text_part(tower).token_embedding(torch.tensor([only_token(word) for word in WORDS]))
    assert torch.equal(context[:, -1], words)
    assert context[:, :-1].std().item() == pytest.approx(SPREAD, rel=0.15)
    assert context[:, :-1].mean().abs() < 0.004


def test_the_default_words_are_one_token_each_and_others_are_refused():
    assert [tokeniser().decode([only_token(word)]).strip() for word in WORDS] == list(WORDS)
    for word, count in (("undecipherableness", "5"), ("very good", "2"), ("", "0")):
        with pytest.raises(ValueError, match=rf"one BPE token, got '{word}' of {count}; use another word"):
            PromptLearner(small_tower(), words=("bad", word, "good"))


def test_there_is_one_word_per_tier():
    with pytest.raises(ValueError, match="low, medium, high"):
        PromptLearner(small_tower(), words=("bad", "good"))


@pytest.mark.parametrize("vectors", [0, 19])
def test_more_vectors_than_the_context_holds_are_refused(vectors):
    with pytest.raises(ValueError, match=f"expected 1 to 18 vectors for a context of 20 tokens, got {vectors}"):
        PromptLearner(small_tower(), vectors=vectors)
    assert PromptLearner(small_tower(), vectors=18).features().shape == (3, 6)


@TOWERS
def test_gradient_goes_into_the_vectors_alone_and_into_all_of_them(make):
    learner = PromptLearner(make()).train()
    embeddings, tiers = torch.eye(3, 6), torch.arange(3)
    prompt_loss(embeddings, tiers, learner.features(), 10.0).backward()
    assert {n for n, p in learner.named_parameters() if p.grad is not None} == {"context"}
    assert {n for n, p in learner.named_parameters() if p.requires_grad} == {"context"}
    assert (learner.context.grad.abs().sum(dim=-1) > 0).all()


def test_the_frozen_text_tower_stays_in_evaluation_mode(learner):
    assert learner.train().training and not learner.text.training
    assert not any(module.training for module in learner.text.modules())


def test_features_have_length_one(learner):
    torch.testing.assert_close(learner.features().norm(dim=-1), torch.ones(3))


# ---- the loss


def test_the_loss_is_the_cross_entropy_of_scaled_cosines():
    features = torch.eye(3)
    images = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.3, 0.4]])
    # Cosines: (1, 0, 0) and (0, 0.6, 0.8); the tiers are 0 and 1.
    first = -10 + math.log(math.exp(10) + 2)
    second = -6 + math.log(1 + math.exp(6) + math.exp(8))
    loss = prompt_loss(images, torch.tensor([0, 1]), features, 10.0)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_qualities_are_stacked_with_their_tiers():
    low, medium, high = (torch.full((2, 1), n) for n in (0.0, 1.0, 2.0))
    stacked, tiers = stack_qualities(low, medium, high)
    assert stacked.flatten().tolist() == tiers.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match=r"one shape, got \[\(2, 1\), \(1, 1\), \(2, 1\)\]"):
        stack_qualities(low, medium[:1], high)


# ---- with an image tower


def test_prompts_learn_to_tell_pictures_apart(learner, perceiver):
    optimiser = torch.optim.Adam([learner.context], lr=0.02)
    embeddings, tiers, losses = (
        perceiver.eval().encode_image(pictures()).detach(),
        torch.arange(3).repeat_interleave(2),
        [],
    )
    for _ in range(40):
        loss = prompt_loss(embeddings, tiers, learner.features(), 10.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_learned_features_become_the_tiers_that_the_perceiver_reads(learner, perceiver):
    put_tiers(learner, perceiver.eval())
    x = pictures()
    cosines = normalize(perceiver.encode_image(x), dim=1) @ learner.features().T
    torch.testing.assert_close(perceiver(x).tier_logits, perceiver.logit_scale.exp() * cosines)
    assert isinstance(perceiver.tiers, torch.nn.Parameter) and perceiver.tiers.is_leaf


def test_tiers_of_another_size_are_refused(learner):
    other = Perceiver(TowerConfig(widths=(4, 4, 4, 4), embedding=5))
    with pytest.raises(ValueError, match=r"expected tier features \(3, 5\), got \(3, 6\); make the embeddings"):
        put_tiers(learner, other)

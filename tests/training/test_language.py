"""Captions say what is there, and the text side of the CLIP space agrees with open_clip and with hand-made numbers."""

import copy
import json
import math
import re

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch.nn.functional import cross_entropy, normalize

from perceive_ir import TYPES, WeightsError
from perceive_ir.networks import Perceiver, TowerConfig
from perceive_ir_training.captions import (
    ADJECTIVES,
    NOUNS,
    PHOTOS,
    STRENGTHS,
    TIER_WORDS,
    caption,
    captions_of,
    describe_same,
    listed,
    strengths_of,
)
from perceive_ir_training.language import (
    TextConfig,
    TextTower,
    clip_loss,
    cosines,
    encode_embedded,
    load_text_tower,
    save_text_tower,
    text_part,
    tokenise,
    tokeniser,
)
from perceive_ir_training.losses import tiers_of

SMALL = TextConfig(embedding=6, width=8, heads=2, layers=2, context=20)
VISION = CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=16)
TEXTS = ["a terrible photo", "an excellent, clean picture of a much longer kind", ""]


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def damage(**severities: float) -> torch.Tensor:
    return torch.tensor([severities.get(t, 0.0) for t in TYPES])


def many(severities: torch.Tensor, count: int = 60) -> list[str]:
    source = random()
    return [caption(severities, source) for _ in range(count)]


def tiers_in(text: str) -> set[str]:
    said = text.replace(",", "").split()
    return {tier for tier, words in TIER_WORDS.items() for word in words if word in said}


@pytest.fixture(scope="module")
def tower() -> TextTower:
    torch.manual_seed(0)
    return TextTower(SMALL)


def clip(kind: type = open_clip.CLIP, **text) -> torch.nn.Module:
    torch.manual_seed(0)
    return kind(6, VISION, CLIPTextCfg(**{"context_length": 20, "width": 8, "heads": 2, "layers": 2, **text})).eval()


# ---- captions


def test_a_caption_says_type_strength_and_tier():
    for text in many(damage(haze=0.5, noise=0.05)):
        assert tiers_in(text) == {"low"}
        assert any(f"{a} {n}" in text for a, _ in STRENGTHS[2] for n in NOUNS["haze"]) or any(
            f"{b} hazy" in text for _, b in STRENGTHS[2]
        )
        assert any(f"{a} {n}" in text for a, _ in STRENGTHS[0] for n in NOUNS["noise"]) or any(
            f"{b} noisy" in text for _, b in STRENGTHS[0]
        )


def test_what_is_absent_or_invisible_is_not_said():
    others = {w for t in TYPES if t != "rain" for w in (*NOUNS[t], ADJECTIVES[t])}
    for text in many(damage(rain=0.4, snow=0.03)):
        assert not any(word in text for word in others)
        assert "no " not in text
        assert "clean" not in text and "undamaged" not in text


def test_a_clean_picture_is_called_excellent_and_clean():
    for text in many(damage()):
        assert tiers_in(text) == {"high"}
        assert any(word in text for word in ("no damage", "no visible damage", "clean", "undamaged"))


@pytest.mark.parametrize(("severity", "tier"), [(0.0, "high"), (0.035, "high"), (0.1, "medium"), (0.3, "low")])
def test_the_word_of_the_tier_follows_the_rule_of_the_losses(severity, tier):
    assert ("low", "medium", "high")[tiers_of(damage(blur=severity)[None])[0]] == tier
    for text in many(damage(blur=severity)):
        assert tiers_in(text) == {tier}


def test_captions_repeat_with_their_generator_and_vary_widely():
    severities = damage(haze=0.5, noise=0.05)
    assert many(severities) == many(severities)
    assert many(severities) != [caption(severities, random(1)) for _ in range(60)]
    assert len(set(many(severities))) > 50
    assert (
        len({text.find("haz") < text.find("noi") for text in many(severities) if "haz" in text and "noi" in text}) == 2
    )
    assert captions_of(severities.expand(3, -1), random()) == many(severities, 3)


def test_captions_are_english():
    texts = many(damage(noise=0.7, jpeg=0.2, lowres=0.3), 200) + many(damage(), 50)
    assert not any(re.search(r"\ba [aeiou]|\ban [^aeiou]", t) for t in texts)
    assert any("an image" in t for t in texts)
    assert not any("{" in t or "  " in t for t in texts)
    assert [listed(["x"]), listed(["x", "y"]), listed(["x", "y", "z"])] == ["x", "x and y", "x, y and z"]


def test_no_word_stands_for_two_tiers_strengths_or_types():
    assert set(NOUNS) == set(ADJECTIVES) == set(TYPES)
    words = [w for group in TIER_WORDS.values() for w in group]
    words += [w for level in STRENGTHS for pair in level for w in pair]
    words += [w for group in NOUNS.values() for w in group] + list(PHOTOS)
    assert len(set(words)) == len(words)


def test_strengths_have_these_limits():
    severities = torch.zeros(1, len(TYPES))
    severities[0, :8] = torch.tensor([0.0, 0.03, 0.031, 0.119, 0.12, 0.25, 0.599, 0.6])
    assert strengths_of(severities).tolist() == [[0, 0, 1, 1, 2, 3, 3, 4]]


def test_captions_describe_the_same_if_tier_and_strengths_agree():
    rows = [damage(haze=0.3), damage(haze=0.5), damage(haze=0.7), damage(haze=0.3, noise=0.05), damage(rain=0.3)]
    rows += [damage(), damage(noise=0.02), damage(noise=0.035), damage(noise=0.05)]
    same = describe_same(torch.stack(rows))
    pairs = {(int(i), int(j)) for i, j in torch.nonzero(same) if i < j}
    assert pairs == {(0, 1), (5, 6)}  # 7 and 8 are slightly noisy both, but one is of high quality
    assert same.diagonal().all() and torch.equal(same, same.T)


def test_severities_of_another_number_of_types_are_refused():
    with pytest.raises(ValueError, match=r"expected severities \(N, 8\), got \(2, 5\)"):
        strengths_of(torch.zeros(2, 5))


def test_captions_of_three_types_fit_into_the_context():
    for seed in range(100):
        severities = torch.zeros(len(TYPES))
        severities[torch.from_numpy(random(seed).permutation(8)[:3].copy())] = 0.2
        tokenise(many(severities, 5), TextConfig().context)


# ---- tokens and the tower


def test_tokens_are_those_of_open_clip():
    assert torch.equal(tokenise(TEXTS, 20), tokeniser()(TEXTS, context_length=20))


def test_a_text_that_is_too_long_is_refused_and_not_cut():
    assert tokenise(["word " * 18], 20)[0, -1] == tokeniser().eot_token_id
    with pytest.raises(ValueError, match=r"at most 18 tokens, got 19; shorten 'word word"):
        tokenise(["word " * 19], 20)


def test_the_tower_embeds_texts_of_its_own_length(tower):
    tokens = tower.tokenise(TEXTS)
    features = tower.encode_text(tokens)
    assert features.shape == (3, 6)
    torch.testing.assert_close(tower.encode_text(tokens, normalize=True), normalize(features, dim=1))
    torch.testing.assert_close(features, tower.text(tokens))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"width": 10, "heads": 4}, {"context": -1}])
def test_sizes_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        TextConfig(**wrong)


MODELS = {
    "own": lambda: TextTower(SMALL),
    "clip": clip,
    "eos": lambda: clip(pool_type="eos", eos_id=tokeniser().eot_token_id),
    "custom": lambda: clip(open_clip.CustomTextCLIP),
    "biased projection": lambda: clip(proj_bias=True),
    "no projection": lambda: clip(proj_type="none"),
    "no causal mask": lambda: clip(no_causal_mask=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_of_tokens_give_what_the_tokens_give(name):
    model = MODELS[name]()
    tokens = tokenise(TEXTS, 20)
    embedded = text_part(model).token_embedding(tokens)
    for normal in (False, True):
        features = encode_embedded(model, embedded, tokens.argmax(dim=1), normal)
        torch.testing.assert_close(features, model.encode_text(tokens, normalize=normal), rtol=0, atol=1e-5)
    other = encode_embedded(model, embedded, tokens.argmax(dim=1) - 1)
    assert (other - model.encode_text(tokens)).abs().max() > 1e-3


def test_a_causal_tower_does_not_care_what_follows_the_end_nor_for_missing_padding(tower):
    tokens = tower.tokenise(TEXTS[:1])
    end, embedded = tokens.argmax(dim=1), tower.text.token_embedding(tokens)
    changed = embedded.clone()
    changed[:, end + 1 :] += 1
    expected = tower.encode_text(tokens)
    for given in (changed, embedded[:, : end + 1]):
        torch.testing.assert_close(encode_embedded(tower, given, end), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(encode_embedded(tower, embedded, end, normalize=True), normalize(expected, dim=1))


@pytest.mark.parametrize("shape", [(2, 21, 8), (2, 20, 7), (20, 8)])
def test_embeddings_of_another_shape_are_refused(tower, shape):
    with pytest.raises(ValueError, match=r"expected embeddings \(N, at most 20, 8\), got"):
        encode_embedded(tower, torch.zeros(shape), torch.zeros(shape[0], dtype=torch.long))


def old_clip() -> torch.nn.Module:
    """A model like those of earlier open_clip, whose transformer wants another order of axes."""
    model = clip()
    del model.transformer.batch_first
    return model


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: torch.nn.Linear(2, 2), "token_embedding"),
        (old_clip, "2.27"),
        (lambda: clip(pool_type="last"), "'last'"),
        (lambda: clip(open_clip.CustomTextCLIP, embed_cls=True), "appended"),
    ],
)
def test_a_model_that_is_read_otherwise_is_refused_with_one_that_works(make, word):
    with pytest.raises(ValueError) as caught:
        text_part(make())
    assert word in str(caught.value) and "ViT-B-32" in str(caught.value) and "\n" not in str(caught.value)


def test_a_mask_of_padding_is_refused(tower):
    masked = copy.deepcopy(tower)
    masked.text.use_pad_mask = True
    with pytest.raises(ValueError, match="mask of padding"):
        text_part(masked)


# ---- the loss


def test_the_loss_of_two_pairs_is_what_the_hand_computes():
    images, texts = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # Logits at scale 10: [[10, 6], [0, 8]].
    rows = (math.log1p(math.exp(-4)) + math.log1p(math.exp(-8))) / 2
    columns = (math.log1p(math.exp(-10)) + math.log1p(math.exp(-2))) / 2
    loss = clip_loss(images, texts, 10.0, torch.eye(2, dtype=torch.bool))
    assert loss.item() == pytest.approx((rows + columns) / 2, rel=1e-5)


def test_captions_that_describe_the_same_share_the_target():
    images, texts = torch.eye(3), torch.eye(3)
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    # Every row of 2 * identity costs log(e^2 + 2) less the mean of the logits of its targets.
    total = math.log(math.exp(2) + 2)
    expected = ((total - 1) * 2 + (total - 2)) / 3
    assert clip_loss(images, texts, 2.0, same).item() == pytest.approx(expected, rel=1e-6)
    merged = texts[[0, 0, 2]] + texts[[1, 1, 2]]
    assert clip_loss(merged, merged, 50.0, same).item() == pytest.approx(2 / 3 * math.log(2), abs=1e-4)


def test_an_unsymmetric_rule_is_used_along_both_axes():
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    logits = torch.eye(2) @ texts.T
    same = torch.tensor([[True, True], [False, True]])
    by_image = cross_entropy(logits, torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    by_text = cross_entropy(logits.T, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    torch.testing.assert_close(clip_loss(torch.eye(2), texts, 1.0, same), (by_image + by_text) / 2)


def test_lengths_do_not_count_and_gradients_reach_both_sides_and_the_scale():
    torch.manual_seed(0)
    images, texts = (torch.randn(4, 5, requires_grad=True) for _ in range(2))
    scale = torch.tensor(2.0, requires_grad=True)
    same = torch.eye(4, dtype=torch.bool)
    loss = clip_loss(images, texts, scale.exp(), same)
    torch.testing.assert_close(loss, clip_loss(3 * images, 0.1 * texts, scale.exp(), same))
    loss.backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in (images, texts, scale))


def test_cosines_keep_their_digits_where_the_networks_compute_with_few():
    torch.manual_seed(0)
    a, b = torch.randn(4, 16), torch.randn(4, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = cosines(a, b)
    torch.testing.assert_close(short, normalize(a, dim=1) @ normalize(b, dim=1).T)
    assert cosines(a.bfloat16(), b.bfloat16()).dtype == torch.float32


def test_a_sample_that_is_not_like_itself_is_refused():
    x = torch.eye(2)
    for same in (torch.zeros(2, 2, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool)):
        with pytest.raises(ValueError, match="true diagonal"):
            clip_loss(x, x, 1.0, same)


def test_image_and_text_tower_learn_to_agree():
    torch.manual_seed(0)
    perceiver, tower = Perceiver(TowerConfig(widths=(4, 4, 4, 4), embedding=6)), TextTower(SMALL)
    severities = torch.stack([damage(), damage(noise=0.5), damage(), damage(haze=0.7)])
    pictures = torch.rand(4, 3, 16, 16) * torch.tensor([1.0, 0.1, 1.0, 0.4])[:, None, None, None]
    source = random()
    made = [*perceiver.tower.parameters(), *perceiver.project.parameters(), perceiver.logit_scale, *tower.parameters()]
    optimiser = torch.optim.Adam(made, lr=1e-2)
    losses = []
    for _ in range(25):
        texts = tower.encode_text(tower.tokenise(captions_of(severities, source)))
        same = describe_same(severities)
        loss = clip_loss(perceiver.encode_image(pictures), texts, perceiver.logit_scale.exp(), same)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    floor = math.log(2) / 2  # two of the four captions say the same
    assert floor < np.mean(losses[-5:]) < floor + 0.6 * (losses[0] - floor)


# ---- files


def test_a_tower_comes_back_from_its_file_frozen_and_without_touching_the_random_numbers(tower, tmp_path):
    path = tmp_path / "folder" / "text.safetensors"
    save_text_tower(path, tower)
    state = torch.random.get_rng_state()
    loaded = load_text_tower(path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert loaded.config == SMALL and not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    tokens = tower.tokenise(TEXTS)
    torch.testing.assert_close(loaded.encode_text(tokens), tower.encode_text(tokens), rtol=0, atol=1e-5)
    assert [p.name for p in path.parent.iterdir()] == ["text.safetensors"]


def rewrite(path, *, tensors=lambda t: t, about=lambda a: a, digest: bool = True) -> None:
    """Change a file as somebody else would."""
    from safetensors.torch import save_file

    from perceive_ir._weights import digest_of, read_tensors

    old, words = read_tensors(path)
    words = about({k: v for k, v in words.items() if k != "digest"} | ({} if digest else {"digest": words["digest"]}))
    old = tensors(old)
    save_file(old, path, words | {"digest": digest_of(old, words)} if digest else words)


def without_config(about):
    return {k: v for k, v in about.items() if k != "config"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensors": lambda t: {k: v + 1 for k, v in t.items()}, "digest": False}, "digest"),
        ({"tensors": lambda t: {k: v for k, v in t.items() if "ln_final" not in k}}, "lacks the tensor"),
        ({"about": lambda a: a | {"format": "other"}}, "not a text tower of this project"),
        ({"about": lambda a: a | {"config": json.dumps({"depth": 3})}}, "'depth'"),
        ({"about": lambda a: a | {"config": "{"}}, "cannot be built"),
        ({"about": without_config}, "cannot be built"),
    ],
)
def test_a_file_that_is_not_a_sound_tower_is_refused_in_one_line(tower, tmp_path, change, words):
    path = tmp_path / "text.safetensors"
    save_text_tower(path, tower)
    rewrite(path, **change)
    with pytest.raises(WeightsError) as caught:
        load_text_tower(path)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_or_torn_file_is_refused_in_one_line(tmp_path):
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"nothing")
    for path in (torn, tmp_path / "none.safetensors"):
        with pytest.raises(WeightsError) as caught:
            load_text_tower(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

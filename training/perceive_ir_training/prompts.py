"""Stage 1: three learned prompts, one per quality tier, in the space of an image and a text tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir._vocabulary import TIERS
from perceive_ir.networks import Perceiver, System
from perceive_ir.networks.encoders import Frozen
from perceive_ir_training.language import cosines, encode_embedded, text_part, tokeniser

WORDS = ("terrible", "mediocre", "excellent")
"""The words of the tiers low, medium, high."""
VECTORS = 16
"""Learned context vectors per tier."""
SPREAD = 0.02
"""Standard deviation of the context vectors at the start."""


class PromptLearner(nn.Module):
    """Learn ``[SOT] v1 .. v16 [EOT] pad`` for each tier; the text tower is frozen, the vectors alone are trained.

    Parameters
    ----------
    text
        A `TextTower` or any ``open_clip`` model; it is frozen here and now.
    words
        One word per tier, from low to high, each a single token; its embedding is where the last vector starts.
    vectors
        Context vectors per tier.
    """

    def __init__(self, text: nn.Module, words: Sequence[str] = WORDS, vectors: int = VECTORS) -> None:
        super().__init__()
        part = text_part(text)
        context = len(part.positional_embedding)
        if len(words) != len(TIERS):
            raise ValueError(f"expected a word for each of the tiers {', '.join(TIERS)}, got {tuple(words)}")
        if not 1 <= vectors <= context - 2:
            raise ValueError(f"expected 1 to {context - 2} vectors for a context of {context} tokens, got {vectors}")
        self.held = Frozen(text)
        embed: nn.Embedding = part.token_embedding
        tokens = torch.tensor([only_token(word) for word in words], device=embed.weight.device)
        started = SPREAD * torch.randn(len(words), vectors, embed.embedding_dim, device=embed.weight.device)
        started[:, -1] = embed(tokens).float()
        self.context = nn.Parameter(started)  # (3, 16, W)
        bpe = tokeniser()
        ends = torch.tensor([bpe.sot_token_id, bpe.eot_token_id] + [0] * (context - 2 - vectors)).to(tokens)
        self.register_buffer("ends", embed(ends).float().detach()[None])  # (1, L - 16, W): SOT, EOT, padding
        self.register_buffer("eot", torch.full_like(tokens, vectors + 1))  # (3,)

    @property
    def text(self) -> nn.Module:
        """The text tower, which is saved elsewhere."""
        return self.held.net

    def features(self) -> Tensor:
        """Return the text features of the tiers, (3, D) of length 1."""
        ends = self.get_buffer("ends").expand(len(self.context), -1, -1)
        sequence = torch.cat([ends[:, :1], self.context, ends[:, 1:]], dim=1)  # (3, L, W)
        return encode_embedded(self.text, sequence, self.get_buffer("eot"), normalize=True)


def only_token(word: str) -> int:
    """Return the token of a word, which must be one."""
    tokens: list[int] = tokeniser().encode(word)
    if len(tokens) != 1:
        raise ValueError(f"expected a word that is one BPE token, got {word!r} of {len(tokens)}; use another word")
    return tokens[0]


def prompt_loss(image_embeddings: Tensor, tiers: Tensor, text_features: Tensor, scale: Tensor | float) -> Tensor:
    """Cross-entropy of the tiers, logits ``S * <f_image, t_k>``.

    Parameters
    ----------
    image_embeddings
        (3B, D), of any length.
    tiers
        (3B,): 0 low, 1 medium, 2 high.
    text_features
        (3, D) of length 1.
    scale
        S = exp(logit_scale).
    """
    return F.cross_entropy(scale * cosines(image_embeddings, text_features), tiers)


def stack_qualities(low: Tensor, medium: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Put three qualities, each (B, ...), into one batch (3B, ...) and return it with its tiers (3B,)."""
    if not low.shape == medium.shape == high.shape:
        shapes = [tuple(t.shape) for t in (low, medium, high)]
        raise ValueError(f"expected low, medium and high of one shape, got {shapes}")
    return torch.cat([low, medium, high]), torch.arange(3, device=low.device).repeat_interleave(len(low))


@torch.no_grad()
def put_tiers(learner: PromptLearner, seer: Perceiver | System) -> None:
    """Replace the tier features of a perceiver, or of a system with a frozen CLIP, by those that were learned."""
    features = learner.features()
    if features.shape != seer.tiers.shape:
        raise ValueError(
            f"expected tier features {tuple(seer.tiers.shape)}, got {tuple(features.shape)}; "
            "make the embeddings of the text and the image tower the same size"
        )
    seer.tiers.copy_(features)

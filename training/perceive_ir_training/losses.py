"""The terms of the losses; each takes tensors and returns a mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir._vocabulary import DAMAGES
from perceive_ir.networks import Reading, Readout

MEDIUM_FROM, LOW_FROM = 0.04, 0.25
"""Worst severity from which a picture counts as medium and as low quality."""
VISIBLE = 0.03
"""Severity from which a type counts as present."""
SLIGHT = 0.25
"""Weight of the severity of the slightest damage, beside 1 for severe damage."""
RARE = 2.0
"""Weight of a type that is present: each is absent from most pictures."""


def tiers_of(severities: Tensor) -> Tensor:
    """Tier of each sample by its worst damage: 0 low, 1 medium, 2 high; severities (N, T)."""
    worst = severities.amax(dim=1)
    return (worst < LOW_FROM).long() + (worst < MEDIUM_FROM).long()


def balanced_l1(
    restored: Tensor, target: Tensor, damaged: Tensor, gather: Callable[[Tensor], Tensor] = lambda rows: rows
) -> Tensor:
    """L1 over a batch (B, 3, H, W) in which much damaged pictures do not drown the others.

    Each picture weighs ``1 / sqrt(mean |damaged - target| + 0.02)``; the weights of a batch sum to 1. ``gather`` joins
    the rows of a batch that is spread over processes.
    """
    errors = gather((restored - target).abs().mean(dim=(1, 2, 3)))
    weights = gather(((damaged - target).abs().mean(dim=(1, 2, 3)) + 0.02).rsqrt())
    return (weights * errors).sum() / weights.sum()


def left_over(restored: Tensor, target: Tensor, damaged: Tensor) -> Tensor:
    """L1 over a batch (B, 3, H, W) as a share of the damage, so that slight and severe damage count alike."""
    missed, damage = ((x - target).abs().mean(dim=(1, 2, 3)) for x in (restored, damaged))
    return (missed / (damage + 1 / 255)).mean()


def perceiver_loss(
    reading: Reading, severities: Tensor, thumbnails: Tensor, paired: Tensor | None = None
) -> dict[str, Tensor]:
    """Tiers, types, severities and contrast; of thumbnails (N,) only the tonal types are judged, and the tiers."""
    judged = torch.ones_like(severities)
    judged[thumbnails] = torch.tensor([float(d.tonal) for d in DAMAGES]).to(severities)
    crops = ~thumbnails
    return {
        "tiers": F.cross_entropy(reading.tier_logits, tiers_of(severities)),
        **readout_loss(reading, severities, judged, paired),
        "contrast": contrastive(reading.contrast[crops], severities[crops]),
    }


def readout_loss(
    reading: Reading | Readout, severities: Tensor, judged: Tensor, paired: Tensor | None = None
) -> dict[str, Tensor]:
    """Types and severities, as far as they are judged (N, T).

    Of what is out of pairs (N,) the severities are not judged, for nobody knows them; they are 1 where a type is there.

    A severity is judged only where its type is present: it is read as "how much, if at all". Slight damage is shown far
    more often than strong damage; so that it does not pull all readings down, it weighs less.
    """
    present = (severities > VISIBLE).float()
    amount_weights = judged * present * (SLIGHT + severities).clamp(max=1)
    if paired is not None:
        amount_weights = amount_weights * ~paired[:, None]
    weight = torch.tensor(RARE)
    types = F.binary_cross_entropy_with_logits(reading.type_logits, present, reduction="none", pos_weight=weight)
    amounts = F.smooth_l1_loss(reading.severities, severities, beta=0.05, reduction="none")
    return {
        "types": (types * judged).sum() / judged.sum(),
        "severities": (amounts * amount_weights).sum() / amount_weights.sum().clamp_min(1),
    }


def contrastive(z: Tensor, severities: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE: rows 2i and 2i+1 are two crops of one damaged picture; negatives show other types of damage."""
    similarity = z @ z.T / temperature
    partner = torch.arange(len(z), device=z.device) ^ 1
    kinds = severities > VISIBLE
    same_kind = (kinds[:, None] == kinds[None]).all(dim=-1)
    same_kind[torch.arange(len(z), device=z.device), partner] = False
    return F.cross_entropy(similarity.masked_fill(same_kind, float("-inf")), partner)


def clip_aware(tier_logits: Tensor, temperature: float = 100.0) -> tuple[Tensor, Tensor]:
    """L_clip = mean(1 - p_high) of restored pictures, with p = softmax(temperature * cosines).

    Parameters
    ----------
    tier_logits
        Cosines (B, 3) of the pictures' embeddings with the features of low, medium and high: logits without scale.
    temperature
        Sharpness of the softmax; at 1 the loss hardly depends on the pictures.

    Returns
    -------
    tuple
        The loss, and for the log the mean probability of each tier (3,), without gradient.
    """
    probabilities = (temperature * tier_logits.float()).softmax(dim=-1)
    # As low + medium: 1 - high would be rounded to zero, while the gradient is not.
    return probabilities[:, :2].sum(dim=1).mean(), probabilities.detach().mean(dim=0)

"""The text side of the CLIP space: a small text tower, and what any ``open_clip`` text tower makes of embeddings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from open_clip import SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from perceive_ir._errors import WeightsError
from perceive_ir._weights import fill, read_signed, write_signed
from perceive_ir.networks.system import from_known_keys

FORMAT = "perceive-ir-text-1"
PARTS = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection", "attn_mask")
"""What an ``open_clip`` text tower consists of."""
AT_EOT = ("argmax", "eos")
"""Names under which ``open_clip`` takes the text feature from the EOT token."""


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the small text tower."""

    embedding: int = 256
    """That of the image tower."""
    width: int = 128
    layers: int = 2
    heads: int = 4
    context: int = 32
    """Most tokens of a text, with start and end."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ValueError(f"expected {name} >= 1, got {value}")
        if self.width % self.heads:
            raise ValueError(f"expected a width divisible by the {self.heads} heads, got {self.width}")


class TextTower(nn.Module):
    """A small CLIP text tower with ``open_clip``'s tokens; it stays with the training and is never shipped."""

    def __init__(self, config: TextConfig | None = None) -> None:
        super().__init__()
        self.config = config or TextConfig()
        self.text = TextTransformer(
            context_length=self.config.context,
            vocab_size=tokeniser().vocab_size,
            width=self.config.width,
            heads=self.config.heads,
            layers=self.config.layers,
            output_dim=self.config.embedding,
        )

    def tokenise(self, texts: Sequence[str]) -> Tensor:
        """Turn texts into tokens (N, L) on the tower's device."""
        return tokenise(texts, self.config.context).to(self.text.positional_embedding.device)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Embed texts as an ``open_clip`` model does: tokens (N, L) -> (N, D)."""
        features: Tensor = self.text(tokens)
        return F.normalize(features, dim=-1) if normalize else features


@lru_cache
def tokeniser() -> Any:
    """Return ``open_clip``'s tokeniser; its table comes with the package."""
    return SimpleTokenizer()


def tokenise(texts: Sequence[str], context: int) -> Tensor:
    """Turn texts into tokens (N, L): start, words, end, zeros. A text that is too long is refused, not cut."""
    bpe = tokeniser()
    tokens = torch.zeros(len(texts), context, dtype=torch.long)
    for row, text in zip(tokens, texts, strict=True):
        words = bpe.encode(text)
        if len(words) > context - 2:
            raise ValueError(f"expected a text of at most {context - 2} tokens, got {len(words)}; shorten {text!r}")
        row[: len(words) + 2] = torch.tensor([bpe.sot_token_id, *words, bpe.eot_token_id])
    return tokens


def text_part(model: nn.Module) -> Any:
    """Return the text tower of an ``open_clip`` model (its ``text``, or the model itself), if it ends at the EOT."""
    part: Any = getattr(model, "text", model)
    lacking = [name for name in PARTS if not hasattr(part, name)]
    lacking += [] if hasattr(getattr(part, "transformer", None), "batch_first") else ["transformer.batch_first"]
    if lacking:
        raise ValueError(
            f"expected an open_clip model with a CLIP text tower, got {type(model).__name__} without {lacking[0]}; "
            "use a model such as ViT-B-32 and open_clip_torch 2.27 or newer"
        )
    pooling = getattr(part, "text_pool_type", getattr(part, "pool_type", None))
    appended = getattr(part, "cls_emb", None) is not None or getattr(part, "use_pad_mask", False)
    if pooling not in AT_EOT or appended:
        raise ValueError(
            f"expected a text tower that is read at its EOT, got {type(model).__name__} with pooling {pooling!r}, "
            "an appended token or a mask of padding; use a model such as ViT-B-32"
        )
    return part


def encode_embedded(model: nn.Module, embeddings: Tensor, eot: Tensor, normalize: bool = False) -> Tensor:
    """Embed what stands in place of token embeddings, as ``encode_text`` of the model does with those of its tokens.

    Parameters
    ----------
    model
        An ``open_clip`` model, or a `TextTower`.
    embeddings
        (N, L, W), without the positional embedding.
    eot
        (N,), the place of the EOT in each sequence.
    normalize
        Return features of length 1.

    Returns
    -------
    Tensor
        (N, D).
    """
    part = text_part(model)
    positions: Tensor = part.positional_embedding  # (context, W)
    if embeddings.ndim != 3 or embeddings.shape[2] != positions.shape[1] or embeddings.shape[1] > len(positions):
        wanted = f"(N, at most {positions.shape[0]}, {positions.shape[1]})"
        raise ValueError(f"expected embeddings {wanted}, got {tuple(embeddings.shape)}")
    length, kind = embeddings.shape[1], part.transformer.get_cast_dtype()
    mask = None if part.attn_mask is None else part.attn_mask[:length, :length]
    x = part.transformer(embeddings.to(kind) + positions[:length].to(kind), attn_mask=mask)  # (N, L, W)
    features = project(part.ln_final(x)[torch.arange(len(x), device=x.device), eot], part.text_projection)
    return F.normalize(features, dim=-1) if normalize else features


def project(features: Tensor, projection: nn.Module | Tensor | None) -> Tensor:
    """Apply the text projection, which is a layer, a matrix or missing: (N, W) -> (N, D)."""
    if projection is None:
        return features
    projected: Tensor = projection(features) if isinstance(projection, nn.Module) else features @ projection
    return projected


def clip_loss(image_embeddings: Tensor, text_embeddings: Tensor, scale: Tensor | float, same: Tensor) -> Tensor:
    """Symmetric cross-entropy between pictures and captions, whose targets are shared among captions that agree.

    Parameters
    ----------
    image_embeddings, text_embeddings
        (N, D), of any length; row n of both belongs together.
    scale
        S = exp(logit_scale).
    same
        Boolean (N, N): captions that describe the same thing; true on the diagonal.
    """
    n = len(image_embeddings)
    if same.shape != (n, n) or not bool(same.diagonal().all()):
        raise ValueError(f"expected same ({n}, {n}) with a true diagonal, got {tuple(same.shape)}")
    logits = scale * cosines(image_embeddings, text_embeddings)
    return 0.5 * (shared_entropy(logits, same) + shared_entropy(logits.T, same.T))


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines between rows, (N, D) and (M, D) -> (N, M); in float32, for S = 100 leaves no digit to spare."""
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T


def shared_entropy(logits: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy of each row with targets shared equally among the columns that are true."""
    share = same.to(logits)
    return F.cross_entropy(logits, share / share.sum(dim=1, keepdim=True))


def save_text_tower(path: str | Path, tower: TextTower) -> None:
    """Write a text tower as safetensors with its config, at once or not at all."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in tower.state_dict().items()}
    about = {"format": FORMAT, "config": json.dumps(asdict(tower.config))}
    write_signed(Path(path), tensors, about)


def load_text_tower(path: str | Path) -> TextTower:
    """Read a text tower, frozen and in evaluation mode on the CPU."""
    path = Path(path)
    other = "give the one that its training wrote"
    tensors, about, _ = read_signed(path, FORMAT, "is not a text tower of this project", other, "train it again")
    try:
        config = from_known_keys(TextConfig, json.loads(about["config"]))
    except (ValueError, KeyError) as error:
        raise WeightsError(f"{path} describes a tower that cannot be built ({error}); train it again") from error
    with torch.random.fork_rng(devices=[]):
        tower = TextTower(config)
    fill(cast(Any, tower), tensors, path)
    return tower

"""ONNX: a network as a graph that other programs run, written only if it computes what torch does.

Branches become arithmetic: every specialist is computed, and the gate multiplies by 0 what one of them would change
that was not asked.
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from perceive_ir._catalogue import load
from perceive_ir._errors import MissingExtraError, PerceiveIRError
from perceive_ir._foreign import first_line
from perceive_ir._guide import CONDITION_STEP
from perceive_ir._triton import without_triton
from perceive_ir._version import VERSION
from perceive_ir._vocabulary import TIERS, TYPES
from perceive_ir._weights import Card
from perceive_ir.files._atomic import check_target, replacing
from perceive_ir.files._faults import writing
from perceive_ir.networks import TOWER, ForeignNet, GuidedNet, Perceiver, Signals, Specialists, System, gate
from perceive_ir.networks.guidance import guided_by

PARTS = ("restorer", "perceiver")
SUFFIX = ".onnx"
CLOSE = 1e-3
"""Largest difference to torch at which a file is written, of values in [0, 1]."""
TRIALS = ((1, 5, 7), (2, 8, 4))
"""Pictures and sides on which both are compared; sides in units of what the network demands."""


@dataclass(frozen=True)
class Graph:
    """What is exported, and what it must agree with."""

    network: nn.Module
    """Computes tensors in and tensors out, without branches that depend on values."""
    original: nn.Module
    """Computes the same as it always does; takes what the network takes."""
    lengths: Mapping[str, int | None]
    """Inputs and the length of their vectors; None is a picture (N, 3, H, W)."""
    outputs: tuple[str, ...]
    multiple: int
    """What both sides of a picture must be divisible by."""

    def inputs(self, count: int, height: int, width: int) -> dict[str, Tensor]:
        """Make up inputs: one vector of zeros and numbers small enough for gates to be half open, all others zero."""
        made = torch.Generator().manual_seed(count)

        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=made)

        def vectors(length: int) -> Tensor:
            made_up = random(count, length) / 4 * (random(count, length) > 0.5)
            made_up[1:] = 0
            return made_up

        picture = (count, 3, height * self.multiple, width * self.multiple)
        return {name: random(*picture) if n is None else vectors(n) for name, n in self.lengths.items()}


def export_onnx(
    model: str | os.PathLike[str], output: str | os.PathLike[str], part: str = "restorer", *, force: bool = False
) -> float:
    """Write a network as ONNX; nothing is written unless ONNX Runtime computes with it what torch does.

    Parameters
    ----------
    model
        Catalogue name or path of the weights.
    output
        A file that ends in .onnx.
    part
        "restorer": picture and severities in, picture out. "perceiver": crops in, tiers, types and severities out.
    force
        Whether a file that is there is replaced.

    Returns
    -------
    float
        The largest difference to torch that was found.
    """
    path = Path(output)
    if path.suffix != SUFFIX or part not in PARTS:
        parts = " or ".join(PARTS)
        raise ValueError(f"expected a name that ends in {SUFFIX} and part {parts}, got {path} and {part!r}")
    check_target(path, force=force)
    onnx, runtime = libraries()
    restorer = load(model, device="cpu", precision="float32")
    made = perceiving(restorer.system) if part == "perceiver" else restoring(restorer.system)
    proto = traced(made)
    onnx.helper.set_model_props(proto, about(restorer.card, part, made.multiple))
    data = proto.SerializeToString()
    difference = compared(made, data, runtime)
    with writing(path), replacing(path, force=force) as partial:
        partial.write_bytes(data)
    return difference


def about(card: Card, part: str, multiple: int) -> dict[str, str]:
    """Say in the file what it is and how it is used."""
    return {
        "software": f"napari-perceive-ir {VERSION}", "part": part, "name": card.name, "version": card.version,
        "licence": card.licence, "digest": card.digest, "types": json.dumps(TYPES), "tiers": json.dumps(TIERS),
        "value_range": "[0, 1]", "size_multiple": str(multiple),
    }  # fmt: skip


def restoring(system: System) -> Graph:
    """Export the restorer: picture, condition and, where it listens to them, feature vectors."""
    restorer, lengths = system.restorer, {"image": None, "condition": len(TYPES)}
    multiple = math.lcm(restorer.size_needs.multiple_of, CONDITION_STEP)
    if isinstance(restorer, ForeignNet):
        return Graph(Gated(restorer), Original(restorer), lengths, ("restored",), multiple)
    known = system.config.semantic_sizes() if system.config.semantics else ()
    vectors = {f"semantics_{number}": length for number, length in enumerate(known, start=1)}
    return Graph(Chain(restorer), Original(restorer), {**lengths, **vectors}, ("restored",), multiple)


def perceiving(system: System) -> Graph:
    """Export the perceiver; its feature vectors too, where they are those that guide the restorer."""
    names = ("tiers", "types", "severities")
    guides = system.config.semantics and system.config.encoder_config().semantics == TOWER
    vectors = tuple(f"semantics_{n}" for n in range(1, 1 + len(system.config.semantic_sizes())))
    judge = Judge(system.perceiver, guides)
    return Graph(judge, judge, {"image": None}, names + vectors * guides, Perceiver.multiple_of)


class Original(nn.Module):
    """A restorer as it is."""

    def __init__(self, restorer: nn.Module) -> None:
        super().__init__()
        self.restorer = restorer

    def forward(self, image: Tensor, condition: Tensor, *semantics: Tensor) -> Tensor:
        restored: Tensor = self.restorer(image, Signals(condition, semantics or None))
        return restored


class Chain(nn.Module):
    """A guided network or a chain of them, without branches."""

    own: Tensor

    def __init__(self, restorer: GuidedNet | Specialists) -> None:
        super().__init__()
        alone = isinstance(restorer, GuidedNet)
        self.members = nn.ModuleList([restorer] if alone else list(cast(Specialists, restorer).members))
        own = torch.ones(1, len(TYPES)) if alone else cast(Specialists, restorer).own
        self.register_buffer("own", own, persistent=False)

    def forward(self, image: Tensor, condition: Tensor, *semantics: Tensor) -> Tensor:
        for member, own in zip(cast(Sequence[GuidedNet], self.members), self.own, strict=True):
            told = Signals(condition * own, semantics or None)
            guide = guided_by(member.guidance.affine(told))  # of all pictures at once
            image = image + gate(told.condition) * (member.work(image, guide, told.condition) - image)
        return image


class Gated(nn.Module):
    """A network of others behind its gate, without branches."""

    def __init__(self, restorer: ForeignNet) -> None:
        super().__init__()
        self.restorer, self.network = restorer, restorer.network

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        shown = image.clamp(0, 1)
        pictures = shown.reshape(-1, self.restorer.channels, *shown.shape[2:])
        restored: Tensor = self.network(pictures).clamp(0, 1).reshape(shown.shape)
        return image + self.restorer.share(condition) * (restored - shown)


class Judge(nn.Module):
    """A perceiver: crops in, probabilities of tiers and of types, severities, and the feature vectors if wanted."""

    def __init__(self, perceiver: Perceiver, semantics: bool) -> None:
        super().__init__()
        self.perceiver, self.semantics = perceiver, semantics

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.perceiver.semantics(image)
        read = self.perceiver.read(features)
        found = (read.tier_logits.softmax(dim=-1), read.type_logits.sigmoid(), read.severities)
        return found + features * self.semantics


def traced(made: Graph) -> Any:
    """Return the graph as ONNX, for any number of pictures of any size that fits."""
    from torch.export import Dim

    count = Dim("count", min=1)
    sides = [Dim(name, min=1) * made.multiple for name in ("rows", "columns")]
    shapes = tuple({0: count, 2: sides[0], 3: sides[1]} if n is None else {0: count} for n in made.lengths.values())
    nested = shapes[:2] + ((shapes[2:],) if len(shapes) > 2 else ())  # feature vectors are one argument
    inputs = made.inputs(2, 3, 4)
    try:
        with quietly(), without_triton(), torch.inference_mode():
            program = torch.onnx.export(
                made.network.eval(), tuple(inputs.values()), dynamo=True, verbose=False, dynamic_shapes=nested,
                input_names=list(inputs), output_names=list(made.outputs),
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        why = first_line(cast(Exception, error.__cause__ or error))  # torch's own words only say that it failed
        raise PerceiveIRError(f"this network cannot be written as ONNX ({why}); use it through perceive_ir") from error
    assert program is not None
    return bare(program.model_proto)


def bare(proto: Any) -> Any:
    """Take away where in which source on this machine each part came from."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return proto


def compared(made: Graph, data: bytes, runtime: Any) -> float:
    """Compute with both; return the largest difference, or refuse."""
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1  # the pictures are small
    trials = [made.inputs(*trial) for trial in TRIALS]
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        found = [session.run(list(made.outputs), {n: t.numpy() for n, t in inputs.items()}) for inputs in trials]
    except Exception as error:  # the faults of ONNX Runtime have no name of their own
        found_out = f"ONNX Runtime cannot compute this network ({first_line(error)})"
        raise PerceiveIRError(f"{found_out}: nothing is written; use the model through perceive_ir") from error
    largest = 0.0
    for outputs, inputs in zip(found, trials, strict=True):
        with torch.inference_mode():
            expected = made.original(*inputs.values())
        for one, other in zip(outputs, [expected] if isinstance(expected, Tensor) else expected, strict=True):
            largest = max(largest, float((torch.from_numpy(one) - other).abs().max()))
    if not largest <= CLOSE:  # nor NaN
        found_out = f"ONNX Runtime differs by {largest:.2g} from torch, more than {CLOSE:g}"
        raise PerceiveIRError(f"{found_out}: nothing is written; use the model through perceive_ir")
    return largest


@contextmanager
def quietly() -> Iterator[None]:
    """Keep to itself what torch tells its developers."""
    logger = logging.getLogger("torch")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def libraries() -> tuple[Any, Any]:
    """Return onnx and ONNX Runtime, which are optional, as is onnxscript, which torch exports with."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtraError('ONNX needs more: pip install "napari-perceive-ir[onnx]"') from None
    return onnx, onnxruntime

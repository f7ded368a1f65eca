"""What differs for a network of others, which cannot be told what to do: its number format, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from perceive_ir._decision import Decision
from perceive_ir._recipe import Recipe
from perceive_ir._vocabulary import task_of
from perceive_ir.networks import ForeignNet
from perceive_ir.networks.model import GATE_SLOPE


def precision_for(restorer: nn.Module, wish: str) -> str:
    """Return the number format to ask for: of others nobody knows what they lose in bfloat16, so "auto" is float32."""
    if not isinstance(restorer, ForeignNet):
        return wish
    if wish == "bfloat16" and not restorer.half_works:
        raise ValueError("this network does not work in bfloat16; use precision='float32'")
    return "float32" if wish == "auto" else wish


def in_its_way(decided: Decision, recipe: Recipe, restorer: nn.Module, name: str) -> Decision:
    """Return a decision as a network carries it out, with what has to be said of that."""
    if not isinstance(restorer, ForeignNet) or (recipe.handling == "image" and decided.unchanged):
        return decided
    heard = {t: s if t in restorer.types else 0.0 for t, s in decided.condition.items()}
    note = said(heard, recipe, restorer, name)
    return replace(decided, condition=heard, note="; ".join(filter(None, [decided.note, note])))


def said(heard: Mapping[str, float], recipe: Recipe, restorer: ForeignNet, name: str) -> str:
    """Say what a network does that does the same whatever it is asked."""
    alone = f"a second opinion: {name} cannot be told a task or a severity and changes what it was made for"
    if recipe.handling != "image":
        return f"{alone}, less of it where little is wrong"
    largest = max(heard.values())
    if not largest:
        return f"unchanged: {name} was made to {' and '.join(map(task_of, restorer.types))}, and to nothing else"
    share = min(1.0, GATE_SLOPE * largest)
    if share == 1:
        return alone
    reason = f"for a severity of {largest:.2f} (all of it from {1 / GATE_SLOPE})"
    return f"{alone}; {share:.0%} of its change is applied, {reason}"

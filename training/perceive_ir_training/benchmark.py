"""The whole measurement of a model, as plain values that `report` lays out and that JSON holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perceive_ir import Restorer
from perceive_ir_training.crossfit import own_halves
from perceive_ir_training.data import Pictures
from perceive_ir_training.gate import measure_gate
from perceive_ir_training.obedience import judge_absent, judge_more, tell_absent, tell_more
from perceive_ir_training.perceiving import (
    everything,
    judge_clean,
    judge_mixtures,
    judge_singles,
    look,
    mixtures,
    pictures_in,
    scenes,
    singles,
    triplets,
)
from perceive_ir_training.quality import measure, sets_in
from perceive_ir_training.report import PERCEPTION, summary

Tell = Callable[[str], None]


def benchmark(
    restorer: Restorer,
    root: str | Path,
    *,
    only: Sequence[str] = (),
    limit: int | None = None,
    classical: bool = True,
    perception: bool | None = None,
    tell: Tell = lambda line: None,
) -> dict[str, Any]:
    """Measure a model on a data folder; returns plain values for JSON.

    Parameters
    ----------
    restorer
        The model.
    root
        Folder with ``validate`` and ``train``, or with the sets themselves.
    only
        Beginnings of the names of sets, or of "perception"; everything by default.
    limit
        Pictures per set, for a quick look.
    classical
        Run classical methods beside the model.
    perception
        Measure what the model perceives and how it obeys; by default unless ``only`` leaves it out.
    tell
        Called with a line after every part.
    """
    beginnings = tuple(only) or ("",)
    sets = [s for s in sets_in(root) if s.name.startswith(beginnings)]
    perceived = PERCEPTION.startswith(beginnings) if perception is None else perception
    if not sets and not perceived:
        found = ", ".join([*(s.name for s in sets_in(root)), PERCEPTION])
        raise ValueError(f"nothing to measure under {root}: asked for {', '.join(only) or 'sets'}; there is {found}")
    pictures = pictures_in(root, limit) if perceived else None
    scores = {}
    for data in sets:
        score = measure(restorer, data, classical=classical, limit=limit)
        scores[data.name] = score.to_dict()
        tell(f"{data.name}: {score.means['input'].psnr:.2f} -> {score.means['auto'].psnr:.2f} dB")
    values = {
        "model": {"name": restorer.card.name, "version": restorer.card.version, "sha256": restorer.card.digest},
        "settings": {
            "limit": limit,
            "device": restorer.device.type,
            "precision": str(restorer.precision).removeprefix("torch."),
        },
        "sets": scores,
        PERCEPTION: measure_perception(restorer, pictures, tell) if pictures else None,
    }
    return {"scores": summary(values), **values}


def measure_perception(restorer: Restorer, pictures: Pictures, tell: Tell = lambda line: None) -> dict[str, Any]:
    """Measure what a model perceives on clean pictures damaged by formula, and how it obeys."""
    single = look(restorer, singles(pictures))
    tell(f"perception of {len(single)} single types: done")
    mixed = look(restorer, mixtures(pictures))
    clean = look(restorer, ((picture, {}, picture.pixels) for picture in everything(pictures)))
    perceiver = restorer.system.perceiver
    made = {"gate": scenes(pictures, own_halves()), "gate_of_slight_damage": triplets(pictures)}
    gates = {
        name: measure_gate(lambda x: perceiver(x).tier_logits, drawn, device=restorer.device)
        for name, drawn in made.items()
    }
    missed = gates["gate"].missed
    tell(f"mixtures and tiers: {'missed ' + ', '.join(missed) if missed else 'passed'}")
    more = judge_more(list(tell_more(restorer, pictures)))
    absent = judge_absent(list(tell_absent(restorer, pictures)))
    tell("obedience: done")
    return {
        "pictures": {"photos": len(pictures.photos), "microscopy": len(pictures.microscopy)},
        "single": judge_singles(single),
        "mixtures": judge_mixtures(mixed),
        "clean": judge_clean(clean),
        **{name: gate.to_dict() for name, gate in gates.items()},
        "told_more": more,
        "told_absent": absent,
        "samples": [seen.to_dict() for seen in (*single, *mixed, *clean)],
    }

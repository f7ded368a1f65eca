"""A dry run: whether all that a long training needs is in place."""

from dataclasses import replace

from perceive_ir_training.config import TrainConfig


def rehearsal(config: TrainConfig) -> TrainConfig:
    """Return the configuration of a dry run: two steps of every stage, on sets that need not be whole."""
    return replace(
        config,
        name=f"{config.name}-dry-run",
        mix=replace(config.mix, whole_sets=False),
        perceiver=replace(config.perceiver, steps=2, warm_up=1),
        prompts=replace(config.prompts, steps=2, warm_up=1, medium_steps=2),
        restorer=replace(config.restorer, steps=2, warm_up=1),
    )

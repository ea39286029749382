"""Sample videos of moving shapes: `vidgen run --recipe shapes.demo --videos .vidgen/videos`.

The demo takes ten minutes on four cores; what it reaches is in docs/log.md.
"""

from typing import Any

from data_prep.settings import DataSettings
from flows.recipes.recipe import CodecChoice, FamilyChoice, Recipe, TextChoice
from vidgen_core.evaluation.settings import EvaluationSettings
from vidgen_core.registry.settings import GateSettings
from vidgen_core.sampling import Sampling
from vidgen_core.training.settings import TrainSettings

__all__ = ["demo", "tiny"]


def demo() -> Recipe:
    """A generator that does what its prompts say."""
    common: dict[str, Any] = {
        "workers": 2, "threads_per_worker": 2, "betas": (0.9, 0.99), "weight_decay": 0.0, "ema_decay": 0.99,
        "precision": "auto",
    }  # fmt: skip
    return Recipe(
        name="shapes.demo",
        model="shapes",
        data=DataSettings(),
        codec=CodecChoice(name="causal_vae", size="tiny"),
        codec_training=TrainSettings(
            steps=300, batch=32, learning_rate=2e-3, warmup_steps=30, held_out_every=100, checkpoint_every=100, **common
        ),
        text=TextChoice(name="hashed_words", size="tiny"),
        family=FamilyChoice(name="flow_matching", size="tiny"),
        training=TrainSettings(
            steps=1800, batch=32, learning_rate=1.5e-3, warmup_steps=50, optimizer="muon", held_out_every=100,
            checkpoint_every=100, **common,
        ),
        sampling=Sampling(sampler="heun", steps=12, guidance=1.5),
        gate=GateSettings(min_color=0.8, min_shape=0.6, min_direction=0.7),
    )  # fmt: skip


def tiny() -> Recipe:
    """The same line in seconds of training, for tests; what it makes is not worth looking at."""
    recipe = demo()
    small = {"steps": 6, "batch": 8, "checkpoint_every": 2, "held_out_every": 3, "log_every": 2, "warmup_steps": 1}
    lean = {"threads_per_worker": 1, "held_out_samples": 8}
    return recipe.model_copy(
        update={
            "name": "shapes.tiny",
            "codec": CodecChoice(name="causal_vae", size="tiny", options={"widths": [8, 8]}),
            "codec_training": recipe.codec_training.model_copy(update={**small, **lean}),
            "family": FamilyChoice(name="flow_matching", size="tiny", options={"network": {"dim": 48, "depth": 1}}),
            "training": recipe.training.model_copy(update={**small, **lean}),
            "sampling": Sampling(sampler="euler", steps=2, guidance=1.0),
            "evaluation": EvaluationSettings(samples=8, truth_prompts=6),
            "gate": GateSettings(),
        }
    )

"""How a run learns: a frozen value of the recipe. Imports no torch, so that a recipe opens at once."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["TrainSettings"]

# What changes neither the samples nor the mathematics of a run: it may differ between a run and its continuation.
_CIRCUMSTANCES = {
    "accumulate",
    "checkpoint_every",
    "checkpoint_uri",
    "compile",
    "device",
    "ema_snapshot_every",
    "held_out_every",
    "held_out_samples",
    "keep",
    "launcher",
    "loader_threads",
    "log_every",
    "nonfinite_limit",
    "protect_every",
    "recompute",
    "shard_workers",
    "threads_per_worker",
    "workers",
}


class TrainSettings(Frozen):
    """Settings of one training run.

    A step's batch is cut into `workers * accumulate` pieces of equal size. Gradients are taken piece by piece, so a
    run of 2 workers may go on with 1 worker that accumulates 2 pieces.

    Args:
        steps: Optimizer steps of the whole run.
        batch: Most samples a step, over all workers. A step's samples are of one shape (frames x height x width).
        token_budget: Most latent places (frames x height x width, times samples) a step, over all workers; larger
            shapes then have smaller batches. 0 is no limit.
        bucket_rates: How often each sample of a shape comes in an epoch, as {"5x32x32": 0.5}; 1 where nothing is said.
        accumulate: Pieces that each worker takes, one after the other, before a step.
        learning_rate: Peak rate; a player's relative rate multiplies it.
        warmup_steps: Steps over which the rate rises from zero.
        schedule: How the rate goes on after that; cosine and linear end at zero.
        optimizer: AdamW for everything, or Muon for the hidden matrices that a player names and AdamW for the rest.
        muon_rate: Peak rate of Muon, on the same schedule. Jordan et al. 2024, "Muon".
        weight_decay: AdamW's decay of weights with two or more axes; biases and norms are not decayed.
        betas: AdamW's moments.
        clip_norm: Longest gradient of a player.
        ema_decay: Limit of the weight average's decay; early it is (1 + n) / (10 + n) at optimizer step n.
        ema_lengths: Relative lengths, up to 0.288, of power-function averages that are tracked besides, so that an
            average of any length can be put together after training; two such as 0.05 and 0.1 are enough.
        ema_snapshot_every: Steps between kept snapshots of those; there is one at the end too.
        precision: Of the forward and backward pass; weights, moments and averages are always float32.
            "auto" is bf16 on devices that compute it natively: a run that goes on elsewhere may change its rounding.
        device: Where workers compute.
        launcher: What starts the workers: Ray, torchrun on this machine, or nothing, for one worker in the process.
        workers: Processes that train together.
        threads_per_worker: CPU threads of each.
        loader_threads: Threads of each worker that read ahead; where clips are decoded while training, several pay.
        shard_workers: Workers that share one copy of the weights, gradients and moments of a network's blocks (FSDP2);
            1 is a copy on each worker, `workers` one copy in all, and between them copies side by side (HSDP).
        recompute: Keep only the inputs of blocks for the backward pass and compute the rest again.
        compile: Compile blocks with torch.compile; the first step of each shape takes long.
        checkpoint_every: Steps between checkpoints; the last step has one too.
        checkpoint_uri: Folder or object store, such as s3://bucket/folder, in which each run has a folder for its
            checkpoints; empty is the run's own folder.
        keep: Newest checkpoints kept. That of the lowest held-out objective is kept as well, where a held-out pass and
            a checkpoint fall on the same step.
        protect_every: Steps between checkpoints that are never removed; 0 has none.
        held_out_every: Steps between passes over held-out samples; there is one at the end too.
        held_out_samples: Most samples of such a pass; 0 means no pass.
        log_every: Steps between logged rows.
        nonfinite_limit: Steps in a row with a loss or gradient that is not finite that end the run.
        seed: Of initial weights, order of samples and every draw.

    """

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    token_budget: int = Field(0, ge=0)
    bucket_rates: dict[str, Annotated[float, Field(ge=0)]] = {}
    accumulate: int = Field(1, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(100, ge=0)
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_rate: float = Field(0.02, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    ema_lengths: tuple[Annotated[float, Field(gt=0, le=0.288)], ...] = ()
    ema_snapshot_every: int = Field(500, gt=0)
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    launcher: Literal["ray", "torchrun", "process"] = "ray"
    workers: int = Field(1, gt=0)
    threads_per_worker: int = Field(1, gt=0)
    loader_threads: int = Field(1, gt=0)
    shard_workers: int = Field(1, gt=0)
    recompute: bool = False
    compile: bool = False
    checkpoint_every: int = Field(200, gt=0)
    checkpoint_uri: str = ""
    keep: int = Field(2, gt=0)
    protect_every: int = Field(0, ge=0)
    held_out_every: int = Field(200, gt=0)
    held_out_samples: int = Field(256, ge=0)
    log_every: int = Field(20, gt=0)
    nonfinite_limit: int = Field(10, gt=0)
    seed: int = 0

    @model_validator(mode="after")
    def _pieces_are_equal(self) -> "TrainSettings":
        if self.batch % self.pieces:
            raise VidgenError(
                f"A batch of {self.batch} cannot be shared by {self.workers} workers that accumulate {self.accumulate}",
                got=self.batch,
                allowed=f"a multiple of {self.pieces}",
                move=f"Set batch to {-(-self.batch // self.pieces) * self.pieces}",
            )
        return self

    @model_validator(mode="after")
    def _copies_are_whole(self) -> "TrainSettings":
        if self.workers % self.shard_workers:
            raise VidgenError(
                f"{self.workers} workers cannot be divided into groups of {self.shard_workers} that share weights",
                got=self.shard_workers,
                allowed="a divisor of training.workers",
                move=f"Set training.shard_workers to 1 or {self.workers}",
            )
        return self

    @property
    def pieces(self) -> int:
        """Into how many pieces a step's batch is cut, whoever computes them."""
        return self.workers * self.accumulate

    def identity(self) -> dict[str, Any]:
        """What fixes the result of a run; two settings with one identity may continue each other's checkpoints."""
        return {**self.model_dump(mode="json", exclude=_CIRCUMSTANCES), "pieces": self.pieces}

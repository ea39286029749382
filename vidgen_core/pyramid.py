"""The spatial pyramid of noise: a flow in stages, of which the noisier ones run at lower resolution.

Jin et al. 2024, "Pyramidal Flow Matching" (arXiv:2410.05954), sections 3.1 and 3.2. Stage 0 is the coarsest; each
stage goes from `start_noise` to `end_noise`, its own share of the way from noise to data.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from vidgen_core.shapes import Latents

__all__ = ["Stage", "block_noise", "coarser", "coarser_noise", "finer", "renoise", "stages"]

# Negative correlation within a 2x2 block of the noise that is added at a jump; 1/3 is the most that a covariance has.
_CORRELATION = 1 / 3


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        number: 0 is the coarsest.
        halvings: How often the sides are halved.
        start_noise, end_noise: Weight of the noise where the stage begins and where it ends.
        start_time, end_time: Its slice of the network's time, from 1 at noise to 0 at data.

    """

    number: int
    halvings: int
    start_noise: float
    end_noise: float
    start_time: float
    end_time: float

    def ends(self, data: Latents, noise: Latents) -> tuple[Latents, Latents]:
        """Where a sample begins and ends in this stage, by one noise.

        Args:
            data: Clean samples at the stage's size.
            noise: Standard normal draws of the same size.

        """
        end = self.end_noise * noise + (1 - self.end_noise) * data
        if self.number == 0:
            return noise, end
        blurred = finer(coarser(data))
        return self.start_noise * noise + (1 - self.start_noise) * blurred, end

    def velocity(self, data: Latents, x: Latents, rest: Tensor) -> Latents:
        """`start - end` of the line through `x` on which these data lie; the inverse of `data`.

        A sample is `x = w n + b data`, w the weight of its noise. What upsampling keeps of the data has b = 1 - w all
        along the stage; the details that it loses come in with it, b = (1 - rest) (1 - end_noise).

        Args:
            data: Clean samples at the stage's size.
            x: Where the sample is.
            rest: The share of the stage still ahead, shaped to broadcast against x; above 0 in the last stage.

        """
        travel, weight = self.start_noise - self.end_noise, self._weight(rest)
        if self.number == 0:
            return travel / weight * (x - data)
        kept = finer(coarser(x - data))
        details = (travel * x - (1 - self.end_noise) * self.start_noise * data) / weight
        return travel / weight * kept + details - finer(coarser(details))

    def data(self, velocity: Latents, x: Latents, rest: Tensor) -> Latents:
        """Clean samples at the stage's size, of the line through `x` with this `start - end`; see `velocity`."""
        travel, weight = self.start_noise - self.end_noise, self._weight(rest)
        if self.number == 0:
            return x - weight / travel * velocity
        kept = finer(coarser(x - weight / travel * velocity))
        details = (travel * x - weight * velocity) / ((1 - self.end_noise) * self.start_noise)
        return kept + details - finer(coarser(details))

    def _weight(self, rest: Tensor) -> Tensor:
        """Of the noise in a sample."""
        return rest * self.start_noise + (1 - rest) * self.end_noise

    def time(self, rest: Tensor) -> Tensor:
        """The network's time where a share `rest` of the stage is still ahead: 1 at its start, 0 at its end."""
        return self.end_time + rest * (self.start_time - self.end_time)


def stages(count: int) -> list[Stage]:
    """The stages of a pyramid, from the coarsest to the finest. Section 3.2; one stage is plain rectified flow."""
    starts, ends = [], []
    for number in range(count):
        clean = number / count
        starts.append(1 - clean / (clean + _renoising() * (1 - clean)) if number else 1.0)
        ends.append(1 - (number + 1) / count)
    travels = [start - end for start, end in zip(starts, ends, strict=True)]
    times = [1 - sum(travels[:number]) / sum(travels) for number in range(count)] + [0.0]
    return [
        Stage(number, count - 1 - number, starts[number], ends[number], times[number], times[number + 1])
        for number in range(count)
    ]


def coarser(video: Latents) -> Latents:
    """Means of 2x2 blocks; [B, C, T, H, W] to [B, C, T, H / 2, W / 2]."""
    return F.avg_pool3d(video, (1, 2, 2))


def coarser_noise(noise: Latents, halvings: int) -> Latents:
    """Noise of a larger size as noise of a smaller one: means of blocks, scaled back to unit variance."""
    for _ in range(halvings):
        noise = 2 * coarser(noise)
    return noise


def finer(video: Latents) -> Latents:
    """Each value four times; `coarser` undoes it."""
    return video.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def renoise(video: Latents, entered: Stage, total: int, noise: Latents) -> Latents:
    """The end of one stage as the start of the next.

    Upsampled noise is constant in blocks. Noise that is negatively correlated in blocks is added so that the sum is
    white again, of the weight with which the next stage begins (eq. 15).

    Args:
        video: Where the stage before ended.
        entered: The stage that begins.
        total: Number of stages.
        noise: Standard normal draws of the entered stage's size.

    """
    clean = entered.number / total
    kept = 1 / (clean + _renoising() * (1 - clean))
    added = kept * (1 - clean) / _CORRELATION**0.5
    return kept * finer(video) + added * block_noise(noise)


def block_noise(noise: Latents) -> Latents:
    """Noise of unit variance whose values in a 2x2 block are correlated by -1/3, so that each block sums to zero."""
    deviation = noise - finer(coarser(noise))
    return (1 + _CORRELATION) ** 0.5 * deviation


def _renoising() -> float:
    """How much more noise a stage begins with than the one before ended with."""
    return (1 + 1 / _CORRELATION) ** 0.5

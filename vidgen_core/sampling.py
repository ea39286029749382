"""How samples are drawn: a value of the recipe and of a model's card, which imports nothing heavy."""

from typing import Annotated, Literal

from pydantic import Field

from vidgen_core.frozen import Frozen

__all__ = ["Guidance", "Sampling"]


class Guidance(Frozen):
    """How a sample is led toward its prompt, beside how far.

    Args:
        variant: "plain" classifier-free guidance; "projected" leaves out of the difference what is parallel to the
            data predicted for the prompt (APG); "zero_star" scales the velocity for the empty prompt first (CFG-Zero*).
        parallel: Share of the parallel part that "projected" keeps.
        longest: Largest norm of the difference in "projected"; None is any.
        rescale: Share of the output whose deviation is set to that of the output for the prompt.
        start, stop: Noise times between which there is guidance; outside, the prompt alone answers.
        last_scale: Scale at the last frame, where the scale goes along a line from the first one; None is constant.

    """

    variant: Literal["plain", "projected", "zero_star"] = "plain"
    parallel: float = Field(0.0, ge=0, le=1)
    longest: float | None = Field(None, gt=0)
    rescale: float = Field(0.0, ge=0, le=1)
    start: float = Field(1.0, ge=0, le=1)
    stop: float = Field(0.0, ge=0, le=1)
    last_scale: float | None = None

    @property
    def space(self) -> Literal["data", "velocity"] | None:
        """In what the variant is defined, whatever a network puts out; None says the same in all."""
        spaces: dict[str, Literal["data", "velocity"]] = {"projected": "data", "zero_star": "velocity"}
        return spaces.get(self.variant)


class Sampling(Frozen):
    """How samples are drawn when nothing else is said.

    Args:
        sampler: File of `vidgen_core/samplers`.
        steps: Solver steps.
        guidance: Scale of classifier-free guidance; 1 is none.
        guiding: Its variant.
        negative: What guidance leads away from; "" is the empty prompt.
        conditions: Scores to ask for, by name: a number in the score's own unit, or "80%" for the value that 80 % of
            the clips learned from do not exceed. What is left out is as it comes.

    """

    sampler: str = "heun"
    steps: int = Field(16, gt=0)
    guidance: float = 2.0
    guiding: Guidance = Guidance()
    negative: str = ""
    conditions: dict[str, float | Annotated[str, Field(pattern=r"^\d{1,2}(\.\d+)?%$|^100%$")]] = {}

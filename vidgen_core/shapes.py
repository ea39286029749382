"""Names of tensor shapes, written once and checked at run time in tests only.

One axis name, one meaning: `frames height width` are pixels or latents of the same clip, `dim` is a feature width,
`tokens` counts text tokens. Video floats lie in [-1, 1]; latents have about zero mean and unit variance a channel;
noise time is 0 at data and 1 at noise.
"""

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

__all__ = ["Clips", "Context", "ContextMask", "Index", "Latents", "PerSample", "Times", "Video"]

Clips = UInt8[Tensor, "batch frames height width 3"]
Video = Float[Tensor, "batch 3 frames height width"]
Latents = Float[Tensor, "batch channels frames height width"]
Times = Float[Tensor, "batch"] | Float[Tensor, "batch frames"]
Context = Float[Tensor, "batch tokens dim"]
ContextMask = Bool[Tensor, "batch tokens"]
Index = Int64[Tensor, "batch"]
PerSample = Float[Tensor, "batch"]

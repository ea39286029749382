"""Which clips fit a codec's strides."""

from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Codec

__all__ = ["strided_shape"]


def strided_shape(codec: Codec, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(channels, frames, height, width) of a clip's latents, where the first frame is coded alone.

    Raises:
        VidgenError: The clip does not fit; the message names the nearest that does.

    """
    time, space = codec.time_stride, codec.space_stride
    for what, size, rest in (("frames", frames - 1, time), ("height", height, space), ("width", width, space)):
        if size % rest:
            fits = f"1 + a multiple of {rest}" if what == "frames" else f"a multiple of {rest}"
            raise VidgenError(
                f"This codec cannot code clips of {frames} frames at {width}x{height}",
                got={"frames": frames, "height": height, "width": width}[what],
                allowed=f"{what} of {fits}",
                move=f"Set data.{what} to {max(1, size // rest) * rest + (what == 'frames')}, or that of data.shapes",
            )
    return codec.channels, 1 + (frames - 1) // time, height // space, width // space

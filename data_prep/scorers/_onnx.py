"""Detectors in ONNX: opening them, and pictures as their input."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidgen_core.errors import VidgenError

__all__ = ["open_session", "resized"]


@lru_cache(maxsize=4)
def open_session(file: str) -> Any:
    """An onnxruntime session on one thread of the CPU; once in a process.

    Raises:
        VidgenError: onnxruntime is not installed, or cannot read the file.

    """
    try:
        import onnxruntime
    except ImportError as error:
        move = "Install it with: pip install 'vidgen[scores]'"
        raise VidgenError("Scores by ONNX models need onnxruntime", move=move) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        what = f"onnxruntime cannot read this model: {str(error).splitlines()[0][:200]}"
        raise VidgenError(what, got=file, move="Name another file in data.scores") from error


def resized(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """A picture [H, W, 3] at another size, 0 to 255."""
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)

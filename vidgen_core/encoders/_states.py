"""Reading weights that others have published, as files of PyTorch or of safetensors."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vidgen_core.errors import VidgenError

__all__ = ["absolute", "read_state"]


def absolute(path: str) -> str:
    """A path from the root: stages may stand in another folder. An empty one stays empty."""
    return str(Path(path).absolute()) if path else ""


def read_state(path: str) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; those of a training's checkpoint are under "state_dict" or "model".

    Raises:
        VidgenError: The file is missing or holds no weights.

    """
    file = Path(path)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, weights_only=True, map_location="cpu")
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise VidgenError(
            "These weights cannot be read", got=f"{path}: {(str(error).splitlines() or [''])[0][:200]}",
            allowed="a state dict of PyTorch (.pt, .pth) or .safetensors", move="Set weights to such a file",
        ) from error  # fmt: skip
    for name in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise VidgenError("This file holds no state dict", got=path, allowed="tensors by name")
    return {name.removeprefix("module."): value for name, value in state.items()}

"""What an evaluation measures: a value of the recipe, which imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vidgen_core.frozen import Frozen

__all__ = ["ClipSettings", "DinoSettings", "EvaluationSettings", "I3dSettings"]


def _absolute(path: str) -> str:
    # Stages may stand in another folder; what is no file here is a tag, or will be missed by name.
    return str(Path(path).absolute()) if path and Path(path).exists() else path


WeightsPath = Annotated[str, AfterValidator(_absolute)]


class I3dSettings(Frozen):
    """The network of FVD.

    Args:
        weights: Its TorchScript export (`i3d_torchscript.pt`), or a state dict of 400 classes under the names of the
            public PyTorch weights or of those converted from TensorFlow; "" runs nothing.
        reference: Split of the real clips; papers that follow StyleGAN-V take the training split.

    """

    weights: WeightsPath = ""
    reference: Literal["train", "held_out"] = "train"


class ClipSettings(Frozen):
    """A CLIP of open_clip.

    Args:
        model: A name of open_clip, "hf-hub:OWNER/NAME" or "local-dir:FOLDER".
        weights: A checkpoint file or a tag of open_clip; "" runs nothing, but for a model by address.

    """

    model: str = "ViT-B-32-quickgelu"
    weights: WeightsPath = ""

    @property
    def wanted(self) -> bool:
        """Whether there is something to run."""
        return bool(self.weights) or self.model.startswith(("hf-hub:", "local-dir:"))


class DinoSettings(Frozen):
    """DINO's ViT-B/16, of VBench's subject consistency.

    Args:
        weights: A state dict's file; "" runs nothing.

    """

    weights: WeightsPath = ""


class EvaluationSettings(Frozen):
    """What is measured.

    Args:
        samples: Videos for the distances, with the captions of held-out clips as prompts.
        truth_prompts: Prompts for the exact checks.
        seed: Of the samples.
        trained_clips: Most training clips that samples are compared with: memorization, and the floor of real clips
            against other real ones.
        encoders: Trained video encoders for further spaces: folders of their weights, or NAME@ALIAS or NAME/VERSION in
            the registry. Those that know captions also say how well clips fit, through the recipe's text encoder.
        i3d, clip, dino: Networks that need weights by path.

    """

    samples: int = Field(default=128, ge=4)
    truth_prompts: int = Field(default=64, ge=1)
    seed: int = 0
    trained_clips: int = Field(default=1024, ge=0)
    encoders: tuple[WeightsPath, ...] = ()
    i3d: I3dSettings = I3dSettings()
    clip: ClipSettings = ClipSettings()
    dino: DinoSettings = DinoSettings()

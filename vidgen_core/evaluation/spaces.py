"""Opening what an evaluation's settings name: extractors, models of text and clips; and why the others are not run."""

from collections.abc import Mapping

from vidgen_core.evaluation.extractors._contract import Extractor
from vidgen_core.evaluation.extractors.random_conv import RandomConv, RandomMotion
from vidgen_core.evaluation.extractors.trained import TrainedEncoder
from vidgen_core.evaluation.settings import EvaluationSettings
from vidgen_core.evaluation.text_match import ClipScore, TextMatcher
from vidgen_core.interfaces import VideoEncoder

__all__ = ["Spaces", "open_spaces"]

_OTHERS_OF_VBENCH = (
    "motion smoothness (AMT), dynamic degree (RAFT; ours is by DIS), aesthetic and imaging quality (LAION, MUSIQ), "
    "object class, multiple objects, color and spatial relationship (GRiT), human action (UMT), scene (Tag2Text), "
    "appearance style, temporal style and overall consistency (ViCLIP) need networks that vidgen does not open"
)


class Spaces:
    """What is opened.

    Attributes:
        extractors: The weightless ones first, and of these the one that sees how clips look.
        matchers: Models of captions and clips.
        not_run: Metric -> why not, with the setting that would change it.

    """

    def __init__(self) -> None:
        self.extractors: list[Extractor] = [RandomConv(), RandomMotion()]
        self.matchers: list[TextMatcher] = []
        self.not_run: dict[str, str] = {}


def open_spaces(settings: EvaluationSettings, encoders: Mapping[str, VideoEncoder] = {}) -> Spaces:
    """Open them, and take trained encoders by name for further spaces.

    Raises:
        VidgenError: A path is wrong, or its file is not what it is said to be.

    """
    spaces = Spaces()
    if settings.i3d.weights:
        from vidgen_core.evaluation.extractors.i3d import I3DLogits

        spaces.extractors.append(I3DLogits(settings.i3d.weights, settings.i3d.reference))
    else:
        spaces.not_run["FVD, KVD, inception score"] = (
            "need I3D's Kinetics-400 weights: set evaluation.i3d.weights to i3d_torchscript.pt"
        )
    if settings.clip.wanted:
        from vidgen_core.evaluation.extractors.open_clip import OpenClipImages

        clip = OpenClipImages(settings.clip.model, settings.clip.weights)
        spaces.extractors.append(clip)
        spaces.matchers.append(ClipScore(clip))
    else:
        spaces.not_run["CLIP score, background consistency"] = (
            "need open_clip's weights: set evaluation.clip.weights to a checkpoint file"
        )
    if settings.dino.weights:
        from vidgen_core.evaluation.extractors.dino import DinoImages

        spaces.extractors.append(DinoImages(settings.dino.weights))
    else:
        spaces.not_run["subject consistency"] = (
            "needs DINO's ViT-B/16: set evaluation.dino.weights to dino_vitbase16_pretrain.pth"
        )
    spaces.extractors += [TrainedEncoder(name, encoder) for name, encoder in encoders.items()]
    spaces.not_run["the rest of VBench"] = _OTHERS_OF_VBENCH
    return spaces

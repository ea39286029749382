"""What the scorers that need weights are told; a field of `ScoreSettings` is a file of `data_prep/scorers`."""

from pydantic import Field

from vidgen_core.frozen import Frozen

__all__ = ["ClipHeadSettings", "ClipSettings", "OnnxSettings", "ScoreSettings", "WeightsSettings"]


class WeightsSettings(Frozen):
    """A scorer with one file.

    Args:
        weights: The file; empty leaves the scorer's columns null.

    """

    weights: str = ""


class OnnxSettings(WeightsSettings):
    """A detector in ONNX.

    Args:
        weights: The file; empty leaves the scorer's columns null.
        threshold: Least probability of what is counted.

    """

    threshold: float = Field(0.5, gt=0, lt=1)


class ClipSettings(WeightsSettings):
    """A CLIP of open_clip.

    Args:
        weights: A checkpoint file, or a tag that open_clip knows and downloads; empty leaves the column null.
        model: The architecture, by open_clip's name for it.

    """

    model: str = "ViT-L-14-quickgelu"


class ClipHeadSettings(WeightsSettings):
    """A head on the image embeddings of a CLIP.

    Args:
        weights: The head's file; empty leaves the column null.
        model: The architecture below it, by open_clip's name for it.
        backbone: That model's checkpoint file, or a tag that open_clip knows and downloads.

    """

    model: str = "ViT-L-14-quickgelu"
    backbone: str = "openai"


class ScoreSettings(Frozen):
    """Scores by models.

    Args:
        stills: Pictures of each span that are looked at.
        aesthetic: LAION's head, linear or with layers.
        text_video_match: Agreement of the stills with the caption: the one beside the video, or where there is a
            captioner the first one that a span has in the end.
        nsfw, watermark: Logistic heads.
        faces: YuNet.
        detected_text: A text detector with a map of probabilities, such as PP-OCR's.
        niqe: Parameters of the model of natural pictures.

    """

    stills: int = Field(3, ge=1, le=32)
    aesthetic: ClipHeadSettings = ClipHeadSettings()
    text_video_match: ClipSettings = ClipSettings()
    nsfw: ClipHeadSettings = ClipHeadSettings()
    watermark: ClipHeadSettings = ClipHeadSettings()
    faces: OnnxSettings = OnnxSettings(threshold=0.6)
    detected_text: OnnxSettings = OnnxSettings(threshold=0.3)
    niqe: WeightsSettings = WeightsSettings()

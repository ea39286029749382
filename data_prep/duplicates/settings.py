"""What counts as a copy."""

from pydantic import Field

from vidgen_core.frozen import Frozen

__all__ = ["DuplicateSettings", "PerceptualSettings", "SemanticSettings"]


class PerceptualSettings(Frozen):
    """Copies of the same footage: scaled, encoded again, mirrored, trimmed, letterboxed, cropped a little.

    Args:
        min_share: Two sources share footage when they have so much of the shorter one in common,
        min_excerpt_s: or so many seconds. Less than both may be chance where pictures are simple.
        min_similarity: Least mean correlation of the pictures.
        min_change_similarity: Least correlation of what changes in them.
        min_covered: A clip is dropped when so much of its time is in kept clips of better copies.

    """

    min_share: float = Field(0.6, gt=0, le=1)
    min_excerpt_s: float = Field(4.0, ge=1)
    min_similarity: float = Field(0.87, gt=0, le=1)
    min_change_similarity: float = Field(0.7, gt=0, le=1)
    min_covered: float = Field(0.5, gt=0, le=1)


class SemanticSettings(Frozen):
    """Clips whose middle pictures are alike to an image encoder of open_clip.

    Args:
        model: The architecture, by open_clip's name.
        weights: A checkpoint file, or a tag that open_clip can download; empty looks for no semantic duplicates.
        min_cosine: Least cosine of two clips' embeddings.

    """

    model: str = "ViT-B-32"
    weights: str = ""
    min_cosine: float = Field(0.97, gt=0, le=1)


class DuplicateSettings(Frozen):
    """What is looked for.

    Args:
        perceptual: Copies of the same footage; None looks for none.
        semantic: Clips that are alike to an image encoder.

    """

    perceptual: PerceptualSettings | None = PerceptualSettings()
    semantic: SemanticSettings = SemanticSettings()

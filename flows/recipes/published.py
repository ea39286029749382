"""Data settings of published systems, as far as there are scores for them: `vidgen prepare --recipe published.svd`.

Each function says where its numbers come from, and what the source has that is not here. A rule that the source does
not have is off. Clips have 256 pixels, 9 frames and 8 frames a second where the source gives no other number; the
generator behind them is that of `real.tiny`, which wants a larger one and a GPU at this size: choose one with --set.
"""

from typing import Any

from data_prep.select import RULES, Select
from flows.recipes import real
from flows.recipes.recipe import Recipe

__all__ = ["koala", "open_sora_2", "svd"]


def svd() -> Recipe:
    """Blattmann et al. 2023, "Stable Video Diffusion" (arXiv:2311.15127), the study of thresholds.

    Chosen there by human preference: without the quarter with the least motion, the quarter with the least aesthetic
    score, the half that matches its text least, and the quarter with the most text. A score without its model's
    weights (data.scores.aesthetic, data.scores.text_video_match) drops nothing. Their motion is optical flow at 2
    frames a second, their text area a network's; ours are our own measures of the same. Clips of 8 frames at 256 pixels
    in that study; ours have 9, a frame and eight more, as the causal codec takes them. The generator is told motion and
    frame rate, as theirs.

    Not here: the merging of three captions. Captions are CoCa's, as theirs in half of the cases, where
    data.captioner.weights names a checkpoint.
    """
    shares = {"min_motion": 0.25, "min_aesthetic": 0.25, "min_text_video_match": 0.5, "max_text_area": 0.25}
    recipe = _recipe("svd", Select(**_off(), need_caption=False, drop_share=shares))
    return recipe.model_copy(update={"conditions": ("motion", "source_fps")})


def open_sora_2() -> Recipe:
    """Peng et al. 2025, "Open-Sora 2.0" (arXiv:2503.09642), the filter of sources and the first stage's 256 pixels.

    Dropped are sources of less than 2 s, of less than 0.02 bits a pixel, of less than 16 frames a second, and those
    wider or higher than three to one. Black borders are cropped.

    Not here: the H.264 profile "Constrained Baseline", which is dropped there and not recorded by us; filters of
    aesthetics, text, blur, jitter and motion, whose thresholds are not published. Motion keeps our own threshold,
    which drops what stands still.
    """
    rules = {"min_source_s": 2.0, "min_bits_per_pixel": 0.02, "min_source_fps": 16.0, "min_aspect": 1 / 3,
             "max_aspect": 3.0, "min_motion": Select().min_motion}  # fmt: skip
    return _recipe("open_sora_2", Select(**{**_off(), **rules}, need_caption=False))


def koala() -> Recipe:
    """Wang et al. 2024, "Koala-36M" (arXiv:2410.08260): condition on the scores instead of filtering by them.

    Their hand-set thresholds made models worse than no filter (VBench 0.7073 against 0.7140); their learned
    filter added 0.0016 and conditioning on the scores another 0.0277 to 0.0304. So every rule is off, and the generator
    is told motion, sharpness and text area; with the weights of its model, `aesthetic` can stand beside them. Videos
    are drawn as sharp as the sharper quarter.

    Not here: the training suitability score (kept above 2.5).
    """
    recipe = _recipe("koala", Select(**_off(), need_caption=False))
    sampling = recipe.sampling.model_copy(update={"conditions": {"sharpness": "87.5%"}})
    conditions = ("motion", "sharpness", "text_area")
    return recipe.model_copy(update={"conditions": conditions, "sampling": sampling})


def _off() -> dict[str, Any]:
    return dict.fromkeys(rule.name for rule in RULES)


def _recipe(name: str, select: Select) -> Recipe:
    base = real.tiny()
    data = base.data.model_copy(update={"select": select, "height": 256, "width": 256})
    return base.model_copy(update={"name": f"published.{name}", "model": name, "data": data})

"""The page says all it was given, as text, and loads nothing."""

import re

import numpy as np
import pytest

from vidgen_core.evaluation.distances import Measurement
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.page import PageData, render

EVIL = '<script>alert("x")</script>'
CLIPS = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)


def page(**changes):
    fields = {
        "title": "shapes version 3", "promoted": True, "reasons": ["It is the first."],
        "funnel": [("files", 1234), ("clips", 0)], "rejects": {"min_motion": 7, EVIL: 1},
        "histories": {"generator": [{"step": s, "train/loss/generator": 1 / s} for s in (1, 2, 3)], "codec": []},
        "evaluation": evaluation(), "made": CLIPS, "prompts": ["a red square", EVIL], "real": CLIPS[:1],
        "captions": ["a blue circle"], "frame_rate": "8", "facts": {"recipe": "shapes.demo"},
    }  # fmt: skip
    return render(PageData(**{**fields, **changes}))


def evaluation():
    distance = Measurement(
        name="frechet, 128 videos", protocol="random/1", value=1.25, low=1.0, high=1.5, floor=0.75, n=128
    )
    return Evaluation(
        model="m", data="d", held_out={"loss": 0.2}, distances=(distance,), truth=None, truth_real=None,
        not_run={"truth": "the prompts are not of the sample world"}, seconds_per_clip=0.5,
    )  # fmt: skip


def test_everything_given_is_on_it():
    text = page()
    given = ["shapes version 3", "Promoted to champion", "It is the first.", "1,234", "min_motion", "a red square"]
    given += ["a blue circle", "1.2500", "0.7500", "random/1", "not of the sample world", "shapes.demo"]
    assert [words for words in given if words not in text] == []
    assert "Not promoted" in page(promoted=False)


def test_text_of_users_is_text():
    assert EVIL not in page()
    assert "&lt;script&gt;" in page()


def test_nothing_is_loaded_from_elsewhere():
    text = page()
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert "http" not in re.sub(r"data:[^\"]*", "", text)
    assert text.count("data:image/webp") == 3


@pytest.mark.parametrize("missing", [{"histories": {}}, {"rejects": {}}, {"real": CLIPS[:0], "captions": []}])
def test_what_is_missing_leaves_a_page_that_still_reads(missing):
    text = page(**missing)
    assert "None" not in text
    assert "nan" not in re.sub(r"data:[^\"]*", "", text).lower()

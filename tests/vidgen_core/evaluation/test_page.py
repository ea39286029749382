"""The page says all it was given, as text, and loads nothing."""

import html
import re

import numpy as np
import pytest

from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.measurements import Measurement
from vidgen_core.evaluation.page import PageData, render
from vidgen_core.evaluation.truth import Score, Share

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


def words_of(text):
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"(?s)<style>.*?</style>", "", text)))


def test_everything_given_is_on_it():
    text = words_of(page(seconds={"train": 61.25}, notes=["A note."], recipe='{"name": "shapes.demo"}'))
    given = ["shapes version 3", "Promoted to champion", "It is the first.", "1,234", "min_motion", "a red square"]
    given += ["a blue circle", "1.250", "1.500", "0.750", "random/1", "not of the sample world"]
    given += ["shapes.demo", "61.2", "A note.", '{"name": "shapes.demo"}']
    assert [words for words in given if words not in text] == []
    assert "Not promoted" in page(promoted=False)


def test_samples_through_training_stand_in_the_order_of_steps_and_no_more_than_six_of_them():
    strip = {step: np.full((1, 3, 16, 16, 3), step, np.uint8) for step in range(20, 240, 20)}
    text = page(strip=strip, strip_prompts=["a red square", EVIL][:1])
    assert re.findall("<small>(step [0-9]+)</small>", text) == [f"step {step}" for step in (20, 60, 100, 140, 180, 220)]
    assert "The same seeds" not in page()


def test_speed_stands_beside_what_was_predicted():
    rows = [{"step": step, "train/loss/generator": 1.0, "speed/samples_per_s": 10.0 * step, "speed/tokens_per_s": 800.0,
             "speed/mfu": 0.25, "speed/wait_share": 0.001, "system/peak_memory_gb": float(step)}
            for step in (1, 2, 3)]  # fmt: skip
    rows[2] |= {"speed/predicted_step_s": 0.05, "speed/measured_step_s": 0.0625}
    text = words_of(page(histories={"generator": rows}))
    assert [
        figure for figure in ("62.50 ms", "50.00 ms", "20.00", "800.0", "25.0", "3.000") if figure not in text
    ] == []
    assert "How fast" not in words_of(page())


def test_text_of_users_is_text():
    assert EVIL not in page()
    assert "&lt;script&gt;" in page()


def test_nothing_is_loaded_from_elsewhere():
    text = page()
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "http" not in re.sub(r"data:[^\"]*", "", text)
    assert text.count("data:image/webp") == 2 * 3  # in motion, and as four moments


@pytest.mark.parametrize("missing", [{"histories": {}}, {"rejects": {}}, {"real": CLIPS[:0], "captions": []}])
def test_what_is_missing_leaves_a_page_that_still_reads(missing):
    text = page(**missing)
    assert "None" not in text
    assert "nan" not in re.sub(r"data:[^\"]*", "", text).lower()


def test_it_says_whether_the_real_clips_were_learned_from():
    assert "never learned from the real clips" in page(held_out=True)
    assert "also learned from the real clips" in page(held_out=False)


def test_a_generated_clip_stands_beside_the_real_one_of_its_caption():
    text = words_of(page(prompts=["one", "two"], real=CLIPS, captions=["two", "one"]))
    assert text.count("generated") >= 2
    assert text.index("two") < text.index("one", text.index("two"))
    assert "Generated beside" not in text


def test_the_gate_is_told_where_it_asks_for_something():
    share = Share.of(50, 64)
    score = Score(one_shape=share, color=share, shape=share, direction=share, straight=share, foreign=0)
    measured = evaluation().model_copy(update={"truth": score, "truth_real": score, "not_run": {}})
    assert "The gate asks for 70" in words_of(page(evaluation=measured, wanted={"shape": 0.7}))
    assert "The gate asks for" not in words_of(page(evaluation=measured))
    assert "50 of 64" in words_of(page(evaluation=measured))


def test_the_champion_the_nearest_training_clips_and_the_records_stand_on_it():
    records = [{"seed": 7, "index": 3, "model": "abc", "prompt": EVIL}]
    text = page(champion=CLIPS, champion_is="shapes version 2", nearest=CLIPS, nearness=[0.91, 0.05], records=records,
                mistakes=[("shape", "color"), ()])  # fmt: skip
    said = words_of(text)
    assert "shapes version 2, from the same seeds" in said
    assert said.index("0.05") < said.index("0.91")  # the nearest first
    assert "wrong: shape, color" in said
    assert '"index": 3' in said
    assert EVIL not in text
    assert "same seeds" not in page(champion_is="There is no champion yet.")
    assert "There is no champion yet." in page(champion_is="There is no champion yet.")


def test_measures_of_clips_tell_which_way_is_better():
    found = evaluation().distances[0]
    measure = found.model_copy(update={"name": "flicker@clips/9f/abc", "better": "real", "floor_n": 64})
    said = words_of(page(evaluation=evaluation().model_copy(update={"measures": (measure,)})))
    assert "Nearer to real is better" in said
    assert "flicker@clips/9f/abc" in said
    assert "floor 64" in said

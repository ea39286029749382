"""Laws of the card: a curve says what the run would keep, the galleries lie at the line, the page stands alone."""

import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from data_prep.card import card
from data_prep.prepare import candidates, prepare
from data_prep.samples import make
from data_prep.select import RULES, Select, judge
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from data_prep.what_if import studies
from tests.data_prep.runners import InProcess
from vidgen_core.errors import VidgenError

OFF = dict.fromkeys(rule.name for rule in RULES)


def table(count=400, seed=0):
    rng = np.random.default_rng(seed)
    motion, sharpness = rng.exponential(size=count), rng.normal(size=count)
    motion[::17] = np.nan
    columns = {"motion": pa.array(motion, mask=np.isnan(motion)), "sharpness": sharpness}
    return pa.table({**columns, "caption": ["words" if place % 5 else "" for place in range(count)]})


@pytest.mark.parametrize("need_caption", [True, False])
def test_a_curve_says_what_each_threshold_would_keep(need_caption):
    spans = table()
    select = Select(**{**OFF, "min_motion": 0.4, "min_sharpness": -0.5, "need_caption": need_caption})
    for study in studies(spans, select):
        for place in range(0, len(study.tries), 7):
            tried = select.model_copy(update={study.rule.name: float(study.tries[place])})
            assert study.kept[place] == judge(spans, tried).kept.sum()
        now, off = judge(spans, select).kept.sum(), judge(spans, select.model_copy(update={study.rule.name: None})).kept
        assert (study.now, study.now + study.alone) == (now, off.sum())


def test_the_galleries_are_the_nearest_on_each_side_that_all_other_rules_keep():
    spans = table()
    select = Select(**{**OFF, "min_motion": 0.4, "max_brightness": None, "min_sharpness": -0.5})
    study = next(one for one in studies(spans, select, near=4) if one.rule.name == "min_motion")
    others = judge(spans, select.model_copy(update={"min_motion": None})).kept
    motion = spans["motion"].to_numpy(zero_copy_only=False)
    for places, side in ((study.above, motion >= 0.4), (study.below, motion < 0.4)):
        there = np.flatnonzero(others & side)
        assert set(places) == set(there[np.argsort(np.abs(motion[there] - 0.4))[:4]])


def test_a_score_that_nobody_has_is_not_drawn():
    spans = table()
    drawn = {study.rule.name for study in studies(spans, Select(**OFF))}
    assert drawn == {"min_motion", "min_sharpness"}


class Loads(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if tag in ("script", "link", "iframe", "object"):
            self.found.append(tag)
        self.found += [
            told[name] for name in ("src", "href") if name in told and not told[name].startswith(("data:", "#"))
        ]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("done")
    make(root / "videos", count=3, seed=3)
    settings = DataSettings(select=Select(min_motion=0.8))
    prepare(root / "videos", Tables(root / "tables"), settings, InProcess())
    return root / "videos", Tables(root / "tables"), settings


def test_the_page_stands_alone_and_shows_kept_and_dropped_clips(done):
    videos, tables, settings = done
    page = card(tables, settings, videos, {"recipe": "a <b>"})
    loads = Loads()
    loads.feed(page)
    assert loads.found == []
    assert "a &lt;b&gt;" in page
    assert "url(" not in page
    spans, select = candidates(tables, settings)
    study = next(one for one in studies(spans, select) if one.rule.name == "min_motion")
    assert study.above
    assert study.below
    ids = spans["clip_id"].to_pylist()
    pictures = dict(re.findall(r'src="(data:image/webp[^"]+)"[^>]*alt="Clip (\w+),', page))
    assert {ids[place] for place in (*study.above, *study.below)} <= set(pictures.values())
    assert "no picture" not in page


def test_without_the_videos_dropped_clips_have_no_pictures_and_it_says_why(done):
    _, tables, settings = done
    page = card(tables, settings, None, {})
    assert "no picture" in page
    assert "which were not there" in page


def test_before_anything_is_prepared_it_is_a_sentence(tmp_path):
    with pytest.raises(VidgenError, match="Run vidgen prepare first"):
        card(Tables(tmp_path), DataSettings(), None, {})

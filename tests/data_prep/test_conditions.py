"""Laws of scores as conditions: the clips' own values, null where there is none, spread as in what is learned from."""

import numpy as np
import pytest

from data_prep.conditions import spread, write_conditions
from data_prep.prepare import prepare
from data_prep.samples import make
from data_prep.settings import DataSettings
from data_prep.tables import Tables
from flows.recipes.recipe import load
from tests.data_prep.runners import InProcess
from vidgen_core.errors import VidgenError

SETTINGS = DataSettings(held_out_share=0.3)
NAMES = ("motion", "source_fps", "aesthetic")


@pytest.fixture(scope="module", name="tables")
def _tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make(folder, count=6, seed=3)
    tables = Tables(tmp_path_factory.mktemp("home") / "tables")
    prepare(folder, tables, SETTINGS, InProcess())
    return tables


def test_each_clip_has_its_own_scores_and_a_missing_one_is_null(tables):
    name = write_conditions(tables, NAMES, SETTINGS)
    rows = {row["clip_id"]: row for row in tables.read(name).to_pylist()}
    assert rows.keys() == set(tables.read("clips")["clip_id"].to_pylist())
    motion = {row["clip_id"]: row["motion"] for row in tables.read("spans").to_pylist()}
    assert all(row["motion"] == motion[clip_id] for clip_id, row in rows.items())
    assert all(row["source_fps"] > 0 and row["aesthetic"] is None for row in rows.values())
    version = tables.version(name)
    assert write_conditions(tables, NAMES, SETTINGS) == name
    assert tables.version(name) == version
    assert write_conditions(tables, NAMES[:1], SETTINGS) != name


def test_the_spread_is_that_of_the_clips_learned_from(tables):
    name = write_conditions(tables, NAMES, SETTINGS)
    train = [row["motion"] for row in tables.read(name).to_pylist() if row["split"] == "train"]
    (motion,) = spread(tables, name, ["motion"])
    assert (motion.quantiles[0], motion.quantiles[-1]) == (min(train), max(train))
    assert motion.at(0.5) == pytest.approx(np.median(train))
    with pytest.raises(VidgenError, match="No clip to learn from has the score 'aesthetic'"):
        spread(tables, name, ["aesthetic"])


def test_a_recipe_names_scores_and_asks_for_what_it_names():
    recipe = load("shapes.tiny", ['conditions=["motion"]', 'sampling.conditions={"motion": "80%"}'])
    assert recipe.conditions == ("motion",)
    with pytest.raises(VidgenError, match="(?i)did you mean 'motion'"):
        load("shapes.tiny", ['conditions=["motoin"]'])
    with pytest.raises(VidgenError, match="not among conditions"):
        load("shapes.tiny", ['sampling.conditions={"motion": "80%"}'])
    with pytest.raises(VidgenError):
        load("shapes.tiny", ['conditions=["motion"]', 'sampling.conditions={"motion": "180%"}'])

"""`vidgen encoder train`: from the clips of a home to a version in the registry, and what may be asked of it."""

import re

import pytest

from data_prep.prepare import prepare
from data_prep.samples import make
from flows.commands.forget import forget_source
from flows.encoding import encoder_recipe, train_encoder
from flows.home import Home
from flows.recipes.recipe import load
from tests.data_prep.runners import InProcess
from vidgen_core.errors import VidgenError
from vidgen_core.registry.encoders import open_video_encoder
from vidgen_core.registry.journal import read
from vidgen_core.registry.tracking import client

QUICK = ["training.steps=2", "training.batch=4", "training.held_out_samples=8", "training.warmup_steps=0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("encoding"), count=6, seed=3)


@pytest.fixture(scope="module")
def sample_home(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("samples"), count=480, seed=0)


def prepared(root, *, count, seed):
    """A home with the clips of so many sample videos; of those that are there already and further ones."""
    make(root / "videos", count=count, seed=seed)
    home = Home.open(root / "home")
    prepare(root / "videos", home.tables(), load("shapes.demo").data, InProcess())
    return home


@pytest.mark.slow
def test_an_encoder_is_trained_measured_registered_and_opened_by_its_name(home):
    made = train_encoder(home, encoder_recipe("cvrl:tiny", QUICK))
    assert (made.version.name, made.version.version, made.alias) == ("encoder-cvrl", 1, "champion")
    assert {*made.figures, *made.not_run} == {"probe", "copies"}
    opened = open_video_encoder("encoder-cvrl@champion", uri=home.mlflow_uri, cache_dir=home.cache_dir)
    assert opened.digest == open_video_encoder(made.folder).digest
    again = train_encoder(home, encoder_recipe("cvrl:tiny", QUICK))
    same = [(one.version.version, one.version.model, one.alias, one.folder) for one in (made, again)]
    assert same[0] == same[1], "what is done is not done again"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d", "timesformer", "clipbert"])
def test_each_encoder_goes_the_same_way(home, name):
    made = train_encoder(home, encoder_recipe(f"{name}:tiny", QUICK))
    assert made.version.name == f"encoder-{name}"
    assert all(0 <= value <= 1 for value in made.figures.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d", "clipbert"])
def test_a_champion_of_other_clips_is_measured_again_on_these(tmp_path, name):
    reasons = []
    for count in (6, 9):
        home = prepared(tmp_path, count=count, seed=3)
        made = train_encoder(home, encoder_recipe(f"{name}:tiny", QUICK))
        reasons.append(read(client(home.mlflow_uri), made.version.name)[-1].reasons[0])
    assert "there is no champion yet" in reasons[0]
    assert "measured again on the same clips" in reasons[1]
    told = [float(number) for number in re.findall(r"\b\d\.\d{3}\b", reasons[1])]
    assert (made.alias == "champion") == (told[0] >= told[1])


@pytest.mark.slow
@pytest.mark.parametrize("name,goals", [
    ("i3d", {"accuracy": 0.95}), ("timesformer", {"accuracy": 0.95}), ("clipbert", {"retrieval": 0.8}),
    ("cvrl", {"probe": 0.85, "copies": 0.95}),
])  # fmt: skip
def test_a_small_encoder_reaches_its_goal_on_held_out_sample_clips_unasked(sample_home, name, goals):
    figures = train_encoder(sample_home, encoder_recipe(f"{name}:tiny", [])).figures
    assert all(figures[figure] >= least for figure, least in goals.items()), figures


@pytest.mark.slow
def test_a_takedown_blocks_the_encoders_that_learned_from_it(tmp_path):
    home = prepared(tmp_path, count=6, seed=3)
    train_encoder(home, encoder_recipe("cvrl:tiny", QUICK))
    uri = home.tables().query("select any_value(uri) uri from spans join clips using (clip_id)")["uri"][0].as_py()
    told = forget_source(home, uri, sure=lambda _what: True)
    assert "is blocked until it is trained again: encoder-cvrl version 1" in told
    with pytest.raises(VidgenError, match="must not be used"):
        open_video_encoder("encoder-cvrl/1", uri=home.mlflow_uri, cache_dir=home.cache_dir)
    assert train_encoder(home, encoder_recipe("cvrl:tiny", QUICK)).version.version == 2


def test_each_encoder_learns_as_its_small_size_needs_unless_told_otherwise():
    assert encoder_recipe("i3d:tiny", []).training.learning_rate == 3e-3
    assert encoder_recipe("timesformer:tiny", []).training.batch == 32
    told = encoder_recipe("timesformer:tiny", ["training.batch=4"]).training
    assert (told.batch, told.steps) == (4, encoder_recipe("timesformer:tiny", []).training.steps)


def test_mistakes_get_a_sentence(home, tmp_path):
    with pytest.raises(VidgenError, match="encodes no video") as refusal:
        encoder_recipe("hashed_words:tiny", [])
    assert "clipbert, cvrl, i3d, timesformer" in str(refusal.value)
    with pytest.raises(VidgenError, match="no size"):
        encoder_recipe("cvrl:huge", [])
    with pytest.raises(VidgenError, match="no key"):
        encoder_recipe("cvrl:tiny", ["training.stepps=3"])
    with pytest.raises(VidgenError, match="steps"):
        encoder_recipe("cvrl:tiny", ["training.steps=-3"])
    with pytest.raises(VidgenError, match="vidgen prepare"):
        train_encoder(Home.open(tmp_path), encoder_recipe("cvrl:tiny", []))

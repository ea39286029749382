"""`vidgen encoder train`: from the clips of a home to a version in the registry, and what may be asked of it."""

import pytest

from data_prep.prepare import prepare
from data_prep.samples import make
from flows.encoding import encoder_recipe, train_encoder
from flows.home import Home
from flows.recipes.recipe import load
from tests.data_prep.runners import InProcess
from vidgen_core.errors import VidgenError
from vidgen_core.registry.encoders import open_video_encoder

QUICK = ["training.steps=2", "training.batch=4", "training.held_out_samples=8", "training.warmup_steps=0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoding")
    make(root / "videos", count=6, seed=3)
    home = Home.open(root / "home")
    prepare(root / "videos", home.tables(), load("shapes.tiny").data, InProcess())
    return home


@pytest.mark.slow
def test_an_encoder_is_trained_measured_registered_and_opened_by_its_name(home):
    made = train_encoder(home, encoder_recipe("cvrl:tiny", QUICK))
    assert (made.version.name, made.version.version, made.alias) == ("encoder-cvrl", 1, "champion")
    assert {*made.figures, *made.not_run} == {"probe", "copies"}
    opened = open_video_encoder("encoder-cvrl@champion", uri=home.mlflow_uri, cache_dir=home.cache_dir)
    assert opened.digest == open_video_encoder(made.folder).digest
    again = train_encoder(home, encoder_recipe("cvrl:tiny", QUICK))
    assert (again.version, again.folder) == (made.version, made.folder), "what is done is not done again"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d", "timesformer", "clipbert"])
def test_each_encoder_goes_the_same_way(home, name):
    made = train_encoder(home, encoder_recipe(f"{name}:tiny", QUICK))
    assert made.version.name == f"encoder-{name}"
    assert all(0 <= value <= 1 for value in made.figures.values())


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

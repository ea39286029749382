"""What comes after training is of what was trained: averages of another length, and releases when more data came."""

import pytest

from data_prep.latents import embed_captions, encode_latents
from data_prep.prepare import data_release, prepare
from data_prep.samples import make
from flows.commands.average import write_average
from flows.home import Home
from flows.recipes.recipe import load
from flows.sampling import draw
from flows.spec import Spec, StageResult
from flows.stage import ProgressFile, write_value
from flows.stages import evaluate, release, train
from tests.data_prep.runners import InProcess
from vidgen_core import weights
from vidgen_core.codecs import causal_vae
from vidgen_core.encoders._open import open_encoder
from vidgen_core.errors import VidgenError
from vidgen_core.registry.models import fetch, version_of

CHANGES = (
    "training.launcher=process", "training.workers=1", "training.steps=4", "training.batch=2",
    "training.ema_lengths=[0.05,0.1]", "training.ema_snapshot_every=1", "training.held_out_every=4",
    "training.checkpoint_every=4", "sampling.steps=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A home as `vidgen train` leaves it."""
    root = tmp_path_factory.mktemp("average")
    make(root / "videos", count=4, seed=3)
    home, recipe = Home.open(root / "home"), load("shapes.tiny", CHANGES)
    spec = Spec(stage="train", recipe=recipe, videos=root / "videos", home_dir=home.root)
    write_value(spec.spec_file, spec)
    tables = home.tables()
    prepared = prepare(spec.videos, tables, recipe.data, InProcess())
    codec = causal_vae.Config().build()
    weights.save(root / "codec", codec.state_dict(), {"name": "causal_vae", "config": {}})
    latents = encode_latents(tables, root / "codec", InProcess())
    embeddings = embed_captions(tables, open_encoder(recipe.text.name, recipe.text.config()))
    release = tables.release(["clips", latents, embeddings])
    write_value(home.releases_dir / f"{release.digest}.json", release)
    assert data_release(tables).digest == prepared.release.digest
    facts = {"codec_dir": str(root / "codec"), "latents": latents, "embeddings": embeddings, "conditions": "",
             "release": release.digest, "data": prepared.release.digest}  # fmt: skip
    write_value(spec.result_file("latents"), StageResult(stage="latents", facts=facts))
    write_value(spec.result_file("train"), train.run(spec, ProgressFile(spec.progress_file, "train")))
    return home, spec


def drawn(home, model, out):
    draw(home, model, ["a red circle"], out, seed=1, changes={}, conditions=[])
    return out.read_bytes()


@pytest.mark.slow
def test_an_average_is_drawn_from_as_a_folder_and_as_the_challenger(trained, tmp_path):
    home, spec = trained
    said = write_average(home, 0.15, tmp_path / "made", registered=True)
    assert f"{spec.recipe.model} version 1 @challenger" in said
    challenger = f"{spec.recipe.model}@challenger"
    fetched = fetch(home.mlflow_uri, challenger, home.cache_dir)
    assert weights.digest(fetched / "family") == weights.digest(tmp_path / "made" / "family")
    own = spec.result("train").facts["model_dir"]
    videos = [drawn(home, str(model), tmp_path / "video.mp4") for model in (tmp_path / "made", challenger, own)]
    assert videos[0] == videos[1] != videos[2]
    # The same average is the same version, and another one takes its place.
    assert "version 1 @challenger" in write_average(home, 0.15, tmp_path / "again", registered=True)
    assert "version 2 @challenger" in write_average(home, 0.2, tmp_path / "other", registered=True)
    with pytest.raises(VidgenError, match="0.288"):
        write_average(home, 0.5, tmp_path / "none")


@pytest.mark.slow
def test_data_that_came_after_the_training_is_not_what_its_versions_say_they_learned_from(trained, tmp_path):
    home, spec = trained
    learned, latents = spec.result("train").facts, spec.result("latents")
    assert learned["release"] == latents.facts["release"]
    later = {**latents.facts, "release": "later", "data": "later", "codec_history": ""}
    write_value(spec.result_file("latents"), latents.model_copy(update={"facts": later}))
    write_value(spec.result_file("prepare"), StageResult(stage="prepare", facts={"reasons": {}, "data": "later"}))
    for stage in (evaluate, release):
        name = stage.__name__.rpartition(".")[2]
        write_value(spec.result_file(name), stage.run(spec, ProgressFile(spec.progress_file, name)))
    assert spec.result("release").facts["data"] == learned["data"]
    number = spec.result("release").facts["version"]
    write_average(home, 0.12, tmp_path / "made", registered=True)
    for named in (f"{spec.recipe.model}/{number}", f"{spec.recipe.model}@challenger"):
        assert version_of(home.mlflow_uri, named).release == learned["release"]
    spec.result_file("evaluate").rename(tmp_path / "evaluate.json")
    with pytest.raises(VidgenError, match="vidgen evaluate"):
        release.run(spec, ProgressFile(spec.progress_file, "release"))
    (tmp_path / "evaluate.json").rename(spec.result_file("evaluate"))
    # A generator that was trained since is not released with the figures of the one before.
    again = spec.result("train").model_copy(update={"facts": {**learned, "model": "another"}})
    write_value(spec.result_file("train"), again)
    with pytest.raises(VidgenError, match="vidgen evaluate"):
        release.run(spec, ProgressFile(spec.progress_file, "release"))


def test_an_average_takes_the_place_of_nothing(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(VidgenError, match="new folder cannot be made there"):
        write_average(Home.open(tmp_path / "home"), 0.1, tmp_path / "mine")

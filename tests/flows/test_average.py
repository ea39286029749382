"""A weight average of another length can be drawn from: out of its folder, and as the model's challenger."""

import pytest

from data_prep.latents import embed_captions, encode_latents
from data_prep.prepare import prepare
from data_prep.samples import make
from flows.commands.average import write_average
from flows.home import Home
from flows.recipes.recipe import load
from flows.sampling import draw
from flows.spec import Spec, StageResult
from flows.stage import ProgressFile, write_value
from flows.stages import train
from tests.data_prep.runners import InProcess
from vidgen_core import weights
from vidgen_core.codecs import causal_vae
from vidgen_core.encoders._open import open_encoder
from vidgen_core.errors import VidgenError
from vidgen_core.registry.models import fetch

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
    prepare(spec.videos, tables, recipe.data, InProcess())
    codec = causal_vae.Config().build()
    weights.save(root / "codec", codec.state_dict(), {"name": "causal_vae", "config": {}})
    latents = encode_latents(tables, root / "codec", InProcess())
    embeddings = embed_captions(tables, open_encoder(recipe.text.name, recipe.text.config()))
    release = tables.release(["clips", latents, embeddings])
    write_value(home.releases_dir / f"{release.digest}.json", release)
    facts = {"codec_dir": str(root / "codec"), "latents": latents, "embeddings": embeddings, "conditions": "",
             "release": release.digest}  # fmt: skip
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

"""What we run is checked in: each recipe's whole value as JSON. VIDGEN_GOLDEN=1 writes it anew."""

import json
import os
from pathlib import Path

import pytest

from flows.home import Home
from flows.recipes.recipe import load, names
from flows.teacher import with_teacher
from vidgen_core.choices import FamilyChoice
from vidgen_core.errors import VidgenError

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", names())
def test_a_changed_default_shows_in_the_diff(name):
    recipe = load(name)
    whole = recipe.model_dump(mode="json")
    for part in ("codec", "text", "family"):
        whole[part] = {"name": whole[part]["name"], "config": getattr(recipe, part).config()}
    text = json.dumps(whole, indent=1, sort_keys=True) + "\n"
    file = GOLDEN / f"{name}.json"
    if os.environ.get("VIDGEN_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text)
    assert json.loads(file.read_text()) == json.loads(text)
    assert recipe.name == name


def test_changes_reach_their_place_and_what_is_made_of_it():
    recipe = load("shapes.demo", ["data.select.min_motion=0.2", "family.time_shift=4", "codec=identity"])
    assert recipe.data.select.min_motion == 0.2
    assert recipe.family.config()["time_shift"] == 4
    assert recipe.codec.name == "identity"


def test_a_family_in_a_family_is_named_like_any_other():
    recipe = load("shapes.demo", ["family=diffusion_gan:tiny", "family.teacher=diffusion:tiny", "family.steps=2"])
    config = recipe.family.config()
    assert config["teacher"]["name"] == "diffusion"
    assert config["teacher"]["options"]["zero_terminal"] is True
    assert config["steps"] == 2


def test_a_teacher_is_found_and_checked_before_anything_is_started(tmp_path):
    home = Home.open(tmp_path / "home")
    changes = ["family=diffusion_gan:tiny", f"family.teacher_weights={tmp_path}/model"]
    with pytest.raises(VidgenError, match="no trained teacher"):
        with_teacher(load("shapes.demo", changes), home)
    (tmp_path / "model").mkdir()
    card = {"family": "flow_matching", "config": FamilyChoice.model_validate("flow_matching:tiny").config()}
    (tmp_path / "model" / "generator.json").write_text(json.dumps(card))
    found = with_teacher(load("shapes.demo", changes), home)
    assert found.family.config()["teacher_weights"] == str(tmp_path / "model")
    with pytest.raises(VidgenError, match="another family"):
        with_teacher(load("shapes.demo", [*changes, "family.teacher=diffusion:tiny"]), home)
    plain = load("shapes.demo", ["family=diffusion_gan:tiny"])
    assert with_teacher(plain, home) == plain


@pytest.mark.parametrize(
    "change,sentence",
    [
        ("data.select.min_motio=1", "Did you mean 'min_motion'"),
        ("trainin.steps=1", "Did you mean 'training'"),
        ("training.steps=none", "training.steps"),
        ("training.batch=33", "cannot be shared"),
        ("family=flow_matchin", "Did you mean 'flow_matching'"),
        ("family.networ=1", "Did you mean 'network'"),
        ("training.steps", "--set data.frames=9"),
        ("training.steps.more=1", "goes too deep"),
    ],
)
def test_a_wrong_change_is_a_sentence_with_the_next_move(change, sentence):
    with pytest.raises(VidgenError) as caught:
        load("shapes.demo", [change])
    assert sentence in str(caught.value)

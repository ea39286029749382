"""What we run is checked in: each recipe's whole value as JSON. VIDGEN_GOLDEN=1 writes it anew."""

import json
import os
from pathlib import Path

import pytest

from flows.recipes.recipe import load, names
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

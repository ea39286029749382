import os

import pytest
import torch
from torch import nn

from vidgen_core import weights
from vidgen_core.errors import VidgenError


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_weights_and_card_come_back_as_they_were(tmp_path):
    saved = model().state_dict()
    digest = weights.save(tmp_path / "folder", saved, {"name": "toy", "config": {"a": 1}})
    loaded, card = weights.load(tmp_path / "folder")
    assert card == {"name": "toy", "config": {"a": 1}}
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) and loaded[name].dtype == saved[name].dtype for name in saved)
    assert digest == weights.digest(tmp_path / "folder")


def test_the_digest_is_of_the_weights_alone(tmp_path):
    saved = model().state_dict()
    turned = dict(reversed(saved.items()))
    changed = saved | {"0.bias": saved["0.bias"] + 1e-6}
    one, other, third = (
        weights.save(tmp_path / str(number), state, {"number": number})
        for number, state in enumerate((saved, turned, changed))
    )
    assert one == other != third


def test_tied_weights_and_views_can_be_saved(tmp_path):
    one = torch.arange(6.0)
    weights.save(tmp_path / "folder", {"a": one, "b": one, "c": one.view(2, 3).T}, {})
    loaded, _ = weights.load(tmp_path / "folder")
    assert torch.equal(loaded["a"], loaded["b"])
    assert torch.equal(loaded["c"], one.view(2, 3).T)


def test_saving_again_replaces_the_folder_whole(tmp_path):
    weights.save(tmp_path / "folder", {"a": torch.zeros(2)}, {"number": 1})
    weights.save(tmp_path / "folder", {"b": torch.ones(2)}, {"number": 2})
    loaded, card = weights.load(tmp_path / "folder")
    assert (list(loaded), card) == (["b"], {"number": 2})
    assert [place.name for place in tmp_path.iterdir()] == ["folder"]


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    weights.save(tmp_path / "folder", {"a": torch.zeros(2)}, {})

    def full(file, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "write_synced", full)
    with pytest.raises(OSError, match="No space"):
        weights.save(tmp_path / "folder", {"a": torch.ones(2)}, {})
    assert torch.equal(weights.load(tmp_path / "folder")[0]["a"], torch.zeros(2))
    assert [place.name for place in tmp_path.iterdir()] == ["folder"]


def test_missing_and_damaged_weights_are_sentences(tmp_path):
    with pytest.raises(VidgenError, match="no weights"):
        weights.load(tmp_path / "nothing")
    weights.save(tmp_path / "folder", {"a": torch.zeros(200)}, {})
    os.truncate(tmp_path / "folder" / "weights.safetensors", 100)
    with pytest.raises(VidgenError, match="cannot be read"):
        weights.load(tmp_path / "folder")


@pytest.mark.parametrize("change", ["missing", "more", "another shape"])
def test_weights_of_another_network_are_a_sentence_and_change_nothing(tmp_path, change):
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    if change == "missing":
        del state["0.bias"]
    elif change == "more":
        state["9.bias"] = torch.zeros(1)
    else:
        state["0.bias"] = torch.zeros(7)
    with pytest.raises(VidgenError, match=r"1 tensors differ.*[09]\.bias.*run the stage that wrote it again"):
        weights.put(state, network, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

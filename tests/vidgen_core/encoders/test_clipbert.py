"""Laws of ClipBERT: sizes, what clips say together, what it cannot see, and which captions it takes for wrong."""

import pytest
import torch
from torch.nn import functional as F

from vidgen_core.chance import Chance
from vidgen_core.encoders import clipbert
from vidgen_core.encoders.clipbert import _wrong
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Batch, Text

WORDS = HashedWords.tiny().build()


def built(**changes):
    torch.manual_seed(0)
    return clipbert.Config.tiny().model_copy(update=changes).build().eval().requires_grad_(False)


def video(count=2, frames=9):
    return torch.rand(count, 3, frames, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_paper_size_has_the_published_grid():
    with torch.device("meta"):
        encoder = clipbert.Config.paper().build()
    assert encoder.grid.weight.numel() == 14_155_776
    assert encoder.rows.shape[0] == 7 == 448 // 64
    assert sum(value.numel() for value in encoder.network.parameters()) == 23_508_032
    blocks = sum(value.numel() for value in encoder.blocks.parameters())
    assert blocks == 12 * (12 * 768**2 + 13 * 768), "the layers of BERT-base"


@pytest.mark.parametrize("clips", [1, 5])
def test_identical_clips_say_what_one_of_them_says(clips):
    logits = torch.randn(4, 1, 2)
    labels = torch.tensor([0, 1, 1, 0])
    for how in ("lse", "mean", "max"):
        together = F.cross_entropy(clipbert.aggregated(logits.expand(-1, clips, -1), how), labels)
        assert together == pytest.approx(F.cross_entropy(logits[:, 0], labels).item(), abs=1e-6)


def test_the_sum_of_exponentials_is_the_papers_probability():
    logits = torch.randn(3, 4, 2)
    expected = logits.exp().sum(1) / logits.exp().sum((1, 2))[:, None]
    assert torch.allclose(clipbert.aggregated(logits, "lse").softmax(1), expected, atol=1e-6)


@pytest.mark.parametrize("how", ["lse", "mean", "max"])
def test_the_order_of_clips_does_not_matter(how):
    logits = torch.randn(3, 4, 2)
    assert torch.allclose(clipbert.aggregated(logits, how), clipbert.aggregated(logits.flip(1), how), atol=1e-6)


def test_averaged_frames_have_no_order_unless_they_are_kept_apart_or_the_network_looks_along_time():
    text = WORDS.encode(["a red square moves left"] * 2)
    tiny = clipbert.Config.tiny().network
    flat = tiny.model_copy(update={"stem": (1, 5), "time_kernels": (1, 1, 1)})

    def matches(**changes):
        encoder = built(frames=2, stride=8, test_clips=1, **changes)
        return [encoder.match(one, text) for one in ends()]

    assert torch.allclose(*matches(network=flat), atol=1e-5)
    assert not torch.allclose(*matches(network=flat, join="tokens"), atol=1e-5)
    assert not torch.allclose(*matches(network=tiny), atol=1e-5)


def ends():
    clip = video()
    return clip, clip.flip(2)


def test_words_that_the_mask_hides_change_nothing():
    encoder = built()
    text = WORDS.encode(["a red square moves left"] * 2)
    noise = torch.where(text.mask[..., None], text.tokens, torch.randn(text.tokens.shape))
    assert torch.allclose(encoder.match(video(), text), encoder.match(video(), Text(noise, text.mask)), atol=1e-6)
    short = Text(text.tokens[:, :5], text.mask[:, :5])
    assert torch.allclose(encoder.match(video(), text), encoder.match(video(), short), atol=1e-5)


def test_all_pairs_are_scored_as_each_by_itself():
    encoder = built()
    text = WORDS.encode(["a red square", "a blue circle", "a green triangle"])
    scores = encoder.match_all(video(), text)
    assert scores.shape == (3, 2)
    for row in range(3):
        told = Text(text.tokens[[row, row]], text.mask[[row, row]])
        assert torch.allclose(scores[row], encoder.match(video(), told), atol=1e-5)


def test_wrong_captions_are_never_ones_that_may_be_right_and_mostly_those_that_resemble():
    said = ["a red square moves left", "a small red square moves left", "a red square moves right", "a blue circle"]
    text = WORDS.encode(said)
    draws = torch.rand(4, 4000, generator=torch.Generator().manual_seed(0))
    drawn = _wrong(text, text, draws, 0.0)
    assert set(drawn[0].tolist()) == {2, 3}
    assert set(drawn[1].tolist()) == {2, 3}
    assert set(drawn[3].tolist()) == {0, 1, 2}
    assert (drawn[0] == 2).float().mean() == pytest.approx(0.5, abs=0.05)
    assert (_wrong(text, text, draws, 6.0)[0] == 2).float().mean() > 0.9
    alone = WORDS.encode(["a red square", "a red square"])
    assert _wrong(alone, alone, torch.tensor([[0.0], [0.9]]), 6.0).tolist() == [[1], [0]]


def test_a_score_begins_with_the_cosine_of_video_and_caption():
    encoder, text = built(test_clips=1), WORDS.encode(["a red square moves left", "a blue circle"])
    encoder.answer[2].weight.zero_()
    encoder.answer[2].bias.zero_()
    seen = encoder.seen_as(encoder._grid(video(), encoder._spread(video())).mean((1, 2)))
    said = F.normalize(torch.where(text.mask[..., None], text.tokens, 0.0), dim=-1).sum(1)
    expected = F.cosine_similarity(seen, encoder.told_as(said)) / 0.1
    assert torch.allclose(encoder.match(video(), text), expected, atol=1e-5)


def test_captions_that_may_both_be_right_are_not_told_apart():
    encoder = built()
    seen = encoder._grid(video(), encoder._spread(video()))
    alike, other = (WORDS.encode(["a red square", caption]) for caption in ("a small red square", "a blue circle"))
    assert encoder._told_apart(seen, alike, alike) == 0
    assert encoder._told_apart(seen, other, other) > 0


def test_a_sample_alone_is_refused_for_no_caption_is_wrong():
    alone = Batch(video()[:1], WORDS.encode(["a red square"]), torch.arange(1))
    with pytest.raises(VidgenError, match="no other"):
        next(built().losses(alone, Chance(0)))

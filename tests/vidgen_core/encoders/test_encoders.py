"""Laws of text encoders that need weights, with tiny random models in the real formats."""

import json

import pytest
import torch

from vidgen_core.encoders._open import open_encoder
from vidgen_core.errors import VidgenError

CAPTIONS = ["a red square moves left", "a cat", "a red square moves left and left and left and left and left", ""]
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def make_clip(folder, seed=0):
    open_clip = pytest.importorskip("open_clip", reason="the extra vidgen[text] is not installed")
    (folder / "text_tiny.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder)
    model = open_clip.create_model("text_tiny")
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for weight in model.parameters():
            weight.normal_(std=0.2)
    file = folder / f"clip-{seed}.pt"
    torch.save(model.state_dict(), file)
    return {"model": "text_tiny", "weights": str(file)}


def make_t5(folder, seed=0):
    transformers = pytest.importorskip("transformers", reason="the extra vidgen[text] is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", *["a", "red", "square", "moves", "left", "cat", "and"]]
    plain = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    config = transformers.T5Config(
        vocab_size=len(words), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.T5EncoderModel(config)
    place = folder / f"t5-{seed}"
    model.save_pretrained(place / "text_encoder")
    tokenizer.save_pretrained(place / "tokenizer")
    return {"path": str(place), "subfolder": "text_encoder", "tokenizer_subfolder": "tokenizer", "tokens": 8}


MAKERS = {"open_clip": make_clip, "t5": make_t5}


@pytest.fixture(params=MAKERS, scope="module", name="opened")
def _opened(request, tmp_path_factory):
    """(name, a maker of configurations, an encoder)."""
    folder = tmp_path_factory.mktemp(request.param)

    def make(seed=0):
        return MAKERS[request.param](folder, seed)

    return request.param, make, open_encoder(request.param, make())


def test_shapes_are_as_told_and_hidden_tokens_are_zero(opened):
    _, _, encoder = opened
    text = encoder.encode(CAPTIONS)
    assert text.tokens.shape == (len(CAPTIONS), encoder.tokens, encoder.dim)
    assert text.tokens.dtype == torch.float32
    assert not text.tokens[~text.mask].any()
    lengths = text.mask.sum(1).tolist()
    assert lengths[1] < lengths[0] < lengths[2] == encoder.tokens
    # Masks are a beginning of the tokens, and even an empty caption has its end.
    assert all(mask[:length].all() for mask, length in zip(text.mask, lengths, strict=True))
    assert lengths[3] >= 1
    text.tokens.requires_grad_().sum().backward()


def test_a_caption_is_encoded_the_same_whatever_is_beside_it(opened):
    _, _, encoder = opened
    together = encoder.encode(CAPTIONS)
    for row, caption in enumerate(CAPTIONS):
        alone = encoder.encode([caption])
        assert torch.allclose(alone.tokens[0], together.tokens[row], atol=1e-5)
        assert torch.equal(alone.mask[0], together.mask[row])


def test_the_digest_follows_weights_and_settings_and_nothing_else(opened):
    name, make, encoder = opened
    assert open_encoder(name, make()).digest == encoder.digest
    assert open_encoder(name, make(seed=1)).digest != encoder.digest
    if name == "t5":
        assert open_encoder(name, {**make(), "tokens": 9}).digest != encoder.digest


def test_clips_last_token_is_what_clip_itself_reads(tmp_path):
    open_clip = pytest.importorskip("open_clip", reason="the extra vidgen[text] is not installed")
    config = make_clip(tmp_path)
    encoder = open_encoder("open_clip", config)
    model, _, _ = open_clip.create_model_and_transforms("text_tiny", pretrained=config["weights"], load_weights=True)
    with torch.no_grad():
        expected = model.eval().encode_text(open_clip.get_tokenizer("text_tiny")(CAPTIONS))
        text = encoder.encode(CAPTIONS)
        last = text.tokens[torch.arange(len(CAPTIONS)), text.mask.sum(1) - 1]
    assert torch.allclose(last @ model.text_projection, expected, atol=1e-4)


def test_t5_is_the_librarys_own_encoder_with_its_mask(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the extra vidgen[text] is not installed")
    config = make_t5(tmp_path)
    model = transformers.T5EncoderModel.from_pretrained(tmp_path / "t5-0" / "text_encoder").eval()
    ids = torch.tensor([[3, 4, 5, 6, 7, 1]])
    with torch.no_grad():
        expected = model(input_ids=ids).last_hidden_state
    text = open_encoder("t5", config).encode([CAPTIONS[0]])
    assert torch.allclose(text.tokens[:, :6], expected, atol=1e-5)
    assert text.mask.tolist() == [[True] * 6 + [False] * 2]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("t5", {"path": "."}),
        ("open_clip", {"model": "ViT-B-33", "weights": "x"}),
        ("open_clip", {"model": "ViT-B-32"}),
        ("open_clip", {"model": "ViT-B-32", "weights": "nowhere.pt"}),
    ],
)
def test_what_cannot_be_opened_is_a_sentence(name, config):
    pytest.importorskip(name.replace("t5", "transformers"), reason="the extra vidgen[text] is not installed")
    with pytest.raises(VidgenError):
        open_encoder(name, config)

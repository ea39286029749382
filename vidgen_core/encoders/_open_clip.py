"""Opening CLIP models of open_clip. Radford et al. 2021, "Learning transferable visual models" (arXiv:2103.00020)."""

from functools import lru_cache
from typing import Any, NamedTuple

from vidgen_core.errors import VidgenError, did_you_mean

__all__ = ["OpenClip", "load_open_clip", "open_clip_models"]

# Models that open_clip knows by address and not by name; they bring their weights.
_ADDRESSES = ("hf-hub:", "local-dir:")


class OpenClip(NamedTuple):
    """A model with its transform of pictures, its tokenizer, and CLIP's own token for a caption's end if it has one."""

    model: Any
    transform: Any
    tokenizer: Any
    end: int | None


def open_clip_models(kind: str) -> list[str]:
    """Names of open_clip's models that begin so.

    Raises:
        VidgenError: open_clip is not installed.

    """
    return [name for name in _library().list_models() if name.startswith(kind)]


@lru_cache(maxsize=4)
def load_open_clip(model: str, weights: str) -> OpenClip:
    """Open a checkpoint file, or a tag that open_clip knows and downloads; once in a process.

    Args:
        model: A name of open_clip, "hf-hub:OWNER/NAME" or "local-dir:FOLDER".
        weights: File or tag; "" for a model by address, which brings them.

    Raises:
        VidgenError: open_clip is not installed, has no such model, or cannot read these weights.

    """
    open_clip = _library()
    known, by_address = open_clip.list_models(), model.startswith(_ADDRESSES)
    if model not in known and not by_address:
        raise VidgenError(f"open_clip has no model {model!r}", move=did_you_mean(model, known))
    if not weights and not by_address:
        raise VidgenError(f"{model} needs weights", allowed="a checkpoint file, or one of open_clip.list_pretrained()")
    try:
        opened, _, transform = open_clip.create_model_and_transforms(
            model, pretrained=weights or None, load_weights=True
        )
        tokenizer = open_clip.get_tokenizer(model)
    except Exception as error:
        raise VidgenError(
            f"These weights cannot be read as a {model}: {(str(error).splitlines() or [''])[0][:200]}",
            got=weights,
            allowed="a checkpoint file of that model, or one of open_clip.list_pretrained()",
            move="Set the model and its weights (for a head: the backbone) to ones that belong together",
        ) from error
    end = tokenizer.eot_token_id if isinstance(tokenizer, open_clip.SimpleTokenizer) else None
    return OpenClip(opened.eval().requires_grad_(False), transform, tokenizer, end)


def _library() -> Any:
    try:
        import open_clip
    except ImportError as error:
        move = "Install it with: pip install open_clip_torch"
        raise VidgenError("A CLIP model needs open_clip", move=move) from error
    return open_clip

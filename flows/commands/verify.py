"""`vidgen latents --verify`: a share of the latents and embeddings made again and compared."""

import json
from pathlib import Path

from data_prep.verify import Verified, verify_embeddings, verify_latents
from flows.commands.text import aligned
from flows.home import Home
from flows.spec import last_spec
from vidgen_core.encoders._open import open_encoder
from vidgen_core.errors import VidgenError

__all__ = ["mismatch", "told", "verify"]

_SHOWN = 5


def verify(home: Home, *, share: float, seed: int, tolerance: float) -> list[Verified]:
    """Compare by the codec and text encoder of the home's latest `vidgen latents`.

    Raises:
        VidgenError: It was never run there.

    """
    spec, tables = last_spec(home, "latents"), home.tables()
    codec_dir = Path(spec.result("latents").facts["codec_dir"])
    encoder = open_encoder(spec.recipe.text.name, spec.recipe.text.config())
    return [
        verify_latents(tables, codec_dir, share=share, seed=seed, tolerance=tolerance),
        verify_embeddings(tables, encoder, share=share, seed=seed, tolerance=tolerance),
    ]


def told(results: list[Verified], *, as_json: bool) -> str:
    """The comparison as text or JSON."""
    if as_json:
        return json.dumps([result.model_dump(mode="json") for result in results], indent=1)
    rows: list[tuple[str | int, ...]] = [("table", "rows", "checked", "mismatches", "worst", "tolerance")]
    rows += [
        (one.table, one.of, one.checked, len(one.mismatches), f"{one.worst:.2g}", f"{one.tolerance:g}")
        for one in results
    ]
    wrong = [f"{one.key or one.file}: {one.why}" for result in results for one in result.mismatches]
    return "\n".join([aligned(rows), *wrong])


def mismatch(home: Home, results: list[Verified]) -> VidgenError | None:
    """What to say, with exit code 1, when something is not what it should be; None when all is."""
    wrong = [(result.table, one) for result in results for one in result.mismatches]
    if not wrong:
        return None
    folders = sorted({str(home.tables_dir / table) for table, _ in wrong})
    named = [one.key or one.file for _, one in wrong]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return VidgenError(
        f"{len(wrong)} stored rows are not what their clips and captions give now",
        got=", ".join(named[:_SHOWN]) + more,
        move=f"Delete {' and '.join(folders)}, then give vidgen latents again",
        exit_code=1,
    )

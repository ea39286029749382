"""`vidgen card`: the data card as a file."""

from pathlib import Path

from data_prep.card import card
from data_prep.settings import DataSettings
from data_prep.storage import place_of
from flows.home import Home
from flows.spec import last_spec
from vidgen_core.outputs import check_out

__all__ = ["write_card"]


def write_card(home: Home, out: Path, settings: DataSettings, videos: str | None) -> str:
    """Write the page; where it is.

    Args:
        home: Whose data.
        out: An .html file.
        settings: The thresholds to draw.
        videos: Where the videos are; those of the latest prepare if not given and still there.

    Raises:
        VidgenError: The file cannot be written, or nothing was prepared.

    """
    check_out(out, (".html", ".htm"), "A card")
    spec = last_spec(home, "prepare")
    where = videos or spec.videos
    facts = {"recipe": spec.recipe.name, "videos": str(where), "home": str(home.root)}
    place = place_of(where)
    there = None if isinstance(place, Path) and not place.is_dir() else where
    out.write_text(card(home.tables(), settings, there, facts))
    return str(out)

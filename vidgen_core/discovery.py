"""The file is the registry: a thing's name is its module's name, and nothing else lists it."""

import importlib
import pkgutil
from types import ModuleType

from vidgen_core.errors import VidgenError, did_you_mean

__all__ = ["load", "names"]


def names(package: str) -> list[str]:
    """The public modules of `package`, sorted: the families, samplers, codecs, stages ... there are."""
    found = importlib.import_module(package)
    return sorted(m.name for m in pkgutil.iter_modules(found.__path__) if not m.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import `package.name`.

    Raises:
        VidgenError: There is no such file; the message lists what there is.

    """
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2].replace("_", " ")
        raise VidgenError(
            f"There is nothing called {name!r} in {kind}",
            allowed=", ".join(known),
            move=did_you_mean(name, known),
        )
    return importlib.import_module(f"{package}.{name}")

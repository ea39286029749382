"""`vidgen release --rollback` and `--copy-to`: what becomes of a version after its release."""

import getpass

from flows.home import Home, registry_at

__all__ = ["copy_release", "roll_back"]


def roll_back(home: Home, name: str) -> str:
    """Make the previous champion the champion again; what was done, as text.

    Raises:
        VidgenError: There is none, or somebody changed the champion meanwhile.

    """
    from vidgen_core.registry.promotion import rollback

    before, after = rollback(home.mlflow_uri, name, who=getpass.getuser())
    return f"{name} version {after} is the champion again, instead of version {before}."


def copy_release(home: Home, model: str, where: str) -> str:
    """Copy a version into another registry, where the gate decides about it; what was done, as text.

    Args:
        home: Whose registry it is in.
        model: `name@alias` or `name/number`.
        where: Another home, or the address of an MLflow store.

    Raises:
        VidgenError: There is no such version, it is blocked, or its bytes are not those that were registered.

    """
    from vidgen_core.registry.copies import copy_version

    uri, artifacts = registry_at(where)
    copy, decision = copy_version(home.mlflow_uri, model, uri, artifacts=artifacts, who=getpass.getuser())
    return f"{copy}, with the digest {copy.model}, is in {where}. {' '.join(decision.reasons)}"

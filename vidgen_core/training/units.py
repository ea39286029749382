"""How a learner is laid out for a run: what is recomputed, compiled and split among workers. The learner need not know.

The parts that this is done to, its units, are the items of its module lists and sequences: a network's blocks, which
hold nearly all of its weights. Whatever stands outside of them is small and stays whole on every worker.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from vidgen_core.interfaces import Learner
from vidgen_core.layers.across import Recomputing
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings

__all__ = ["lay_out", "plain_name", "shard", "splittable", "units", "wrapped"]


def units(learner: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """(parent, name in it, unit) of each outermost item of a module list, or of a sequence of blocks, with weights.

    A sequence without blocks in it, such as a perceptron, is one unit. Items that are never called themselves are
    looked into.
    """
    for name, child in learner.named_children():
        if next(child.parameters(), None) is None:
            continue
        if isinstance(child, nn.ModuleList | nn.ModuleDict) or _has_blocks(child):
            for place, item in child.named_children():
                if next(item.parameters(), None) is None:
                    continue
                if type(item).forward is nn.Module.forward:
                    yield from units(item)
                else:
                    yield child, place, item
        elif isinstance(child, nn.Sequential):
            yield learner, name, child
        else:
            yield from units(child)


def lay_out(learner: Learner, settings: TrainSettings, place: Place) -> Learner:
    """Make a learner on its device ready for a run: compiled, recomputed and split, from the inside out.

    Args:
        learner: It is changed in place; names of weights stay as they are, weights that are split are new objects.
        settings: What of it to do.
        place: Which worker this is.

    """
    found = wrapped(learner, compiled=settings.compile, recomputed=settings.recompute)
    sharers = math.gcd(settings.shard_workers, place.world)
    if sharers > 1:
        kind, copies = place.device.split(":")[0], place.world // sharers
        if copies == 1:
            mesh = init_device_mesh(kind, (sharers,), mesh_dim_names=("shard",))
        else:
            mesh = init_device_mesh(kind, (copies, sharers), mesh_dim_names=("copy", "shard"))
        shard(learner, found, mesh)
    return learner


def wrapped(learner: Learner, *, compiled: bool, recomputed: bool) -> list[nn.Module]:
    """The units of a learner, compiled and wrapped where that is wanted; what it keeps eager is not compiled."""
    found, there, eager = [], list(units(learner)), _within(learner, learner.kept_eager)
    if compiled:
        from torch._dynamo import config as dynamo  # takes seconds to import

        # Units of one class share their code, and each kind of them, learning or measuring, is a variant of it.
        dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * len(there))
    for parent, name, unit in there:
        if compiled and unit not in eager:
            unit.compile()
        if recomputed:
            # Draws inside a unit, such as dropout's, are the same again when it is recomputed.
            unit = checkpoint_wrapper(unit, preserve_rng_state=True, context_fn=lambda: (nullcontext(), Recomputing()))
            parent.register_module(name, unit)
        found.append(unit)
    return found


def shard(learner: Learner, split: Sequence[nn.Module], mesh: DeviceMesh) -> None:
    """Split the weights of some parts over the last axis of a mesh (FSDP2; with two axes hybrid: split and copied).

    What the learner wants kept whole is not split.
    """
    split = splittable(learner, split)
    for unit in split:
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    inside = {weight for unit in split for weight in unit.parameters()}
    # The learner owns no weights of the split; as the root it lets units share streams and fetch each other ahead.
    fully_shard(learner, mesh=mesh, ignored_params=set(learner.parameters()) - inside)
    for method in ("losses", "held_out"):
        register_fsdp_forward_method(learner, method)
    for module in learner.modules():
        if isinstance(module, FSDPModule):
            # Plain sums: a player divides by the number of pieces itself, and gloo knows no other reduction.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def splittable(learner: Learner, split: Sequence[nn.Module]) -> list[nn.Module]:
    """Of some parts those that the learner does not want kept whole."""
    kept = _within(learner, learner.kept_whole)
    return [unit for unit in split if unit not in kept]


def _within(learner: Learner, names: Sequence[str]) -> set[nn.Module]:
    """All modules in some children, of which a learner without them has none."""
    children = dict(learner.named_children())
    return {module for name in names if name in children for module in children[name].modules()}


def plain_name(name: str) -> str:
    """A weight's name as it is without recomputation."""
    return name.replace(_WRAPPED, "")


_WRAPPED = "_checkpoint_wrapped_module."


def _has_blocks(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and any(next(item.children(), None) is not None for item in module)

"""How often a generator asks its network while it draws, counted and not computed."""

from collections import Counter
from collections.abc import Callable
from statistics import median_high

from torch import nn

__all__ = ["network_calls"]


def network_calls(network: nn.Module, draw: Callable[[], object]) -> int:
    """Passes through a network while something is drawn: the median over its layers of how often each was called.

    Layers that were never called (a critic's, an encoder's) do not count. A pair for guidance is one call on a batch
    twice as large. A transformer that is inverted token by token is called once a token.

    Args:
        network: A family.
        draw: Draws with it, in this thread.

    """
    calls: Counter[nn.Module] = Counter()

    def count(layer: nn.Module, *_: object) -> None:
        calls[layer] += 1

    layers = [one for one in network.modules() if any(True for _ in one.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        draw()
    finally:
        for hook in hooks:
            hook.remove()
    return median_high(calls.values()) if calls else 0

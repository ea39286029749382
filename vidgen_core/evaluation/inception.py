"""The inception score of a classifier's answers. Salimans et al. 2016 (arXiv:1606.03498), section 4."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["inception_score"]


def inception_score(logits: NDArray[np.floating]) -> float:
    """Exponential of the mean divergence of each sample's classes from those of all; of logits [N, classes].

    It lies between 1 and the number of classes, and is high where each sample is of a clear class and all classes are
    there. It never looks at a real sample, so it cannot see that clips of a class are all alike; and it means something
    only on data that the classifier knows.
    """
    values = logits.astype(np.float64)
    log_p = values - values.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    p = np.exp(log_p)
    together = p.mean(0)
    log_together = np.log(together, where=together > 0, out=np.zeros_like(together))
    return float(np.exp((p * (log_p - log_together)).sum(1).mean()))

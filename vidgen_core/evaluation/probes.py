"""What features are good for: telling classes apart by a linear layer, finding copies, finding a caption's clip."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

__all__ = ["changed_copies", "linear_probe", "recall_at_one", "recall_at_precision"]

Features = NDArray[np.floating]
_DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)


def linear_probe(
    train: Features, train_labels: NDArray[np.int64], test: Features, test_labels: NDArray[np.int64]
) -> float:
    """Share of test clips whose class a linear layer over frozen features names; Qian et al. 2021, section 4.1.

    Features are standardized by those of training and the layer is fitted by L-BFGS. Its decay is the one that does
    best on every fifth clip of training, so the test clips choose nothing.
    """
    mean, spread = train.mean(0), train.std(0) + 1e-6
    seen, unseen = ((values - mean) / spread for values in (train, test))
    kept = np.arange(len(train)) % 5 != 0
    chosen = max(
        _DECAYS, key=lambda decay: _probed(seen[kept], train_labels[kept], seen[~kept], train_labels[~kept], decay)
    )
    return _probed(seen, train_labels, unseen, test_labels, chosen)


def recall_at_precision(features: Features, copies: Features, precision: float = 0.95) -> float:
    """Share of copies that are found by a threshold on the cosine at which so many of the found pairs are copies.

    Row i of `copies` is of a changed copy of clip i; every other pair of a clip and a copy is a pair of two clips.
    """
    scores = _unit(features) @ _unit(copies).T
    right = np.eye(len(scores), dtype=bool).ravel()
    order = np.argsort(-scores.ravel(), kind="stable")
    found = np.cumsum(right[order])
    precise = found / np.arange(1, len(order) + 1) >= precision
    return float(found[precise].max(initial=0) / len(scores))


def recall_at_one(scores: NDArray[np.floating]) -> float:
    """Share of rows, captions [N, N], whose own column, the clip of the same number, has the highest score alone."""
    own = np.diag(scores)
    others = np.where(np.eye(len(scores), dtype=bool), -np.inf, scores).max(1)
    return float((own > others).mean())


def changed_copies(clips: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Near-duplicates uint8 [N, T, H, W, 3] of clips: cropped to 85 to 100 %, darker or lighter by up to 15 %, with
    noise of 4 levels, as of copies that were cut, graded and encoded again.
    """  # noqa: D205
    draws = np.random.default_rng(seed)
    height, width = clips.shape[2:4]
    made = []
    for clip in clips:
        share = draws.uniform(0.85, 1.0)
        rows, columns = max(1, round(share * height)), max(1, round(share * width))
        top, left = draws.integers(height - rows + 1), draws.integers(width - columns + 1)
        part = torch.from_numpy(clip[:, top : top + rows, left : left + columns].copy()).permute(0, 3, 1, 2).float()
        scaled = F.interpolate(part, size=(height, width), mode="bilinear", antialias=True).permute(0, 2, 3, 1).numpy()
        noisy = scaled * draws.uniform(0.85, 1.15) + draws.normal(0.0, 4.0, clip.shape)
        made.append(noisy.round().clip(0, 255).astype(np.uint8))
    return np.stack(made)


def _probed(
    train: Features, train_labels: NDArray[np.int64], test: Features, test_labels: NDArray[np.int64], decay: float
) -> float:
    inputs, labels = torch.from_numpy(train.astype(np.float32)), torch.from_numpy(train_labels)
    layer = torch.zeros(int(train_labels.max()) + 1, inputs.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([layer], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = inputs @ layer[:, :-1].T + layer[:, -1]
        loss = F.cross_entropy(logits, labels) + 0.5 * decay * layer[:, :-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    weights = layer.detach().numpy()
    answers = (test @ weights[:, :-1].T + weights[:, -1]).argmax(1)
    return float((answers == test_labels).mean())


def _unit(features: Features) -> Features:
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)

"""Copies of the same footage: found by perceptual fingerprints and by embeddings, grouped, and the best one kept."""

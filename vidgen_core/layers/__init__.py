"""Attention, embeddings, norms and patches that several networks share."""

"""The one loop that trains every learner, and what it stands on: samples, checkpoints, workers."""

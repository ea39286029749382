"""Scores of a span's stills by models whose weights are given by path; a file is a scorer.

It has `VERSION` (raised when its values change), `WRITES` (its columns), `READS_CAPTION`, `digest(settings)` (what
fixes a score besides the stills; opens nothing) and `open_scorer(settings)`. Its settings are the field of
`ScoreSettings` of its name.
"""

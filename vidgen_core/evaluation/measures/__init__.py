"""Measures of single clips that need no weights; a file is one of them.

Each has `of_clip(view)`, a number or None where the clip says nothing, `VERSION`, which a changed formula raises, and
`BETTER`: which way better lies, "real" for nearer to real clips.
"""

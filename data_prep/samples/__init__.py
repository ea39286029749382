"""Sample videos with known truth: moving shapes, many shots, captions and a truth file beside each."""

from data_prep.samples.folder import Made, make

__all__ = ["Made", "make"]

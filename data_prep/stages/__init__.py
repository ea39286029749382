"""Scores of a span by name, all computed from what one decode pass left behind.

A stage is a file with `VERSION` (raised when its values change), `WRITES` (its columns) and
`score(view) -> {column: value or None}`. One that needs pictures at full size also has `measure(picture)`, which the
pass calls every `EVERY_S` seconds of video, and finds what it returned in `view.measures`.
"""

"""Solvers by name: they take a velocity and noise, and know no network."""

"""Solvers by name: `integrate(denoise, start, times, draw)` goes from noise to data, and knows no network."""

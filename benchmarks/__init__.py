"""Measures the project's claims about speed, each beside a baseline that runs in the same process (docs/performance.md).

The baselines work as the published code is described to: they open a file for each frame, take a slice for each query, loop
over labels and normalise the gallery for every 50 queries. They return the same numbers and share no code with the package.
"""

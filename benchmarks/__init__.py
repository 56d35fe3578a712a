"""Claims about speed, each measured beside something that runs in the same process (docs/performance.md).

What stands beside works as the published code is described to (spec/dl-dkd 2 and 5): a file opened for each frame, a
slice for each query, loops over labels, a gallery normalised for every 50 queries. It is written from that description,
gives the same numbers, and shares none of its code.
"""

"""Encoded videos, ready to be asked.

contract.py   what every index offers: a `Store` of `Entry`s; one that outlives its process is `Kept`
where.py      conditions that narrow a search
encode.py     features of videos to entries; long videos in windows
exact.py      the index in memory, scored by the model itself: what every other must agree with
scan.py       int8 codes, their scores and how far these may be off
coarse.py     sketches for large galleries, approximate
proven.py     a setting of these, and what it was measured with
resident.py   the codes of an index in memory, and the exact best among what they promise
database.py, connection.py   the file of an index on disk; record.py: a video in it
disk.py       the index on disk
shards.py     an index in several files; cluster.py: each asked by an actor of a Ray cluster
qdrant/       an index on a Qdrant server
places.py     which index lies where: a folder, or a URL
recall.py     how many of the exact best an index finds
trial.py      how many it finds behind sketches, and how fast
"""

"""Encoded videos in a form that can be searched.

contract.py     what every index offers: `Store`, `Entry`, `ScoredVideo`; the ways in which a score is computed
place.py        where an index lies
conditions.py   conditions that narrow a search
encode.py       features of videos to entries, long videos in windows; sentences to queries
moments.py      where in a video a query is answered
sequence.py     several queries one after another in a video
ranking.py      the best results over all videos, where a result is computed from a video's rows
near_identical.py  videos that look the same take one place of a result
few.py          a few videos as a gallery of their own
exact.py        the index in memory, scored by the model itself; tests compare every other index with it
scan.py         int8 codes, their scores and error bounds
sketches.py     rough sketches for approximate search in large galleries; columns.py: their columns
setting.py      a setting of approximate search and its measurement
measure.py      recall of a search; measures and chooses a setting
resident.py     the codes of an index in memory, and the search among them
database.py     the file of an index on disk
disk.py         the index on disk
shards.py       an index in several files; cluster.py: in the actors of a Ray cluster
qdrant/         an index on a Qdrant server
stores.py       opens the index at a folder or a URL
"""

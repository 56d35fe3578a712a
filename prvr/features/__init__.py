"""Frozen features on disk, as a mapping from an id to its rows: `features[id]` is (F, E), or (W, E) for words."""

"""Padded tensors in memory that is used again."""

from __future__ import annotations

import numpy as np

from prvr.features.padding import Memory, pad


def test_a_longer_batch_stays_in_the_memory_of_a_shorter_one() -> None:
    memory, places = Memory(), set()
    for longest in (4, 6, 3, 8):
        memory.begin()
        padded, mask = pad([np.full((longest, 5), longest, np.float32), np.ones((1, 5), np.float32)], memory)
        places.add(padded.data_ptr())
        assert mask.tolist() == [[True] * longest, [True] + [False] * (longest - 1)]
        assert padded[:, :, 0].tolist() == [[longest] * longest, [1] + [0] * (longest - 1)]
    assert len(places) == 1
    memory.begin()
    padded, _ = pad([np.ones((9, 5), np.float32)] * 2, memory)
    assert padded.shape == (2, 9, 5)
    assert padded.data_ptr() not in places

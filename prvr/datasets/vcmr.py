"""Caption lists of PRVR packages with spans, as weakly supervised moment retrieval keeps them: a JSON object a line.

<split>.jsonl   vid_name, desc_id "VIDEO#enc#NUMBER", duration, ts [start, end], desc
"""

from __future__ import annotations

from pathlib import Path

from prvr.datasets import Dataset
from prvr.datasets.reading import file_of, gathered
from prvr.datasets.tvr import described

FILES = {split: (f"{split}.jsonl",) for split in ("train", "val", "test")}


def load(path: str | Path, split: str) -> Dataset:
    """One split: train, val or test; named after the folder of its file.

    Raises:
        DataError: the file is not there, or a line of it is broken.
    """
    file = file_of(path, split, FILES)
    return gathered(file, file.absolute().parent.name, split, *described(file))

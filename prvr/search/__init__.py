"""A folder of videos as an index on disk that is kept up to date and asked.

INDEX/index.sqlite   the videos' embeddings, codes and times, and which model they are of (`prvr.index.database`)
INDEX/model/         the checkpoint that made it: an index can be asked with nothing else at hand
INDEX/features/      frames as the encoder gave them: what was decoded is not decoded again

opening.py   a checkpoint and its index, each seen to be of the other
update.py    the index brought in step with the folder
stamps.py    what tells a file from an earlier one of its name
watch.py     the same again whenever something has changed
copying.py   an index in another place
verifying.py an index compared with its checksums, its search with an exact scan; first stages measured
own.py       fields of the user's own, which searches can be narrowed by
"""

from __future__ import annotations

from prvr.search.copying import Copied, copy_index
from prvr.search.opening import DEFAULT, MODEL, open_index, zero_shot
from prvr.search.update import Indexing, index_folder
from prvr.search.verifying import Verified, verify_index
from prvr.search.watch import watch_folder

__all__ = [
    "DEFAULT",
    "MODEL",
    "Copied",
    "Indexing",
    "Verified",
    "copy_index",
    "index_folder",
    "open_index",
    "verify_index",
    "watch_folder",
    "zero_shot",
]

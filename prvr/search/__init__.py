"""An index on disk of a folder of videos: kept up to date, searched, watched, copied and verified.

INDEX/index.sqlite   the videos' embeddings, codes and times, and the model that they are of (`prvr.index.database`)
INDEX/model/         the checkpoint that made it: an index can be searched without any other file
INDEX/features/      frames as the encoder returned them, where the embeddings are something else: nothing is decoded twice

opening.py       opens an index with its checkpoint, and checks that they match; matching.py: the encoder that it reads
starting.py      opens an index without torch, which takes most of the start of a search
question.py      what can be asked: sentences, pictures, moments; as queries of a model
hits.py          what a search returns
asking.py        searches an index; answering.py: its answer as JSON values
sentences.py     the text of a query, and its features
senses.py        what is said and written beside the pictures; text_matches.py: where; weighing.py: fits their weights
update.py        brings an index up to date with its folder; text_embedding.py: its texts, so that they are found by meaning
indexing.py      the same for an index or for shards; cluster_indexing.py: for shards on a Ray cluster
feature_cache.py the frames as the encoder returned them
watch.py         updates an index whenever its folder changes
copying.py       copies an index
verifying.py     compares an index with its checksums, its search with an exact scan; measures first stages
listing.py       lists the videos of an index
moment_lists.py  the moments of an answer as lists; edit_lists.py: those for editing programs
moment_files.py  cuts of moments, and one picture of them; playing.py: starts a player
checkup.py       examines this machine and an index: what is missing
video_fields.py  the user's own fields of videos, which searches can be limited by
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prvr.index.place import DEFAULT

if TYPE_CHECKING:
    from prvr.search.copying import Copied, copy_index
    from prvr.search.indexing import index_folder
    from prvr.search.opening import MODEL, open_index, zero_shot
    from prvr.search.update import Indexing
    from prvr.search.verifying import Verified, verify_index
    from prvr.search.watch import watch_folder

_PLACES = {
    "Copied": "copying",
    "Indexing": "update",
    "MODEL": "opening",
    "Verified": "verifying",
    "copy_index": "copying",
    "index_folder": "indexing",
    "open_index": "opening",
    "verify_index": "verifying",
    "watch_folder": "watch",
    "zero_shot": "opening",
}

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


# Imported when they are first used: a search without torch needs none of them.
def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'prvr.search' has no attribute {name!r}")
    return vars(import_module(f"prvr.search.{_PLACES[name]}"))[name]

"""Late interaction in DL-DKD++'s exploration branch: what every method must be, and its score by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from method_checks import check_method

from experiments.late_interaction import LateDlDkd, LateDlDkdConfig
from prvr.errors import SettingError


@pytest.mark.thorough
def test_it_is_a_method(tmp_path: Path) -> None:
    check_method(LateDlDkd, tmp_path, lr=5e-4)


def test_each_word_finds_its_best_frame() -> None:
    torch.manual_seed(0)
    model = LateDlDkd(LateDlDkdConfig(hidden=8, heads=2), frame_columns=6, word_columns=5).eval()
    words, word_mask = torch.randn(2, 3, 5), torch.tensor([[True, True, True], [True, False, False]])
    frames, frame_mask = torch.randn(2, 4, 6), torch.tensor([[True, True, True, True], [True, True, False, False]])
    queries, videos = model.encode_queries(words, word_mask), model.encode_videos(frames, frame_mask)
    cosine, found = torch.nn.functional.cosine_similarity, model.score(queries, videos, frame_mask)
    logits = model._branches()[1].pooling.weight(queries[2])[..., 0]
    for q, count in enumerate((3, 1)):
        shares = logits[q, :count].softmax(0)
        for v, length in enumerate((4, 2)):
            first = max(cosine(queries[0][q], videos[0][v, f], dim=0) for f in range(length))
            best = [max(cosine(queries[2][q, t], videos[1][v, f], dim=0) for f in range(length)) for t in range(count)]
            by_words = sum(share * one for share, one in zip(shares, best, strict=True))
            torch.testing.assert_close(found[q, v], 0.7 * first + 0.3 * by_words)
    # A sentence of one word is what DL-DKD++ scores.
    torch.testing.assert_close(found[1], super(LateDlDkd, model).score(tuple(f[1:] for f in queries[:2]), videos, frame_mask)[0])


def test_other_branches_are_refused() -> None:
    with pytest.raises(SettingError, match="late interaction is of inheritance and exploration"):
        LateDlDkdConfig(branches=("exploration",))

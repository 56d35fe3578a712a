"""The rows of experiments/comparison.py, by its arguments."""

from __future__ import annotations

import pytest

from experiments import comparison
from experiments.comparison import LATE, TABLES, WIDE, chosen_rows
from prvr.papers.tables import table


def test_rows_of_no_table_go_with_the_default_tables_or_by_their_names() -> None:
    peers = [row.name for row in table("peers").rows]
    assert [row.name for row in chosen_rows(TABLES, [])][-2:] == [LATE.name, WIDE.name]
    assert [row.name for row in chosen_rows(["peers"], [])] == peers
    assert chosen_rows(["peers"], [WIDE.name, peers[0]]) == [WIDE, table("peers").rows[0]]


def test_a_row_that_is_in_no_table_is_named() -> None:
    with pytest.raises(SystemExit, match="no row 'DL-DKD' in additions"):
        chosen_rows(["additions"], ["DL-DKD"])


def test_changes_are_refused_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["comparison.py", "data", "features", "out", "--changes", "lr=1e-3"])
    with pytest.raises(SystemExit, match=r"--changes .* --rows NAME") as refused:
        comparison.main()
    assert "\n" not in str(refused.value)

"""Evaluation: metrics, saved scores, groups of queries, comparison of systems."""

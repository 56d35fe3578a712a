"""Evaluation: metrics, files of scores, groups of queries, comparison of systems."""

"""prvr: partially relevant video retrieval."""

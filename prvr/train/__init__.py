"""Training: the loop, recipes and presets, the optimiser, the state of a run, several processes."""

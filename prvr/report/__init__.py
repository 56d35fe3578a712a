"""A page about runs: `prvr report`."""

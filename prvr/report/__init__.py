"""Pages about results: `prvr report`."""

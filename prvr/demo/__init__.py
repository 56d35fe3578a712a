"""The embedded default: a small drawn world of real video files, and a tiny CLIP that has seen stills of it."""

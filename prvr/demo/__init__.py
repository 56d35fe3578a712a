"""The demo: a small drawn world as real video files, and a tiny CLIP trained on stills of it."""

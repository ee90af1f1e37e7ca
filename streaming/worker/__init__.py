"""The process that tracks and dubs one session's frames, and the edge's side of it."""

"""Processes that dub: one per session, in shared memory with the edge."""

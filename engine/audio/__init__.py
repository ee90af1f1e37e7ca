"""livedub: audio."""

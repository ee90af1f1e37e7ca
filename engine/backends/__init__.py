"""livedub: backends."""

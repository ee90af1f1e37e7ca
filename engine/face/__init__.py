"""livedub: face."""

"""livedub: image."""

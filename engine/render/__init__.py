"""livedub: render."""

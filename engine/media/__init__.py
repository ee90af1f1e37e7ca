"""livedub: media."""

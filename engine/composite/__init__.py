"""livedub: composite."""

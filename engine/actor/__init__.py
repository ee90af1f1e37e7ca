"""livedub: actor."""

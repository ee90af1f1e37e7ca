"""livedub: expression."""

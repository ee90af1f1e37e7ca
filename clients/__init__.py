"""How people and programs reach livedub: the command line and the browser page."""

"""The product running on this machine from nothing: a portrait, a voice, a dub, and a page to see them."""

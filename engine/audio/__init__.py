"""The audio front end: blocks, resampling, log-mel features, speech detection."""

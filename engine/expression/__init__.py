"""Expression from sound: the causal audio-to-expression model and what turns its steps into frames."""

"""How a frame gets its mouth: on the CPU step by step, or on a GPU as one graph."""

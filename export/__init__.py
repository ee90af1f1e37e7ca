"""The workshop: training, adaptation, evaluation and export. Needs torch; never imported at run time."""

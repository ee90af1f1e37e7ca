"""The workshop: training, adaptation, evaluation and export. Needs torch; never imported at run time."""

import os

# Torch's threads spin while they wait for each other. With anything else running on a small machine, that
# made adaptation three times slower (measured on two cores); told before torch is loaded, they sleep instead.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

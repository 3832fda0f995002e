"""Tables and photos of a marketplace: read, cleaned and split."""

import os

# Waiting threads spin for some 50 microseconds and then sleep: by default they spin for milliseconds, which slows
# training many times beside another busy process. OpenMP reads the variables when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

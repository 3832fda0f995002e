"""Tables and photos of a marketplace: read, cleaned and split."""

import os

# Waiting threads sleep instead of spinning, which slows training many times beside another busy process. OpenMP reads
# the variables when torch or scikit-learn is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

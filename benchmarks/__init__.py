"""One measurement a module, run as python -m benchmarks.NAME: the straightforward way and ours in turn."""

"""The scikit-learn models that the networks are compared with."""

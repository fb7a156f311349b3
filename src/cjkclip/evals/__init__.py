"""Evaluation: retrieval metrics in plain NumPy, and the tests of the bundled model."""

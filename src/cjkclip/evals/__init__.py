"""Evaluation: measures of retrieval in plain NumPy, and the tests of the bundled model."""

"""Evaluate models: the tests of the bundled model, and reports of their results."""

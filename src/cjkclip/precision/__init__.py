"""Precisions below float32: whether half precision or int8 is exact enough for a model, and int8 itself."""

"""The speed of a model on this machine, and its share of the machine's limit.

`work` counts the FLOPs of a tower, `products` measures the rate of matrix products alone, which is the limit. `jobs`
defines the measurements of `cjkclip bench`, and `advice` turns them into recommendations.
"""

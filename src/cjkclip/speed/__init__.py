"""How fast a model is on this machine, and how far that is from what the machine can do.

`work` counts what a tower multiplies, `products` measures how fast an engine multiplies matrices and nothing else; the
one over the other is the share of the limit. `jobs` is what `cjkclip bench` measures of a model, `advice` what it says.
"""

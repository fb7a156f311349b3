"""The run-time type checker that conftest.py adds to every function of cjkclip through jaxtyping.

It accepts an int for a float, as type checkers for Python do.
"""

from beartype import BeartypeConf
from beartype import beartype as decorate

check = decorate(conf=BeartypeConf(is_pep484_tower=True))

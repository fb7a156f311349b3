"""The run-time type checker that conftest.py has jaxtyping put on every function of cjkclip.

An int is taken where a float is asked for, as type checkers for Python do.
"""

from beartype import BeartypeConf
from beartype import beartype as decorate

check = decorate(conf=BeartypeConf(is_pep484_tower=True))

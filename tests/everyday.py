"""Which of many like cases run every day; `make test-all` runs all of them."""

import pytest


def every(step, values):
    """The values for `parametrize`, all but every `step`-th marked slow, and the first not."""
    values = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, marks=pytest.mark.slow if n % step else ()) for n, value in enumerate(values)]

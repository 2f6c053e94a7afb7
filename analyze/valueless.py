"""Neurons without a value: what analyses leave out, and must not leave out in silence."""

import warnings


def warn_of_valueless(n_valueless: int, n_neurons: int, *, stacklevel: int) -> None:
    """Warn where neurons have activations that are not finite, so that no result counts them.

    A neuron that never varies has a value, and no test; of that nothing is said.
    """
    if n_valueless:
        warnings.warn(
            f"{n_valueless} of {n_neurons} neurons have no value, as activations of theirs are not finite: "
            "the model overflows or holds NaN weights. They are left out",
            stacklevel=stacklevel + 1,
        )

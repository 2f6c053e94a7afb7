"""What the place of a token in its prompt, and its neighbours, say."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ...store.moments import Bool, Float64


def token_position(valid: Bool) -> Float64:
    """Count along the token axis from the first valid token of each prompt.

    Parameters
    ----------
    valid
        (prompt, token).

    Returns
    -------
    (valid token,), prompt by prompt; the first of a prompt has 0.

    Examples
    --------
    >>> token_position(np.array([[True, True, False], [False, True, True]])).tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    place = np.arange(valid.shape[1]) - valid.argmax(axis=1)[:, None]
    return np.asarray(place[valid], dtype=np.float64)


def log_frequency(token_id: npt.NDArray[Any]) -> Float64:
    """Natural logarithm of how often each token's id occurs among those given: (valid token,).

    >>> log_frequency(np.array([5, 7, 5])).round(3).tolist()
    [0.693, 0.0, 0.693]
    """
    _, which, times = np.unique(token_id, return_inverse=True, return_counts=True)
    return np.asarray(np.log(times)[which])


def convolved(values: Float64, kernel: Float64, valid: Bool) -> Float64:
    """Convolve a regressor along the tokens of each prompt.

    Parameters
    ----------
    values
        (valid token,), prompt by prompt.
    kernel
        (lag,): the weight of the token itself, of the one before, and so on.
    valid
        (prompt, token); a token that is not valid contributes nothing.

    Returns
    -------
    (valid token,). Nothing comes from before a prompt's first valid token or from another prompt.

    Examples
    --------
    >>> convolved(np.ones(4), np.array([1.0, 0.5]), np.ones((2, 2), dtype=bool)).tolist()
    [1.0, 1.5, 1.0, 1.5]
    """
    given = np.zeros(valid.shape)
    given[valid] = values
    out = np.zeros(valid.shape)
    n_tokens = valid.shape[1]
    for lag, weight in enumerate(kernel[:n_tokens]):
        out[:, lag:] += weight * given[:, : n_tokens - lag]
    return np.asarray(out[valid])

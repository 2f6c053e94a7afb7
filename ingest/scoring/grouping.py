"""Which lesions share a forward pass: a fixed rule, so that a score never depends on the clock."""

from collections.abc import Sequence
from dataclasses import dataclass

# What a forward pass costs beside its tokens, in tokens, and the most that a pass of several lesions
# holds: more make it no faster. Measured on one core (a Llama of 8 layers of 512: 15 to 40, and 256 to 512);
# for a GPU they are estimates.
_FIXED_TOKENS = {"cpu": 32, "cuda": 2048}
_MOST_TOKENS = {"cpu": 512, "cuda": 32768}
_HEAD = 1  # the language-model head, in blocks


@dataclass(frozen=True)
class Group:
    """Lesions of one forward pass.

    Attributes
    ----------
    lesions
        Their places in what was grouped.
    n_skipped
        Blocks that the pass leaves out: none of the lesions touches them.
    """

    lesions: tuple[int, ...]
    n_skipped: int


def group_lesions(n_skipped: Sequence[int], n_tokens: int, n_blocks: int, device: str) -> list[Group]:
    """Group lesions for a batch of prompts.

    A pass costs (fixed cost + tokens) times the blocks that it runs. Lesions are taken from the one
    that touches the latest layer on; each joins the pass before it where the blocks that this pass then
    runs in addition cost no more than what a pass of its own costs beside its tokens.

    Parameters
    ----------
    n_skipped
        Per lesion, how many blocks it could leave out.
    n_tokens
        Of the batch of prompts, padding included.
    n_blocks
        Of the model.
    device
        "cpu" or "cuda".

    >>> group_lesions([0, 0, 0], 32, 8, "cpu")
    [Group(lesions=(0, 1, 2), n_skipped=0)]
    >>> group_lesions([0, 7], 512, 8, "cpu")
    [Group(lesions=(1,), n_skipped=7), Group(lesions=(0,), n_skipped=0)]
    """
    fixed = _FIXED_TOKENS.get(device, _FIXED_TOKENS["cuda"])
    most = most_tokens(device)
    groups: list[Group] = []
    for i in sorted(range(len(n_skipped)), key=lambda i: -n_skipped[i]):
        skipped = n_skipped[i]
        if groups:
            last = groups[-1]
            tokens = len(last.lesions) * n_tokens
            runs, would_run = (n_blocks + _HEAD - n for n in (last.n_skipped, skipped))
            if tokens + n_tokens <= most and tokens * would_run <= (fixed + tokens) * runs:
                groups[-1] = Group((*last.lesions, i), skipped)
                continue
        groups.append(Group((i,), skipped))
    return groups


def most_tokens(device: str) -> int:
    """Return how many tokens a pass holds at most, one prompt alone excepted."""
    return _MOST_TOKENS.get(device, _MOST_TOKENS["cuda"])

"""Which lesions share a pass: each is in one, which leaves out no block that the lesion touches."""

from hypothesis import given
from hypothesis import strategies as st

from actome.ingest.scoring.grouping import group_lesions, most_tokens

N_BLOCKS = 8


@given(st.lists(st.integers(0, N_BLOCKS), min_size=1, max_size=40), st.sampled_from([1, 16, 32, 128, 600]))
def test_group_lesions__is_a_partition_that_leaves_out_nothing_touched(n_skipped, n_tokens):
    groups = group_lesions(n_skipped, n_tokens, N_BLOCKS, "cpu")
    assert sorted(i for g in groups for i in g.lesions) == list(range(len(n_skipped)))
    for group in groups:
        assert group.n_skipped == min(n_skipped[i] for i in group.lesions)
        assert len(group.lesions) == 1 or len(group.lesions) * n_tokens <= most_tokens("cpu")
    assert groups == group_lesions(n_skipped, n_tokens, N_BLOCKS, "cpu")


def test_group_lesions__short_inputs_share_passes_and_long_ones_leave_blocks_out():
    layers = [i % N_BLOCKS for i in range(32)]
    short, long = (group_lesions(layers, n, N_BLOCKS, "cpu") for n in (8, 256))
    assert len(short) < N_BLOCKS and all(len(set(g.lesions)) > 1 for g in short)
    assert all(len({layers[i] for i in g.lesions}) == 1 for g in long)

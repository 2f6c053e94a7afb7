from hypothesis import given
from hypothesis import strategies as st

from actome.store.layout import Layout, choose_unit, site_layout

MB = 2**20


@given(st.integers(1, 500), st.integers(1, 60))
def test_units__cover_every_prompt_once(n_prompts, unit):
    units = Layout(unit, (0,) * 4, (0,) * 4).units(n_prompts)
    assert [i for u in units for i in range(n_prompts)[u]] == list(range(n_prompts))
    assert all(u.stop - u.start == unit for u in units[:-1])


@given(st.integers(1, 10**6), st.integers(1, 2**30), st.integers(1, 100))
def test_choose_unit__keeps_shards_and_buffer_small(n_prompts, bytes_per_prompt_layer, n_layers):
    unit = choose_unit(n_prompts, bytes_per_prompt_layer, bytes_per_prompt_layer * n_layers)
    assert 1 <= unit <= n_prompts
    if unit > 1:
        assert unit * bytes_per_prompt_layer <= 256 * MB
        assert unit * bytes_per_prompt_layer * n_layers <= 2**30


def test_choose_unit__fills_a_shard_where_the_data_allow_it():
    assert choose_unit(100_000, MB, 8 * MB) == 64


def test_choose_unit__cuts_a_small_recording():
    assert choose_unit(80, 1, 1) == 10


@given(st.integers(1, 64), st.integers(1, 4096), st.integers(1, 30_000), st.sampled_from([2, 4, 8]))
def test_site_layout__chunks_tile_a_shard_of_one_layer(unit, n_tokens, n_neurons, itemsize):
    layout = site_layout(unit, n_tokens, n_neurons, itemsize)
    assert all(s % c == 0 for s, c in zip(layout.shard, layout.chunk, strict=True))
    assert layout.shard[0] == layout.chunk[0] == layout.unit == unit
    assert layout.shard[1] >= n_tokens
    assert layout.shard[2] == 1
    assert layout.chunk[1] <= 128
    assert layout.chunk[3] <= 128
    bytes_of_shard = unit * layout.shard[1] * layout.shard[3] * itemsize
    assert bytes_of_shard <= 256 * MB or layout.shard[3] == layout.chunk[3]


def test_site_layout__long_prompts_get_short_chunks():
    assert site_layout(4, 1000, 1536, 2).chunk == (4, 64, 1, 128)
    assert site_layout(4, 1000, 1536, 2).shard == (4, 1024, 1, 1536)

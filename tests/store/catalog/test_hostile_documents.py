"""Whatever a catalog or a paradigm holds, reading it gives one, or a clear error; nothing else."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actome.store.catalog import open_catalog
from actome.store.errors import ActomeError
from actome.store.paradigm import Paradigm
from actome.store.yaml import dump

from ..yaml.test_plain import PIECES

_once = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_often = settings(_once, max_examples=2_500)

_ODD_TEXTS = [
    "", "..", "../a", "/", "a/b", "s3://a/b", "a::b", "{{ CATALOG_DIR }}/a", "{{", "{a}", "{text}", "{",
    "a.csv", "x.zip", "\0", "sha256:0", "no", "1e3",
]  # fmt: skip
_text = st.sampled_from(["a", "b", "fr", "en"]) | st.text(max_size=6) | st.sampled_from(_ODD_TEXTS)
_scalar = _text | st.integers() | st.floats() | st.booleans() | st.none()
_any = st.recursive(
    _scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)


def _rarely_odd(strategy):
    """What belongs there; once in twenty what does not."""
    return st.integers(1, 20).flatmap(lambda i: _any if i == 20 else strategy)


def _mapping(required, **optional):
    """A mapping of fields; once in twenty with one that is unknown."""
    fields = [{k: _rarely_odd(v) for k, v in part.items()} for part in (required, optional)]
    more = st.integers(1, 20).flatmap(
        lambda i: st.dictionaries(_text, _any, min_size=i // 20, max_size=i // 20)
    )
    return st.builds(
        lambda known, odd: {**odd, **known}, st.fixed_dictionaries(fields[0], optional=fields[1]), more
    )


_texts = st.lists(_text, max_size=3)
_names = st.text("abcdefgh0123", min_size=1, max_size=4)
_metadata = _mapping(
    {}, kind=_text, model=_text, sites=_texts, conditions=_texts, licence=_text, digest=_text, created=_text,
    shape=st.dictionaries(_text, st.integers(), max_size=2), derived_from=_texts, tags=_texts, citation=_text,
    recipe=_mapping({}, command=_text, paradigm=_text, model=_text),
)  # fmt: skip
_entry = _mapping(
    {"driver": st.just("zarr"), "args": _mapping({"urlpath": _names | _names | _text})},
    description=_text,
    metadata=_metadata,
)
_catalog = _mapping(
    {"version": st.just(1), "sources": st.dictionaries(_names, _rarely_odd(_entry), max_size=3)},
    metadata=st.dictionaries(_text, _text, max_size=2),
)
_row = _mapping(
    {"text": _names}, condition=_names, run=st.integers(0, 3), block=st.integers(0, 3), other=_scalar
)
_rows = st.lists(_row, min_size=1, max_size=4) | st.lists(
    _names.map(lambda t: {"text": t}), min_size=4, max_size=9
)
_prompt_file = _mapping({"file": _text}, text=_text, condition=_text, limit=st.integers())
_paradigm = _mapping(
    {"name": _names, "prompts": _rows | _rows | _rows | _prompt_file},
    licence=_text,
    description=_text,
    template=st.just("Q: {text}") | _text | st.dictionaries(_names, _text, max_size=2),
    design=_mapping(
        {"pattern": _texts, "per_block": st.integers(-1, 3)},
        runs=st.integers(-1, 3), rest=_text, seed=st.integers(),
    ),
)  # fmt: skip
_soup = st.lists(
    st.sampled_from([*PIECES, "version: 1\n", "sources:\n", "prompts:\n- text: a\n"]), max_size=16
)


def _bytes(documents):
    """A document of which some bytes were replaced; bytes and pieces of YAML at random."""

    def damage(document, place, length, patch):
        text = dump(document).encode()
        place %= len(text)
        return text[:place] + patch + text[place + length :]

    patches = st.binary(max_size=3) | st.sampled_from([p.encode() for p in PIECES])
    damaged = st.builds(damage, documents, st.integers(0, 999), st.integers(0, 3), patches)
    return damaged | damaged | st.binary(max_size=40) | _soup.map(lambda pieces: "".join(pieces).encode())


def read_catalog(folder, content):
    (folder / "catalog.yaml").write_bytes(content)
    try:
        catalog = open_catalog(folder / "catalog.yaml")
    except ActomeError as error:
        return str(error)
    for name in catalog:
        assert catalog.address(name)
        assert catalog.state(name) in ("built", "not built", "remote")
        catalog.lineage(name)
    assert set(catalog.search(text="a", tag="b", model="*")) <= set(catalog)
    return None


def read_paradigm(folder, content):
    (folder / "p.yaml").write_bytes(content)
    try:
        paradigm = Paradigm.read(folder / "p.yaml")
    except ActomeError as error:
        return str(error)
    assert len(paradigm) and paradigm.digest
    return None


CASES = [
    (read_catalog, _catalog.map(lambda d: dump(d).encode())),
    (read_catalog, _bytes(_catalog)),
    (read_paradigm, _paradigm.map(lambda d: dump(d).encode())),
    (read_paradigm, _bytes(_paradigm)),
]
IDS = ["structure of a catalog", "bytes of a catalog", "structure of a paradigm", "bytes of a paradigm"]


def read_many(folder, read, contents, profile):
    problems = []

    @given(contents)
    @profile
    def check(content):
        problems.append(read(folder, content))

    check()
    assert None in problems and any(problems)  # some are read, some refused


@pytest.mark.parametrize(("read", "contents"), CASES, ids=IDS)
def test_read__gives_what_it_says_or_a_clear_error(tmp_path, read, contents):
    read_many(tmp_path, read, contents, _once)


@pytest.mark.slow
@pytest.mark.parametrize(("read", "contents"), CASES, ids=IDS)
def test_read__gives_what_it_says_or_a_clear_error_ten_thousand_times(tmp_path, read, contents):
    read_many(tmp_path, read, contents, _often)

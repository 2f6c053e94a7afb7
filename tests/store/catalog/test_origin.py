"""Where a catalog's locations may lead."""

import os

import pytest

from actome.store.archive import save
from actome.store.catalog import open_catalog
from actome.store.catalog.origin import PROTOCOLS, Origin
from actome.store.errors import InputError


@pytest.fixture
def origin(tmp_path):
    return Origin.of(tmp_path / "lab/catalog.yaml")


@pytest.mark.parametrize("urlpath", ["a.zarr", "{{ CATALOG_DIR }}/a.zarr", "{{ CATALOG_DIR }}//a.zarr"])
def test_locate__a_relative_location_starts_from_the_catalog(origin, tmp_path, urlpath):
    assert origin.locate(urlpath, "x") == str(tmp_path / "lab/a.zarr")
    remote = Origin.of("s3://bucket/lab/catalog.yaml")
    assert remote.locate(urlpath, "x") == "s3://bucket/lab/a.zarr"


@pytest.mark.parametrize("urlpath", ["a.zarr/", "./a.zarr//", "{{ CATALOG_DIR }}/./a.zarr/", ".//a.zarr"])
def test_locate__one_place_has_one_path(origin, tmp_path, urlpath):
    assert origin.locate(urlpath, "x") == str(tmp_path / "lab/a.zarr")
    assert Origin.of("s3://bucket/lab/catalog.yaml").locate(urlpath, "x") == "s3://bucket/lab/a.zarr"


@pytest.mark.parametrize(
    "path", ["/data/a.zarr", "s3://lab/a.zarr", "file:///data/a.zarr", "https://lab/a.zarr"]
)
def test_locate__no_slash_ends_a_location(origin, path):
    assert origin.locate(f"{path}/", "x") == origin.locate(f"{path}//", "x") == path


@pytest.mark.parametrize("path", ["/", "file:///", "s3://"])
def test_locate__the_name_of_a_root_stays_whole(origin, path):
    assert origin.locate(path, "x") == path


def test_locate__absolute_paths_and_urls_stay_as_they_are(origin):
    assert origin.locate("/data/a.zarr", "x") == "/data/a.zarr"
    assert origin.locate("file:///data/a.zarr", "x") == "file:///data/a.zarr"
    for protocol in set(PROTOCOLS) - {"file"}:
        assert origin.locate(f"{protocol}://lab/a.zarr", "x") == f"{protocol}://lab/a.zarr"


@pytest.mark.parametrize(
    "urlpath",
    [
        "../a", "a/../../b", "a/..", "/data/../etc", "{{ CATALOG_DIR }}/../a", "s3://lab/../a", "https://lab/%2e%2e/a",
        "file:///data/../a", "a.zip/../b",
    ],
)  # fmt: skip
def test_locate__nothing_leads_out_of_the_folder(origin, urlpath):
    with pytest.raises(InputError, match="entry 'x' leads out of the catalog's folder"):
        origin.locate(urlpath, "x")


@pytest.mark.parametrize(
    "urlpath",
    [
        "python://os", "reference://a", "dask://a", "filecache://a", "simplecache::https://lab/a", "zip://a::b.zip",
        "s3://a::s3://b", "a::b", "{{ CATALOG_DIR }}/a::b", "{{ CATALOG_DIR }}/s3://a", "ftp://lab/a", "sftp://lab/a",
        "github://a:b@main/", "data:text/plain,a", "python:os", "file:a", "javascript:a", "S3://lab/a",
        "root::simplecache",
        "blockcache://a", "local://a", "memory:a", "jlab://a", "libarchive://a", "smb://a/b", "arrow_hdfs://a",
    ],
)  # fmt: skip
def test_locate__urls_that_execute_chain_or_are_unheard_of_are_refused(origin, urlpath):
    with pytest.raises(InputError, match=r"entry 'x': a URL is of abfs, az, file, .* not chained, got"):
        origin.locate(urlpath, "x")


@pytest.mark.parametrize("urlpath", ["", "a\0b", "a\\b", "..\\a", "a\nb", "a\x1b[2J", "\\\\server\\a"])
def test_locate__what_is_no_path_is_refused(origin, urlpath):
    with pytest.raises(InputError, match="a location is a path with / or a URL"):
        origin.locate(urlpath, "x")


@pytest.mark.parametrize(
    "urlpath",
    [
        "{{ env(HOME) }}/a",
        "{{ CATALOG_DIR }}a",
        "{{CATALOG_DIR}}/a",
        "a/{{ CATALOG_DIR }}",
        "{% if 1 %}a{% endif %}",
    ],
)
def test_locate__other_templates_are_refused(origin, urlpath):
    with pytest.raises(InputError, match=r"the one template is '{{ CATALOG_DIR }}' at the start, before a /"):
        origin.locate(urlpath, "x")


def test_locate__a_remote_catalog_names_no_path_of_a_machine():
    remote = Origin.of("https://lab.org/catalog.yaml")
    with pytest.raises(
        InputError, match="entry 'x': a path of one machine, got '/etc/a'; write a relative one"
    ):
        remote.locate("/etc/a", "x")
    with pytest.raises(InputError, match="file:// is for absolute paths and a catalog beside them"):
        remote.locate("file:///etc/a", "x")


def test_locate__a_file_url_needs_an_absolute_path(origin):
    with pytest.raises(InputError, match="file:// is for absolute paths"):
        origin.locate("file://a", "x")


def test_location__a_link_out_of_the_folder_is_refused(tmp_path, tiny):
    save(tiny, tmp_path / "elsewhere/x.zarr")
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "catalog.yaml").write_text(
        "version: 1\nsources:\n"
        "  direct: {driver: zarr, args: {urlpath: linked.zarr}}\n"
        "  below: {driver: zarr, args: {urlpath: data/x.zarr}}\n"
        "  inside: {driver: zarr, args: {urlpath: same.zarr}}\n"
        f"  absolute: {{driver: zarr, args: {{urlpath: {lab}/linked.zarr}}}}\n"
        f"  absolute-too: {{driver: zarr, args: {{urlpath: {lab}/linked.zarr/}}}}\n"
    )
    (lab / "linked.zarr").symlink_to(tmp_path / "elsewhere/x.zarr")
    (lab / "data").symlink_to(tmp_path / "elsewhere")
    save(tiny, lab / "here.zarr")
    (lab / "same.zarr").symlink_to("here.zarr")
    catalog = open_catalog(lab / "catalog.yaml")
    for name in ("direct", "below"):
        for use in (catalog.location, catalog.is_built, catalog.open):
            with pytest.raises(
                InputError, match=f"entry '{name}': a link leads out of the folder: .* is at .*elsewhere"
            ):
                use(name)
    assert catalog.open("inside").sizes["prompt"] == 12
    assert catalog.open("absolute").sizes["prompt"] == 12  # as it is written
    assert catalog.open("absolute-too").sizes["prompt"] == 12
    with pytest.raises(InputError, match="a link leads out of the folder"):
        catalog.add("more", "data/x.zarr")


def test_location__the_folder_itself_may_be_a_link(tmp_path, tiny):
    save(tiny, tmp_path / "lab/x.zarr")
    (tmp_path / "lab/catalog.yaml").write_text(
        "version: 1\nsources: {x: {driver: zarr, args: {urlpath: x.zarr}}}\n"
    )
    os.symlink(tmp_path / "lab", tmp_path / "link")
    assert open_catalog(tmp_path / "link/catalog.yaml").open("x").sizes["prompt"] == 12


def test_of__a_file_url_is_a_path(tmp_path):
    assert Origin.of(f"file://{tmp_path}/catalog.yaml") == Origin.of(f"{tmp_path}/catalog.yaml")

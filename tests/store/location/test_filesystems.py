import json
import os
import subprocess
import sys

import pytest

from actome.store.errors import InputError
from actome.store.location import Location


@pytest.mark.parametrize(
    "url", ["zip://::s3://lab/a.zip", "simplecache::https://host/a.zarr", "a::b", "x::y.zip"]
)
def test_file_system__chained_protocols_are_refused(url):
    with pytest.raises(
        InputError, match="chains protocols with '::'; give the path or the URL of the thing itself"
    ):
        Location.of(url)


def test_file_system__takes_options_from_the_environment():
    code = (
        "from actome.store.location.filesystems import file_system; fs, _ = file_system('s3://lab/a.zarr'); "
        "import json; print(json.dumps([fs.endpoint_url, fs.anon, fs.config_kwargs['read_timeout'], "
        "fs.config_kwargs['connect_timeout']]))"
    )
    options = {
        "FSSPEC_S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "FSSPEC_S3_ANON": "true",
        "FSSPEC_S3_CONFIG_KWARGS": '{"read_timeout": 99}',
    }
    out = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | options, capture_output=True, text=True, check=True
    )
    assert json.loads(out.stdout) == ["http://127.0.0.1:9", True, 99, 10]

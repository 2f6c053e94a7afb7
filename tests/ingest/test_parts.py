"""Several processes record one archive: under torchrun, and on Dask workers."""

import subprocess
import sys
from pathlib import Path

import pytest

import actome

PARADIGM = "localizer"


def arrays(folder: Path) -> dict[str, bytes]:
    """The bytes of every array; the metadata hold the time of creation."""
    named = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {k: p.read_bytes() for k, p in named.items() if "/c/" in k}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "r.zarr"
    actome.record("demo", PARADIGM, path)
    return path


@pytest.mark.slow
def test_record__torchrun_gives_the_recording_of_one_process(whole, tmp_path):
    run = "torch.distributed.run --nproc-per-node 2 --standalone -m actome record demo".split()
    line = [sys.executable, "-m", *run, PARADIGM, "-o", str(tmp_path / "r.zarr")]
    out = subprocess.run(line, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert arrays(tmp_path / "r.zarr") == arrays(whole) and actome.verify(tmp_path / "r.zarr") == []


@pytest.mark.slow
def test_record__dask_workers_give_the_recording_of_one_process(whole, tmp_path):
    code = f"""
import actome, distributed
if __name__ == "__main__":
    with distributed.Client(n_workers=2, threads_per_worker=1) as client:
        out = {str(tmp_path / "r.zarr")!r}
        done = client.map(lambda k: actome.record("demo", {PARADIGM!r}, out, part=(k, 2)).sizes, range(2))
        print(max(sizes["prompt"] for sizes in client.gather(done)))
"""
    (tmp_path / "run.py").write_text(code)
    line = [sys.executable, str(tmp_path / "run.py")]
    out = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (out.returncode, out.stdout.strip()) == (0, "144"), out.stderr
    assert arrays(tmp_path / "r.zarr") == arrays(whole) and actome.verify(tmp_path / "r.zarr") == []

"""Writing beside the model: bounded memory, errors that are told, copies that are waited for."""

import os
import threading
import time
from collections import Counter

import pytest
import torch

from actome.ingest.writing import Background, Threads, Transfer, host_buffer

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Maker:
    """Makes buffers that know how often they are in use at once."""

    def __init__(self):
        self.made = []

    def __call__(self):
        self.made.append({"x": torch.zeros(1)})
        return self.made[-1]


@pytest.mark.parametrize("writers", [0, 1, 3])
def test_background__writes_everything_with_one_buffer_more_than_writers(writers):
    make, lock, in_use, written, places = Maker(), threading.Lock(), Counter(), [], set()

    def write(i, buffers):
        places.add(threading.current_thread().name)
        time.sleep(0.002)
        with lock:
            assert buffers["x"].item() == i  # nobody has taken it in the meantime
            in_use[id(buffers)] -= 1
            written.append(i)

    with Background(make, writers=writers) as background:
        for i in range(12):
            buffers = background.buffers()
            with lock:
                in_use[id(buffers)] += 1
                assert in_use[id(buffers)] == 1
            buffers["x"].fill_(i)
            background.submit(lambda i=i, b=buffers: write(i, b), buffers)
    assert sorted(written) == list(range(12))
    assert len(make.made) <= writers + 1
    assert len(places) <= max(1, writers)
    assert (threading.current_thread().name in places) == (writers == 0)
    assert background.waited > 0


@pytest.mark.parametrize("writers", [0, 1, 2])
def test_background__an_error_of_a_writer_is_raised_and_ends_it(writers):
    begun = []

    def write(i):
        begun.append(i)
        if i == 2:
            raise OSError(f"the disk is full at {i}")

    with (
        pytest.raises(OSError, match="the disk is full at 2"),
        Background(Maker(), writers=writers) as background,
    ):
        for i in range(50):
            background.submit(lambda i=i: write(i), background.buffers())
            time.sleep(0.002)
    assert len(begun) < 3 + 2 * (writers + 1)


def test_background__an_error_of_the_last_writer_is_raised_at_the_end():
    def write():
        time.sleep(0.02)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"), Background(Maker(), writers=1) as background:
        background.submit(write, background.buffers())


def test_background__an_error_of_the_model_waits_for_what_is_being_written_and_drops_the_rest():
    go, written = threading.Event(), []

    def write(i):
        go.wait(5)
        written.append(i)

    with pytest.raises(ZeroDivisionError), Background(Maker(), writers=1) as background:
        for i in range(2):
            background.submit(lambda i=i: write(i), background.buffers())
        time.sleep(0.01)
        threading.Timer(0.02, go.set).start()
        raise ZeroDivisionError
    assert written == [0]


def test_threads__none_is_beside_a_model_on_the_cpu(monkeypatch):
    for cores in (1, 2, 4, 16, 64, None):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert Threads.beside(CPU) == Threads(0, cores or 1)
        beside = Threads.beside(GPU)
        assert 1 <= beside.writers <= 4 and beside.encoders >= 1
        assert beside.writers * beside.encoders <= max(1, cores or 1)


def test_host_buffer__is_not_page_locked_for_a_model_on_the_cpu():
    buffer = host_buffer((2, 3), torch.float16, CPU)
    assert (tuple(buffer.shape), buffer.dtype, buffer.is_pinned()) == ((2, 3), torch.float16, False)


def test_transfer__copies_on_the_host_are_done_when_it_returns():
    source, target = torch.arange(6.0).reshape(2, 3), torch.zeros(2, 4)[:, :3]
    wait = Transfer().begin([(source, target)])
    assert torch.equal(source, target)
    wait()
    Transfer().begin([])()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_transfer__copies_from_a_gpu_hold_what_was_there_when_they_began():
    transfer, size = Transfer(), (64, 1024, 64)
    for repeat in range(20):
        source = torch.full(size, float(repeat), device=GPU)
        target = host_buffer(size, torch.float32, GPU)
        wait = transfer.begin([(source, target)])
        del source  # its memory may be given to the next tensor only after the copy
        torch.full(size, -1.0, device=GPU)
        wait()
        assert (target == repeat).all()

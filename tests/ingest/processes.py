"""Processes that do something long beside the test, forked from one that has torch at hand."""

import multiprocessing
from contextlib import contextmanager

import pytest


def saved(phantom, folder):
    """Put a planted model where another process can load it."""
    phantom.module.save_pretrained(folder)
    phantom.tokenizer.save_pretrained(folder)
    return str(folder)


@contextmanager
def starting(function, *before, after=(), **settings):
    """Give what starts a process that calls ``function(*before, path, *after, **settings)``; end them all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["actome.ingest.record", "actome.ingest.score", "actome.ingest.phantom"])
    started = []

    def start(path, **options):
        arguments = (*before, str(path), *after)
        process = context.Process(target=function, args=arguments, kwargs=settings | options)
        process.start()
        started.append(process)
        return process

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield start
    for process in started:
        process.kill()
        process.join()

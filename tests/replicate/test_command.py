"""`actome replicate`: a sub-command for each study, with the options and defaults of its `run`."""

import importlib
import inspect

import pytest
import typer

from actome.cli import app
from actome.replicate import STUDIES

COMMANDS = typer.main.get_command(app).commands["replicate"].commands
NAMES = {  # of the command line, where they are not those of Python
    "components": "n_components",
    "samples": "n_samples",
    "runs": "n_runs",
    "controls": "n_controls",
    "scored": "n_scored",
    "permutations": "n_permutations",
}
LEFT_TO_RUN = ("sites", "paradigm")  # None on the command line: the default of `run`


def test_replicate__has_a_command_for_every_study():
    assert list(COMMANDS) == list(STUDIES)


@pytest.mark.parametrize("study", list(STUDIES))
def test_replicate__has_the_options_and_defaults_of_the_study(study):
    run = importlib.import_module(f"actome.replicate.{STUDIES[study].package}").run
    asked = {NAMES.get(p.name, p.name): p.default for p in COMMANDS[study].params if p.name != "help"}
    known = {name: p.default for name, p in inspect.signature(run).parameters.items()}
    assert set(asked) == set(known)
    for name, default in asked.items():
        if known[name] is not inspect.Parameter.empty:
            assert default == known[name] or (name in LEFT_TO_RUN and default is None)


@pytest.mark.parametrize("study", list(STUDIES))
def test_replicate__refuses_the_option_of_another_study(call, tmp_path, study):
    other = "--rest" if study == "2310.14928" else "--steps"
    status, out, error = call("replicate", study, "-m", "demo", "-o", tmp_path / "o", other, "1")
    assert status == 2 and not out and f"No such option: {other}" in error
    assert not (tmp_path / "o").exists()

"""The command line: one function a command, the same options as the public names.

A wrong input gets one clear line on standard error and exit status 2; a defect of the program, its
traceback.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from .._version import __version__
from ..store.errors import ActomeError
from . import (
    analyses,
    archive,
    catalog,
    components,
    contrasts,
    fingerprints,
    housekeeping,
    lesions,
    networks,
    queries,
    recording,
    regions,
    replicate,
    sharing,
    subjects,
    versions,
)

COMMANDS: Final[dict[str, Callable[..., Any] | typer.Typer]] = {
    "demo": recording.demo,
    "record": recording.record,
    "import": sharing.import_,
    "ls": catalog.list_entries,
    "add": catalog.add,
    "info": catalog.info,
    "validate": archive.validate,
    "verify": archive.verify,
    "commit": versions.commit,
    "log": versions.log,
    "tag": versions.tag,
    "append": housekeeping.append,
    "merge": housekeeping.merge,
    "rechunk": housekeeping.rechunk,
    "cast": housekeeping.cast,
    "rm": housekeeping.rm,
    "gc": housekeeping.gc,
    "index": queries.index,
    "query": queries.query,
    "glm": contrasts.glm,
    "ica": components.ica,
    "networks": components.networks,
    "label": networks.label,
    "dual-regression": networks.dual_regression,
    "recurrence": subjects.recurrence,
    "connectivity": networks.connectivity,
    "fingerprint": fingerprints.fingerprint,
    "overlap": analyses.overlap,
    "identify": analyses.identify,
    "lesion": lesions.lesion,
    "regions": regions.regions,
    "replicate": replicate.replicate,
    "report": analyses.report,
    "export": sharing.export,
    "push": sharing.push,
    "pull": sharing.pull,
}


class _AsListed(TyperGroup):
    """Commands in the order of `COMMANDS`; typer puts those with sub-commands first."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)


app = typer.Typer(
    cls=_AsListed,
    help="Analyse the activations of language models the way neuroimaging analyses brains.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, command in COMMANDS.items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def main() -> None:
    """Run the command line."""
    warnings.showwarning = _warn  # type: ignore[assignment]
    try:
        app(standalone_mode=True)
    except ActomeError as error:
        _stop(error)
    except OSError as error:
        if error.errno is None:
            raise
        _stop(error)  # the machine refused: a full disk, a file that must not be read


def _stop(error: Exception) -> None:
    print(f"actome: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def _warn(message: Warning | str, *where: Any) -> None:
    """Print a warning as one line, without the line of the program that it comes from."""
    print(f"actome: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _version(show: bool) -> None:
    if show:
        print(f"actome {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass

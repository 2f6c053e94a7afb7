"""A new recording made of others, unit by unit; an interrupted one goes on where it stopped."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..._version import __version__
from ..allocate import SiteSpec, allocate, is_allocated
from ..beside import numbered, split_number
from ..errors import InputError
from ..layout import AUTOMATIC, Grain
from ..location import Location
from ..provenance import digest_bytes, now
from ..writer import Cube, RecordingWriter
from .chain import Chain, ChainCube
from .finished import Finished

Moments = dict[str, dict[str, npt.NDArray[Any]]]
Content = tuple[dict[str, npt.NDArray[Any]], Mapping[str, Cube], Moments, dict[str, int]]


def operation(name: str, sources: Sequence[Finished], **parameters: Any) -> dict[str, Any]:
    """Say what is done to which recordings, for the provenance."""
    return {"name": name, "derived_from": [source.digest for source in sources], **parameters}


def derived(provenance: Mapping[str, Any], step: Mapping[str, Any]) -> dict[str, Any]:
    """Add a step to where numbers come from."""
    done = {**step, "actome": __version__, "time": now()}
    steps = [*provenance.get("operations", []), done]
    return {**provenance, "derived_from": step["derived_from"], "operations": steps}


def as_it_is(chain: Chain, prompts: slice) -> Content:
    """Return a unit of a chain: labels, activations, moments and counts, as the sources hold them."""
    cubes = {site: ChainCube(chain, site, prompts) for site, spec in chain.sites.items() if spec.cube}
    return chain.unit_labels(prompts), cubes, chain.moments(prompts), chain.counts(prompts)


def write_derived(
    chain: Chain,
    location: Location,
    *,
    provenance: Mapping[str, Any],
    sites: Mapping[str, SiteSpec],
    grain: Grain = AUTOMATIC,
    content: Callable[[Chain, slice], Content] = as_it_is,
) -> str:
    """Write a chain as a new recording.

    Parameters
    ----------
    chain
        What is read.
    location
        From `check_target`: it holds nothing, or what an interrupted call left.
    provenance
        From `derived`; what is there must have been begun with the same step.
    sites, grain
        What each site will hold, and what is asked of the layout.
    content
        Makes a unit of the chain.

    Raises
    ------
    InputError
        What is there is of something else, or another process writes it.
    """
    with location.claimed():
        if not is_allocated(location):
            allocate(
                location,
                labels=chain.labels,
                n_tokens=chain.n_tokens,
                sites=sites,
                token_variables=chain.token_variables,
                provenance=provenance,
                grain=grain,
            )
        writer = RecordingWriter(location)
        _check_same(writer, provenance)
        write_pending(writer, chain, content)
        carry_files(chain.sources, location)
        writer.finalise()
    return str(location)


def _check_same(writer: RecordingWriter, provenance: Mapping[str, Any]) -> None:
    """Refuse to go on with something else."""
    if _last_step(writer.attrs.get("provenance", {})) != _last_step(provenance):
        raise InputError(
            f"{writer.location} holds an unfinished recording of something else; "
            "choose another path or remove it"
        )


def _last_step(provenance: Mapping[str, Any]) -> dict[str, Any]:
    steps = provenance.get("operations") or [{}]
    return {name: value for name, value in steps[-1].items() if name != "time"}


def write_pending(
    writer: RecordingWriter, chain: Chain, content: Callable[[Chain, slice], Content] = as_it_is
) -> None:
    """Write the units that are not complete."""
    pending = writer.pending()
    writer.clear_units(pending)
    with tqdm(total=len(pending), unit="unit", desc=writer.location.name, disable=None) as bar:
        for i in pending:
            with np.errstate(invalid="ignore"):  # values that are not finite are counted
                labels, cubes, moments, counts = content(chain, writer.units[i])
                writer.write_unit(i, labels, cubes, moments=moments, counts=counts)
            bar.update()


def carry_files(sources: Sequence[Finished], location: Location) -> None:
    """Keep what the sources hold beside their arrays, such as their paradigms, each once.

    Where two differ, the further ones are numbered: ``actome/paradigm.yaml``, ``actome/paradigm-2.yaml``.
    """
    kept: dict[str, set[str]] = {}
    for source in sources:
        for key in source.further_files():
            first, _ = split_number(key)
            content = source.location.read(key)
            digests = kept.setdefault(first, set())
            if digest_bytes(content) not in digests:
                digests.add(digest_bytes(content))
                location.write(numbered(first, len(digests)), content)

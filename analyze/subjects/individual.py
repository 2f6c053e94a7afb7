"""Components of single subjects: an ICA of each alone, and which of its components is which template."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import delayed

from ...store.arguments import check_seed, whole_number
from ...store.blocks import activation_array, one_blas_thread, valid_tokens
from ...store.errors import InputError, InputTypeError
from ...store.moments import Bool, Float64
from ...store.provenance import source_attrs
from ...store.selection import Selection
from ..components.ica import group_ica
from ..components.solvers import Solver, check_solver
from .alone import Mode, decompose, match
from .checks import Int, check_neurons, labels_of, recording_with_tokens, subjects_of

_DIMS = ("subject", "component", "layer", "neuron")


class _Found(NamedTuple):
    """Components of some subjects, arrays of NumPy or Dask: one row a subject each."""

    component_map: Any  # (subject, component, layer, neuron)
    similarity: Any  # (subject, component)
    n_found: Any
    converged: Any


@dataclass(frozen=True)
class _Options:
    n_components: int
    mode: Mode
    solver: Solver
    standardize: bool
    seed: int


def individual_components(
    ds: xr.Dataset,
    *,
    n_components: int,
    templates: xr.Dataset | None = None,
    subject: str = "prompt",
    mode: Mode = "spatial",
    solver: Solver = "quasi-newton",
    standardize: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Decompose every subject alone, and match its components to the group's if these are given.

    Parameters
    ----------
    ds
        A recording at the level of tokens.
    n_components
        Components of each subject; fewer where the tokens of a prompt hold fewer dimensions.
    templates
        From `group_ica`, of the same neurons: each subject's components are then given in the order and
        with the signs of the templates they are matched to, one to one, so that the correlations of the
        pairs add up to the most.
    subject
        "prompt", or a label whose values make the subjects; each is then decomposed by one run of
        `group_ica` over its prompts, computed here, and refused if their tokens are too few. A subject of one
        prompt is decomposed as that.
    mode
        "spatial": independent over neurons; "temporal": over tokens, the maps being the mixing.
    solver
        "quasi-newton", "fastica" or "picard", all with the tanh contrast in float64.
    standardize
        Give every neuron unit variance over the tokens of the subject; otherwise it is only centred.
    seed
        Draws the starts. Each subject is decomposed once: one run may stop at a local optimum and miss
        sources, so that what does not recur may have been missed.

    Returns
    -------
    Dataset, lazy for prompts

    component_map : (subject, component, layer, neuron), zero mean and unit variance over neurons, the
        longer tail positive; NaN for a neuron without a finite value, for a component that was not found
        and, with `templates`, for a template without a partner
    n_found : (subject), components found
    converged : (subject), whether the ICA converged
    similarity : (subject, component), with `templates`: magnitude of the correlation with the template

    Nothing is taken from other subjects: neurons are centred over the subject's own tokens. So what a
    prompt does to the mean of a neuron is lost here, which `dual_regression` keeps.

    Raises
    ------
    InputError, InputTypeError
        The recording has no tokens, an option is unknown, or the templates are of other neurons.

    Examples
    --------
    >>> from actome.store.phantom import phantom
    >>> ds = phantom(n_prompts=2, n_tokens=(60, 80), n_networks=2, network_gain=4.0)
    >>> individual_components(ds, n_components=2)["component_map"].shape
    (6, 2, 4, 64)
    """
    n_components, seed = whole_number(n_components, "n_components", least=1), check_seed(seed)
    _check(mode, templates)
    check_solver(solver)
    ds = recording_with_tokens(ds, "individual_components")
    if templates is not None:
        check_neurons(ds, templates["component_map"], "templates")
        if not templates["component_map"].notnull().all("component").any():
            raise InputError(
                "the templates have no neuron in common; components of windows of layers are matched "
                "window by window: select one, in the templates and in the recording"
            )
    names, code = subjects_of(ds, subject)
    options = _Options(n_components, mode, solver, standardize, seed)
    wanted = None if templates is None else _values(templates)
    found = (
        _of_prompts(ds, options, wanted)
        if subject == "prompt"
        else _of_labels(ds, code, len(names), options, wanted)
    )
    kept = {name: (_DIMS[: values.ndim], values) for name, values in found._asdict().items()}
    if templates is None:
        del kept["similarity"]
    labels = labels_of(ds, "prompt") if subject == "prompt" else {}
    return xr.Dataset(
        kept,
        coords={
            **{name: ("subject", v.values) for name, v in labels.items() if name != "prompt"},
            **labels_of(ds, "layer"),
            **labels_of(ds, "neuron"),
            "subject": names,
            "component": np.arange(n_components) if templates is None else templates["component"].to_numpy(),
        },
        attrs={
            "kind": "individual_components",
            "method": f"ICA of each subject alone, {mode}, {solver}, float64",
            "subject": subject,
            **asdict(options),
            **(Selection.of(ds) if "prompt" in ds.coords else Selection()).attrs,
            **({} if templates is None else {"templates": templates.attrs.get("source", "")}),
            **source_attrs(ds.attrs),
        },
    )


def _check(mode: str, templates: xr.Dataset | None) -> None:
    if mode not in ("spatial", "temporal"):
        raise InputError(f"mode must be 'spatial' or 'temporal', got {mode!r}")
    if templates is not None and (not isinstance(templates, xr.Dataset) or "component_map" not in templates):
        raise InputTypeError("templates must be components from actome.group_ica")


def _values(templates: xr.Dataset) -> Float64:
    maps = templates["component_map"].transpose("component", "layer", "neuron")
    return maps.to_numpy().astype(np.float64)


def _of_prompts(ds: xr.Dataset, options: _Options, templates: Float64 | None) -> _Found:
    """Decompose each prompt, one task a chunk of prompts, which holds all of its layers; lazy."""
    cube, valid = activation_array(ds).rechunk({2: -1, 3: -1}), valid_tokens(ds)  # type: ignore[no-untyped-call]
    n_maps = options.n_components if templates is None else len(templates)
    task = delayed(one_blas_thread(_decompose_prompts), pure=False, nout=4)
    shared = delayed(templates, pure=False, traverse=False)
    ends = np.cumsum([0, *cube.chunks[0]])
    parts = [
        task(block, valid[a:b], options, shared)
        for block, a, b in zip(cube.to_delayed().ravel(), ends[:-1], ends[1:], strict=True)
    ]
    shapes = ((n_maps, *cube.shape[2:]), (n_maps,), (), ())
    types = (np.float64, np.float64, np.int64, np.bool_)
    return _Found(
        *(
            da.concatenate(  # type: ignore[no-untyped-call]
                [
                    da.from_delayed(part[i], (n, *shape), dtype=dtype)  # type: ignore[no-untyped-call]
                    for part, n in zip(parts, cube.chunks[0], strict=True)
                ]
            )
            for i, (shape, dtype) in enumerate(zip(shapes, types, strict=True))
        )
    )


def _decompose_prompts(
    block: npt.NDArray[Any], valid: Bool, options: _Options, templates: Float64 | None
) -> _Found:
    return _stacked(
        [
            _ordered(decompose(prompt[mask].reshape(int(mask.sum()), -1), **asdict(options)), templates)
            for prompt, mask in zip(block, valid, strict=True)
        ],
        block.shape[2:],
    )


def _of_labels(
    ds: xr.Dataset, code: Int, n_subjects: int, options: _Options, templates: Float64 | None
) -> _Found:
    """Decompose the prompts of each subject by group ICA, computed here."""
    shape = (ds.sizes["layer"], ds.sizes["neuron"])
    rows = []
    for s in range(n_subjects):
        own = ds.isel(prompt=np.flatnonzero(code == s))
        if own.sizes["prompt"] == 1:
            found = decompose(_tokens_of(own), **asdict(options))
        else:
            group = group_ica(own, n_runs=1, null=0, **asdict(options))
            maps = group["component_map"].to_numpy().reshape(group.sizes["component"], -1)
            found = maps, len(maps), bool(group["converged"].all())
        rows.append(_ordered(found, templates))
    return _stacked(rows, shape)


def _tokens_of(ds: xr.Dataset) -> npt.NDArray[Any]:
    """Return the tokens of a recording of one prompt: (token, column)."""
    tokens: npt.NDArray[Any] = activation_array(ds).compute()[0, valid_tokens(ds)[0]]  # type: ignore[no-untyped-call]
    return tokens.reshape(len(tokens), -1)


def _ordered(
    found: tuple[Float64, int, bool], templates: Float64 | None
) -> tuple[Float64, Float64, int, bool]:
    maps, n_found, converged = found
    if templates is None:
        return maps, np.full(len(maps), np.nan), n_found, converged
    return *match(maps, templates.reshape(len(templates), -1)), n_found, converged


def _stacked(rows: list[tuple[Float64, Float64, int, bool]], shape: tuple[int, ...]) -> _Found:
    maps, similarity, n_found, converged = (np.array(values) for values in zip(*rows, strict=True))
    return _Found(maps.reshape(*maps.shape[:2], *shape), similarity, n_found, converged)

"""Group ICA: the functional networks of a model, and how surely each one is there.

Subject PCA, group PCA, ICA. The group's part is repeated over bootstrapped subjects and fresh starts;
estimates that come back form tight clusters, and the tightness is the stability of a component. A component
is called a network where it is more stable, and less Gaussian, than any that Gaussian scores give, and alike
in two halves of the subjects.
"""

from collections.abc import Sequence
from typing import Literal

import xarray as xr

from ...store.blocks import with_tokens
from ...store.errors import InputError
from .null import judged
from .options import Options, check_recordings
from .result import component_attrs, stacked
from .solvers import Solver
from .subjects import subjects_of
from .window import decompose_window, windows

_METHODS = {"quasi-newton": "quasi-Newton tanh", "fastica": "FastICA logcosh", "picard": "Picard-O tanh"}


def group_ica(
    ds: xr.Dataset | Sequence[xr.Dataset],
    *,
    n_components: int | float | str,
    subject: str = "prompt",
    mode: Literal["spatial", "temporal"] = "spatial",
    subject_components: int | None = None,
    n_runs: int = 10,
    seed: int = 0,
    standardize: bool = True,
    solver: Solver = "quasi-newton",
    group: Literal["pca", "cca"] = "pca",
    window: int | None = None,
    null: int = 19,
) -> xr.Dataset:
    """Decompose recordings into networks of neurons that vary together over tokens.

    Computed here, on the active Dask scheduler: the cube is read twice (four times for temporal sources,
    three times more for "parallel"), in blocks, and never held whole; neither are the components of all
    subjects. Temporal sources hold every token in a basis of at most ``max(2 K, K + 64)`` dimensions.

    Parameters
    ----------
    ds
        A recording at the level of tokens, or several with the same layers and neurons: data sets, or
        models of the same shape. Each is centred and scaled on its own.
    n_components
        Components of the group; or a share of the variance, below 1, that they are to hold; or
        "parallel", as many as vary more than where neurons have random signs in every prompt.
    subject
        "prompt", "recording", or a label whose values make the subjects of a recording.
    mode
        "spatial": maps over neurons are the independent sources; "temporal": time courses over tokens
        are, and maps are how much of each every neuron has.
    subject_components
        Principal components kept of a subject, singular values included; by default twice
        `n_components`, for "cca" as many, never more than its tokens.
    n_runs
        Repeats: the first takes every subject once, the others bootstrap the subjects; each starts
        afresh. One alone is quick, and blind: it may stop at a local optimum and miss sources, of
        networks that share many neurons above all, and has neither stability nor null to tell by.
    seed
        Draws the bootstraps, the starts, the halves and the null.
    standardize
        Give every neuron unit variance over tokens; otherwise neurons are only centred, and those
        of large variance (late layers, as a rule) lead the components.
    solver
        "quasi-newton": on rotations, in blocks; "fastica": scikit-learn's, logcosh; "picard" (needs
        python-picard). All seek the same, in float64.
    group
        "pca": what is large in the subjects together leads; "cca": what they have in common does, their
        components being given unit norm [3]_.
    window
        Layers decomposed together; None takes all of them at once.
    null
        Draws of Gaussian scores that are put through the procedure; 0 leaves the null out. 19 are
        enough for p = .05.

    Returns
    -------
    Dataset

    component_map : (component, layer, neuron), zero mean and unit variance over neurons, the longer
        tail positive, NaN for a neuron with any NaN and outside the component's window; most stable
        first. A neuron that never varies counts as one that no component moves
    stability : (component), in [0, 1]: mean |correlation| of the estimates in its cluster less that to
        the others (the index of ICASSO, an estimate's correlation with itself left out); NaN for one
        repeat
    explained_variance : (component), share of the variance over tokens and neurons (of its window) that
        lies along the map; maps are not orthogonal, so shares may overlap. What PCA left out is not
        counted, so that they may fall short too
    cluster_size : (component), estimates in its cluster; `n_runs` when it came back every time
    split_half : (component), |correlation| of the maps that two halves of the subjects give for it; NaN
        for one repeat, and where a half has too few dimensions
    split_half_dice : (component), Dice of the neurons above z = 3.6 in these two maps; NaN too where
        there are none
    departure : (component), how far its source is from Gaussian, in units in which chance gives about 1.
        A part of the test, and no test alone: that of noise exceeds the null's too often
    p_value : (component), share of draws of the null whose largest stability, or largest departure if
        that is more often, is as large: a network has to exceed both. Corrected for the number of
        components, of all windows together
    is_network : (component), p_value of at most .05, and split_half of at least .5 (or NaN)
    converged, n_iterations : (repeat), of the ICA of each repeat; with several windows (of_window, repeat)
    null_stability, null_departure : (draw), the largest of each draw; with several windows (of_window, draw)

    Without a null, or with one repeat, the variables that need it are left out. attrs say what is taken
    for granted (``assumption``). The coordinate ``window`` of a component is the first layer of its
    window. Prompts without tokens take no part.

    Notes
    -----
    Subjects are reduced once. Their components are kept as small matrices in the coordinates of one
    basis of ``max(2 K, K + 64)`` dimensions, so a bootstrap is an eigenproblem of that size. That is exact
    while all subjects' components together are no more; beyond, the directions in which the subjects
    together vary least are left out.

    The null keeps all inner products, and so all that PCA sees, and has Gaussian scores; over tokens, with
    the recording's spectrum within prompts and variance between them. It takes the first five repeats (more
    of less than ten components): of fewer, chance makes tighter clusters. Restarts alone are no null: on
    pure noise clusters come back at .6 to .7. The halves are for noise that is not Gaussian: where neurons
    are seldom active, each on its own, patterns of single tokens come back in every repeat that has them,
    but not in both halves (correlation below .15, of what is planted above .9). The null takes neurons for
    alike: without `standardize` one of large variance is a component, and a network, by itself. Of a single
    component there is nothing to rotate, and its stability is that of chance: a spatial one is judged by
    its departure and the halves, a temporal one, whose departure does not suffice, is never a network.

    A subject whose prompts lie in several chunks is put together from the parts' components, more of them
    than are kept in the end, so that chunks and order change its weak components in the last digits shown.

    Raises
    ------
    InputError
        An option that is not allowed, too few tokens or subjects for so many components, recordings
        that do not match, or nothing that varies.
    MissingDependencyError
        The solver is not installed.

    References
    ----------
    .. [1] Calhoun et al. (2001), Human Brain Mapping 14:140-151.
    .. [2] Himberg, Hyvarinen & Esposito (2004), NeuroImage 22:1214-1222.
    .. [3] Varoquaux et al. (2010), NeuroImage 51:288-299.
    """
    recordings = [ds] if isinstance(ds, xr.Dataset) else list(ds)
    options = Options(
        n_components, subject, mode, subject_components, n_runs, seed, standardize, solver, group, null
    )
    check_recordings(recordings)
    options.check()
    recordings = [_with_tokens(r) for r in recordings]
    subjects = subjects_of(recordings, subject)
    of_windows = enumerate(windows(recordings, window))
    found = stacked([decompose_window(own, subjects, options, i) for i, own in of_windows])
    if options.has_null:
        found = judged(found)
    attrs = component_attrs(recordings, f"group ICA, {mode}, {_METHODS[solver]}, float64")
    return found.assign_attrs(
        attrs,
        subject=subject,
        n_subjects=len(subjects),
        subject_components=options.plan.of_subject,
        mode=mode,
        n_runs=n_runs,
        seed=seed,
        standardize=standardize,
        solver=solver,
        group=group,
        window=window or 0,
        n_components=str(n_components),
        n_null=null,
        assumption=options.assumption,
    )


def _with_tokens(ds: xr.Dataset) -> xr.Dataset:
    ds = with_tokens(ds)
    if not ds.sizes["prompt"]:
        raise InputError(
            f"the recording {ds.attrs.get('name', '')!r} has no prompt with tokens; leave it out"
        )
    return ds

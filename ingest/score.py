"""Scoring: the log probability of every token under each lesion and under its matched controls."""

import os
from collections.abc import Mapping, Sequence
from math import prod

import xarray as xr
from tqdm import tqdm

from ..store.arguments import check_seed, true_or_false, whole_number
from ..store.location import Location
from ..store.paradigm import Paradigm, as_paradigm
from ..store.provenance import unfinished_of
from ..store.selection import Selection
from ..store.unit_archive import UnitArchive, check_place, make_units
from .forward import Sampling
from .held_out import held_out
from .labels import OF_CHOICES, check_labels
from .lesions.change import Change
from .lesions.kinds import Kind, as_doses, check_kind
from .lesions.masks import Mask
from .lesions.reference import mean_activation, reference_identity
from .models import LoadedModel, ModelLike, load_model
from .recorder import Part, checked_part
from .scoring.choices import Choices, Continuations
from .scoring.doubts import warn_of_another_model, warn_of_empty
from .scoring.lesions import as_networks, list_lesions, selection_of, selectivity_maps, spread
from .scoring.plan import Asked, ScorePlan, check_scorable
from .scoring.readings import Reading
from .scoring.units import UnitScorer
from .sites import find_taps
from .tokens import tokenize

Masks = xr.DataArray | str | os.PathLike[str] | Mapping[str, Mask]


def score(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    masks: Masks,
    *,
    site: str = "mlp",
    kind: Kind = "zero",
    amount: float | Sequence[float] | None = None,
    reference: xr.Dataset | None = None,
    keep_only: bool = False,
    controls: int = 99,
    selectivity: xr.DataArray | None = None,
    untrained: int = 0,
    hits: bool = False,
    kl: bool = False,
    max_new_tokens: int = 0,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    device: str | None = None,
    part: Part | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Score a paradigm without a lesion, under each network's lesion, and under its matched controls.

    Prompts that selected a network never score it: those in ``masks.attrs["selected_on"]`` are left out,
    by their texts where ``masks.attrs["selected_texts"]`` has digests of these, as results of analyses do,
    else by their ids. Of several masks the prompts of all are left out; those that lack the list give a
    warning.

    An interrupted run goes on where it stopped when the same call is made again; a finished one is opened
    at once. Lesions share forward passes, and each pass leaves out the blocks before the first layer that
    a lesion touches; which do is a fixed rule, so that the numbers never depend on how fast a machine is.

    Parameters
    ----------
    model, site, kind, reference, device, progress
        As for `lesion` and `record`. The reference is also what controls are matched on: without one they
        match in size and layers alone.
    paradigm
        The texts to score. With the columns ``choices`` ("Rome | Paris") and ``answer`` ("Paris", or its
        place from 0) each choice is scored behind its text.
    out
        Where the scores are saved; scores that were made there by the same call are opened.
    masks
        bool (network, layer, neuron), from `threshold` or `networks`; the path of saved ones; or a mapping
        from names to masks as `lesion` takes them.
    amount
        As for `lesion`; several are doses, each of which every network and control is given.
    keep_only
        Change all neurons of the site but the network's.
    controls
        Random controls per network, matched in size, layers and magnitude.
    selectivity
        (layer, neuron) or (network, layer, neuron), such as the ``stat`` of a contrast: one more control a
        network, of the neurons of the same layers whose magnitude in this map is least.
    untrained
        In so many copies of the model with random weights, all held in memory, the targets are lesioned
        too. What a kind takes from the reference is that of the trained model.
    hits, kl
        Also keep whether each token was the likeliest one; how far what the model foretells is from what
        it foretells without a lesion.
    max_new_tokens, temperature, top_p
        Let the model continue each prompt under each lesion with so many tokens; as for `record`. Within a
        text what was read is kept (the cache of keys and values); one lesion runs at a time, from the first
        block on, since texts differ from the first token that a lesion changes.
    seed
        Draws the controls, by the names of their networks; the noise and the samples, by the ids of the
        prompts; and the weights of the untrained copies.
    part
        (k, n): this process is the k-th of n, from 0, that score into one archive together. Each takes
        every n-th unit, the last to end finalises; the one with k = 0 begins.

    Returns
    -------
    Dataset
        ``logprob`` (lesion, prompt, token), nats, NaN on the first token and on padding; ``network``
        (lesion, layer, neuron), what was removed, or with `keep_only` kept; the labels of the prompts.
        Along ``lesion`` the coordinates

        role : "baseline", "target" or "control"
        target : the network's name, also that of the network of a control
        control_kind : "matched" or "least_selective"; "" for what is no control
        draw : number of a matched control, else -1
        dose : the amount, NaN for the baseline; only where there are several
        mismatch : relative difference of a control's mean magnitude from its target's
        mismatch_size : relative difference of the number of neurons
        mismatch_layers : share of the neurons that lie in other layers
        shared : share of a control's neurons that are the target's own

        and, where asked for,

        hit : (lesion, prompt, token) int8, 1 where the token was the likeliest, -1 where none is scored
        kl : (lesion, prompt, token), nats: Kullback-Leibler divergence of the distribution of this token
            given those before, without a lesion, from that under it
        choice_logprob : (lesion, prompt, choice), nats: sum over the choice's tokens; NaN where none
        correct : (lesion, prompt) int8, whether the right choice is likelier than every other, -1 without
            choices
        answer_index : (prompt,), choice_n_tokens : (prompt, choice)
        completion : (lesion, prompt), what the model wrote
        parsed : (lesion, prompt) int8, the choice that this names; -1 where it names none or several, -2
            without choices
        logprob_untrained : (lesion, prompt, copy, token), of the baseline and the targets

        A process that scored its part while others have not ends with NaN where they will write.

    Warns
    -----
    UserWarning
        Masks do not say which prompts selected them; a network has no neuron; or the masks or the reference
        come from a model of other weights, which attrs keep too (``other_weights``).

    Raises
    ------
    InputError, InputTypeError
        A mask does not fit the model or the site, two networks have one name, the reference is of
        another site, a label of the prompts has a name that the scores need, no prompt is left or none
        has a second token, or `out` cannot be written or holds other scores.
    """
    networks = as_networks(masks)
    controls = whole_number(controls, "controls", least=0)
    untrained = whole_number(untrained, "untrained", least=0)
    max_new_tokens = whole_number(max_new_tokens, "max_new_tokens", least=0)
    seed, keep_only = check_seed(seed), true_or_false(keep_only, "keep_only")
    doses = as_doses(amount)
    for dose in doses:
        check_kind(kind, dose, reference)
    part = None if part is None else checked_part(part)
    sampling = Sampling(max_new_tokens, temperature, top_p, seed) if max_new_tokens else None
    location = Location.of(out)
    check_place(location, "scores", "scores")
    paradigm = as_paradigm(paradigm)
    check_labels(paradigm, "scores", OF_CHOICES if "choices" in paradigm.table else ())
    loaded = load_model(model, device=device)
    with loaded.evaluating():
        selected, silent = selection_of(networks)
        paradigm = held_out(paradigm, selected, "masks", silent=silent)
        taps = find_taps(loaded.module, site)
        shape = (len(taps), taps[0].width)
        targets = spread(networks, shape, site)
        tokens = tokenize(loaded, paradigm.table)
        wanted: dict[Reading, bool] = {"logprob": True, "hit": hits, "kl": kl}
        readings = tuple(name for name, is_wanted in wanted.items() if is_wanted)
        asked = _asked(loaded, paradigm, readings, sampling, untrained)
        check_scorable(loaded, tokens, asked)
        change = Change.of(kind, reference, shape, site, seed)
        magnitude, identity = None, {}
        if reference is not None:
            magnitude = mean_activation(reference, shape, site, magnitude=True)
            identity = reference_identity(reference, magnitude, change.digest())
        lesions = list_lesions(
            targets,
            doses,
            magnitude=magnitude,
            selectivity=selectivity_maps(selectivity, list(targets), shape),
            controls=controls,
            seed=seed,
        )
        plan = ScorePlan(loaded, paradigm, tokens, lesions, keep_only, site, kind, change, seed, asked)
        inputs = plan.inputs(identity, doses)
        warn_of_empty(targets, keep_only=keep_only)
        source = getattr(networks, "attrs", {})
        known = _sources(source, selected)
        known |= unfinished_of(source, {} if reference is None else reference.attrs)
        known |= warn_of_another_model(networks, reference, inputs["weights_digest"])
        return make_units(
            location, inputs, "scores", lambda: plan.allocation(known),
            lambda archive: _score_units(plan, archive, part, progress), part=part,
        )  # fmt: skip


def _asked(
    loaded: LoadedModel,
    paradigm: Paradigm,
    readings: tuple[Reading, ...],
    sampling: Sampling | None,
    untrained: int,
) -> Asked:
    choices = Choices.of(paradigm.table)
    rows = None if choices is None else Continuations.of(loaded, paradigm.table, choices)
    return Asked(readings, choices, rows, sampling, untrained)


def _sources(attrs: Mapping[str, object], selected: Selection | None) -> dict[str, object]:
    """Say where the masks come from, for the attributes of the scores."""
    source = attrs.get("source") or attrs.get("derived_from")
    derived = [source] if isinstance(source, str) else list(source) if isinstance(source, list) else []
    out: dict[str, object] = {"derived_from": derived} if derived else {}
    return out if selected is None else {**out, **selected.attrs}


def _score_units(plan: ScorePlan, archive: UnitArchive, part: Part | None, progress: bool | None) -> None:
    """Score this process's units that are not there yet."""
    k, n = part or (0, 1)
    mine = [unit for unit in archive.pending() if unit % n == k]
    scorer = UnitScorer(plan, int(archive.attrs["batch_tokens"]))
    places = {unit: archive.grid.slices(unit) for unit in mine}
    sizes = {u: prod(s.stop - s.start for s in cut.values()) for u, cut in places.items()}
    hidden = None if progress is None else not progress
    with tqdm(total=sum(sizes.values()), desc="score", unit="prompt", disable=hidden) as bar:
        for unit in mine:
            archive.write(unit, scorer.score(places[unit]["lesion"], places[unit]["prompt"]))
            bar.update(sizes[unit])

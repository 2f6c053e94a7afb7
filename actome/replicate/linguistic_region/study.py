"""arXiv 2310.14928: the parameters that all languages rest on, and those of each language alone.

Regions are selected on some texts and removed, perturbed or frozen; their effects are measured on others,
beside random regions. Every step is a public function, its result kept in the folder.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import xarray as xr

from ...analyze.regions.concentration import concentration
from ...analyze.regions.effects import forgetting, region_effects, sweep_effects
from ...analyze.regions.places import Along, top_places
from ...analyze.regions.selection import region
from ...analyze.regions.sets import by_matrix, join_regions, region_overlap
from ...analyze.report import report
from ...store.kept import Kept
from ...store.paradigm import Paradigm, as_paradigm
from ..outcome import Outcome, as_dataset, say
from .choices import choices
from .settings import BATCH, FACTORS, LINES, MONOLINGUAL, PLACES, SHARES, Settings, check
from .statements import alone, destroyed, dissociated, frozen, gathered, hurt, lines_hurt, most, spared
from .texts import Texts, questions, split

if TYPE_CHECKING:
    from ...ingest.models import LoadedModel, ModelLike

STUDY: Final = "arXiv 2310.14928"

_NOT_MATRICES = ("norm", "bias")
_NOTE = (
    "The languages, the texts and the model are not the study's. Agreement here says that its procedure finds "
    "the same kind of thing in this model, on these texts."
)


def run(
    *,
    model: "ModelLike",
    out: str | os.PathLike[str],
    paradigm: Paradigm | str | os.PathLike[str] = "languages",
    controls: int = 3,
    language: str | None = None,
    steps: int = 20,
    learning_rate: float = 1e-4,
    probe: Paradigm | str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Outcome:
    """Select the regions of languages, remove, perturb and freeze them, and judge what the study states.

    Interrupted, it goes on where it stopped when it is called again.

    Parameters
    ----------
    model
        As `record` takes it; one that foretells the next token.
    out
        Folder of the results and the report; made if it is not there.
    paradigm
        Texts whose conditions are the languages, three or more of each. One in three evaluates.
    controls
        Random regions beside each.
    language
        The condition that the model is trained on; by default the one that it foretells worst.
    steps, learning_rate
        Of that training, in each of its four arms.
    probe
        Questions, as `train_frozen` takes them; by default ten about Linux and Python.
    seed
        Draws the split of the texts, the controls and the batches.
    device
        Where the model runs.

    Returns
    -------
    The path of the HTML report, and the statements in it.

    Raises
    ------
    InputError
        An option is not allowed, the paradigm does not fit, or `out` holds results of other settings.
    """
    settings = Settings(controls, language or "", steps, learning_rate, seed)
    check(settings)
    texts = split(as_paradigm(paradigm), settings.language, seed)
    asked = questions() if probe is None else as_paradigm(probe)
    from ...ingest.importance import importance
    from ...ingest.models import load_model

    loaded, folder = load_model(model, device=device), Path(out)
    say(f"importance of every parameter for {len(texts.conditions)} languages")
    weights = importance(loaded, texts.selecting, folder / "importance.zarr", parameters="all")
    kept = Kept(folder, weights.attrs["manifest_digest"], settings.kept())
    steps_of = _Steps(loaded, texts, weights, settings, folder, kept)
    found = {
        **steps_of.regions(),
        **steps_of.sweeps(),
        "forgetting": steps_of.training(asked),
    }
    told = kept("statements", _judge, settings, texts, found)
    return Outcome(report(told, *found.values(), out=folder / "report.html"), told)


@dataclass(frozen=True)
class _Steps:
    """What all steps of a replication share."""

    model: "LoadedModel"
    texts: Texts
    importance: xr.DataTree
    settings: Settings
    folder: Path
    kept: Kept

    @property
    def matrices(self) -> list[str]:
        """Types of weight matrix within the blocks."""
        types = {str(n.attrs["matrix"]) for n in self.importance.children.values() if n.attrs["layer"] >= 0}
        return sorted(types - set(_NOT_MATRICES))

    def select(self, **options: Any) -> xr.DataTree:
        """Select a region of the matrices of the blocks."""
        return region(self.importance, matrices=self.matrices, **options)

    def regions(self) -> dict[str, xr.Dataset]:
        """Remove the core, its parts and what belongs to one language; say where they lie."""
        core = [self.select(top=s, role=role) for s in SHARES for role in ("top", "bottom")]
        own = self.select(top=MONOLINGUAL, of="condition")
        return {
            "core": self._removed("core", join_regions(*core)),
            "matrices": self._removed("matrices", by_matrix(self.select(top=SHARES[-1]))),
            "monolingual": self._removed("monolingual", self.select(top=MONOLINGUAL, of="monolingual")),
            "overlap": self.kept("overlap", region_overlap, own),
            "concentration": self.kept(
                "concentration", concentration, core[0], lines=LINES, seed=self.settings.seed
            ),
        }

    def _removed(self, name: str, regions: xr.DataTree) -> xr.Dataset:
        from ...ingest.regions.scores import score_regions

        say(f"scores without the regions: {name}")
        scores = score_regions(
            self.model, self.texts.scoring, self.folder / f"scores_{name}.zarr", regions,
            controls=self.settings.controls, seed=self.settings.seed,
        )  # fmt: skip
        return self.kept(f"effects_{name}", region_effects, scores, seed=self.settings.seed)

    def sweeps(self) -> dict[str, xr.Dataset]:
        """Multiply single parameters of the whole model, and rows and columns of its matrices."""
        from ...ingest.regions.sweep import sweep

        kinds: tuple[tuple[Along, xr.DataTree], ...] = (
            ("scalar", self.importance),
            ("row", self._in_blocks()),
            ("column", self._in_blocks()),
        )
        found = {}
        for along, tree in kinds:
            say(f"scores with multiplied parameters: {along}")
            places = top_places(tree, n=PLACES, along=along, seed=self.settings.seed)
            path = self.folder / f"sweep_{along}.zarr"
            swept = sweep(self.model, self.texts.scoring, path, places, factors=FACTORS)
            found[along] = self.kept(f"sweep_effects_{along}", sweep_effects, swept, seed=self.settings.seed)
        return found

    def _in_blocks(self) -> xr.DataTree:
        kept = {
            name: node.to_dataset()
            for name, node in self.importance.children.items()
            if node.attrs["matrix"] in self.matrices
        }
        return xr.DataTree.from_dict({"/": self.importance.to_dataset(), **kept})

    def training(self, probe: Paradigm) -> xr.Dataset:
        """Train on one language with the core region of the others frozen, and beside it."""
        from ...ingest.regions.training import train_frozen

        language = self.settings.language or str(self.importance["loss"].idxmax().item())
        say(f"training on {language}")
        others = [c for c in self.texts.conditions if c != language]
        trained = train_frozen(
            self.model, self.texts.scoring, self.folder / "training.zarr",
            self.select(top=SHARES[-1], conditions=others),
            texts=self.texts.selecting.select(condition=language), probe=probe, steps=self.settings.steps,
            every=self.settings.every, batch_size=BATCH, learning_rate=self.settings.learning_rate,
            seed=self.settings.seed,
        )  # fmt: skip
        return self.kept("forgetting", _forgetting, trained, language, self.settings.seed)


def _forgetting(trained: xr.Dataset, language: str, seed: int) -> xr.Dataset:
    return forgetting(trained, seed=seed).assign_attrs(trained_on=language, n_items=trained.sizes["item"])


def _judge(settings: Settings, texts: Texts, found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    judged = [
        hurt(found["core"]),
        spared(found["core"]),
        most(found["monolingual"]),
        alone(found["monolingual"]),
        gathered(found["concentration"]),
        lines_hurt(found["row"], found["column"]),
        destroyed(found["scalar"]),
        frozen(found["forgetting"]),
        dissociated(found["forgetting"]),
    ]
    return as_dataset(judged, choices(settings, texts, found), study=STUDY, note=_NOTE)

"""arXiv 2310.14928: the parameters that all languages rest on, and those of each language alone.

Regions are selected on some texts and removed, perturbed or frozen; their effects are measured on others,
beside random regions. Every step is a public function, its result kept in the folder.
"""

import os
import shutil
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
from ...analyze.report.wording import percent
from ...store.archive import open as open_result
from ...store.errors import InputError
from ...store.kept import Kept
from ...store.paradigm import Paradigm, as_paradigm
from ...store.results import save_result
from ..outcome import Outcome, as_dataset, say
from .choices import choices
from .settings import BATCH, FACTORS, LINES, MONOLINGUAL, PLACES, SHARES, Settings, check
from .statements import alone, destroyed, dissociated, frozen, gathered, hurt, lines_hurt, most, spared
from .texts import Texts, questions, split

if TYPE_CHECKING:
    from ...ingest.models import LoadedModel, ModelLike

STUDY: Final = "arXiv 2310.14928"

_NOT_MATRICES = ("norm", "bias")
_TITLES = {
    "core": "Without the core region",
    "matrices": "Without the core region of one type of matrix",
    "monolingual": "Without the region of a single language",
}
_NOTE = (
    "The languages, the texts and the model are not the study's. Agreement here says that its procedure "
    "finds the same kind of thing in this model, on these texts."
)


def run(
    *,
    model: "ModelLike",
    out: str | os.PathLike[str],
    paradigm: Paradigm | str | os.PathLike[str] = "languages",
    n_controls: int = 3,
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
        As `record` takes it; one that foretells the next token. It is loaded in float32, in which it is
        trained; a loaded one must be.
    out
        Folder of the results and the report; made if it is not there.
    paradigm
        Texts whose conditions are the languages, three or more of each. One in three evaluates.
    n_controls
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
        An option is not allowed, the paradigm does not fit, the model is not in float32, or `out` holds
        results of other settings: to train in another way, remove those of the training.
    """
    settings = Settings(n_controls, language or "", steps, learning_rate, seed)
    check(settings)
    texts = split(as_paradigm(paradigm), settings.language, seed)
    asked = questions() if probe is None else as_paradigm(probe)
    from ...ingest.importance import importance
    from ...ingest.models import load_model
    from ...ingest.regions.probe import Probe
    from ...ingest.regions.training import DTYPE, check_trainable

    loaded, folder = load_model(model, device=device, dtype=DTYPE), Path(out)
    check_trainable(loaded.module)  # what would be refused before the training is refused now
    Probe(loaded, asked)
    say(f"importance of every parameter for {len(texts.conditions)} languages")
    weights = importance(loaded, texts.selecting, folder / "importance.zarr", parameters="all")
    source = weights.attrs["manifest_digest"]
    kept = Kept(folder, source, settings.of_regions())
    of_training = Kept(folder, source, {**settings.kept(), "probe": asked.digest})
    study = _Study(loaded, texts, weights, settings, folder, kept)
    found = {
        **study.regions(),
        **study.sweeps(),
        "forgetting": of_training("forgetting", study.trained, asked),
    }
    told = of_training("statements", _judge, settings, texts, found, loaded.name)
    return Outcome(report(told, *found.values(), out=folder / "report.html"), told)


@dataclass(frozen=True)
class _Study:
    """A replication: what its steps share, and the steps."""

    model: "LoadedModel"
    texts: Texts
    importance: xr.DataTree
    settings: Settings
    folder: Path
    kept: Kept

    def regions(self) -> dict[str, xr.Dataset]:
        """Remove the core, its parts and what belongs to one language; say where they lie."""
        kept, seed = self.kept, self.settings.seed
        return {
            **{
                name: kept(f"effects_{name}", self._removed, name)
                for name in ("core", "matrices", "monolingual")
            },
            "overlap": kept("overlap", self._overlap),
            "concentration": kept("concentration", self._concentration, seed),
        }

    def _removed(self, name: str) -> xr.Dataset:
        from ...ingest.regions.scores import score_regions

        say(f"scores without the regions: {name}")
        scores = score_regions(
            self.model, self.texts.scoring, self.folder / f"scores_{name}.zarr", self._masks(name),
            controls=self.settings.n_controls, seed=self.settings.seed,
        )  # fmt: skip
        return region_effects(scores, seed=self.settings.seed).assign_attrs(title=_TITLES[name])

    def _overlap(self) -> xr.Dataset:
        title = f"the top {percent(MONOLINGUAL)} of each language"
        return region_overlap(self._masks("condition")).assign_attrs(title=title)

    def _concentration(self, seed: int) -> xr.Dataset:
        core = self._masks("core")
        smallest = xr.DataTree.from_dict({n.path: n.to_dataset().isel(region=[0]) for n in core.subtree})
        return concentration(smallest, lines=LINES, seed=seed)

    def _masks(self, name: str) -> xr.DataTree:
        """Open regions that are kept; select and save them first if they are not there."""
        path = self.folder / f"regions_{name}.zarr"
        if not path.exists():
            partial = path.with_name(f".{path.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            save_result(self._select(name), partial, derived_from=self.importance.attrs["manifest_digest"])
            partial.rename(path)
        opened: xr.DataTree = open_result(path)  # type: ignore[assignment]
        return opened

    def _select(self, name: str) -> xr.DataTree:
        if name == "core":
            return join_regions(*(self._region(top=s, role=r) for s in SHARES for r in ("top", "bottom")))
        if name == "matrices":
            return by_matrix(self._region(top=SHARES[-1]))
        if name == "frozen":
            return self._region(top=SHARES[-1], conditions=self._others())
        return self._region(top=MONOLINGUAL, of=name, conditions=self.texts.conditions)

    def _region(self, **options: Any) -> xr.DataTree:
        """Select regions of the matrices of the blocks."""
        return region(self.importance, matrices=self._matrices(), **options)

    def sweeps(self) -> dict[str, xr.Dataset]:
        """Multiply single parameters of the whole model, and rows and columns of its matrices."""
        alongs: tuple[Along, ...] = ("scalar", "row", "column")
        return {along: self.kept(f"sweep_effects_{along}", self._swept, along) for along in alongs}

    def _swept(self, along: Along) -> xr.Dataset:
        from ...ingest.regions.sweep import sweep

        say(f"scores with multiplied parameters: {along}")
        tree = self.importance if along == "scalar" else self._in_blocks()
        places = top_places(tree, n=PLACES, along=along, seed=self.settings.seed)
        path = self.folder / f"sweep_{along}.zarr"
        swept = sweep(self.model, self.texts.scoring, path, places, factors=FACTORS)
        return sweep_effects(swept, seed=self.settings.seed)

    def trained(self, probe: Paradigm) -> xr.Dataset:
        """Train on one language with the core region of the others frozen, and beside it."""
        from ...ingest.regions.training import train_frozen

        language, settings = self._language(), self.settings
        say(f"training on {language}")
        trained = train_frozen(
            self.model, self.texts.scoring, self.folder / "training.zarr", self._frozen(),
            texts=self.texts.selecting.select(condition=language), probe=probe, steps=settings.steps,
            every=settings.every, batch_size=BATCH, learning_rate=settings.learning_rate, seed=settings.seed,
        )  # fmt: skip
        found = forgetting(trained, seed=settings.seed)
        return found.assign_attrs(trained_on=language, n_items=trained.sizes["item"])

    def _frozen(self) -> xr.DataTree:
        """Open the region of the other languages, which is kept whatever is trained on."""
        frozen = self._masks("frozen")
        if frozen.attrs["conditions"] != self._others():
            path = self.folder / "regions_frozen.zarr"
            raise InputError(
                f"{path} is the region of {frozen.attrs['conditions']}, not of {self._others()}; remove it "
                "or choose another folder"
            )
        return frozen

    def _language(self) -> str:
        """Return the condition that is trained on."""
        return self.settings.language or str(self.importance["loss"].idxmax().item())

    def _others(self) -> list[str]:
        return [c for c in self.texts.conditions if c != self._language()]

    def _matrices(self) -> list[str]:
        """Name the types of weight matrix within the blocks."""
        types = {str(n.attrs["matrix"]) for n in self.importance.children.values() if n.attrs["layer"] >= 0}
        return sorted(types - set(_NOT_MATRICES))

    def _in_blocks(self) -> xr.DataTree:
        """Return the importance of the matrices of the blocks."""
        kinds = self._matrices()
        kept = {
            name: node.to_dataset()
            for name, node in self.importance.children.items()
            if node.attrs["matrix"] in kinds
        }
        return xr.DataTree.from_dict({"/": self.importance.to_dataset(), **kept})


def _judge(settings: Settings, texts: Texts, found: Mapping[str, xr.Dataset], model: str) -> xr.Dataset:
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
    name = f"{STUDY} on {model}"
    return as_dataset(judged, choices(settings, texts, found), study=STUDY, note=_NOTE, name=name)

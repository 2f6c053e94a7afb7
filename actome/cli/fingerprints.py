"""The command `fingerprint`: whether the networks of two models are those of one."""

from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import CatalogOption, Out, Site, digests, recording_of, refuse_taken


def fingerprint(
    first: Annotated[str, typer.Argument(help="A recording, or a signature saved by this command.")],
    out: Out,
    second: Annotated[
        str | None, typer.Argument(help="Of another model; left out, the signature of the first is saved.")
    ] = None,
    unrelated: Annotated[
        list[str] | None,
        typer.Option(help="Of a model known to be unrelated to the first; again: a rate of .05 takes 19."),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option("--components", "-k", help="Of each recording. [as many as signatures have, or 64]"),
    ] = None,
    match: Annotated[float, typer.Option(help="Correlation above which two networks match.")] = 0.5,
    alpha: Annotated[float, typer.Option(help="Rate of false positives of the verdict.")] = 0.05,
    within: Annotated[
        str | None, typer.Option(help="Label within whose values texts are shuffled, such as condition.")
    ] = None,
    permutations: Annotated[int, typer.Option(help="Shuffles of the texts, without unrelated models.")] = 200,
    seed: Annotated[int, typer.Option(help="Draws the shuffles and the starts.")] = 0,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Say whether two models, shown the same texts, are related; or save one's signature."""
    from ..analyze.fingerprint import fingerprint as run
    from ..analyze.fingerprint import signature
    from ..analyze.report.fingerprints import fingerprint_line, verdict_line
    from ..store.results import save_result

    refuse_taken(out)
    given = [_opened(n, site, catalog) for n in (first, second, *(unrelated or ())) if n is not None]
    if second is None:
        if given[0].attrs.get("kind") == "signature":
            raise InputError(f"{first} is a signature already; give a second model to compare it with")
        options: dict[str, Any] = {} if components is None else {"n_components": components}
        made = signature(given[0], seed=seed, **options)
        save_result(made, out, derived_from=digests(*given))
        print(f"signature of {made.sizes['network']} networks on {made.sizes['prompt']} texts")
        return
    result = run(
        given[0], given[1], unrelated=given[2:], n_components=components, match=match, alpha=alpha,
        within=within, n_permutations=permutations, seed=seed,
    )  # fmt: skip
    save_result(result, out, derived_from=digests(*given))
    print(fingerprint_line(result))
    print(verdict_line(result))


def _opened(name: str, site: str | None, catalog: list[str] | None) -> Any:
    """Open a recording at its site, or a signature, which has none."""
    from ..store.archive import open as open_recording
    from ..store.catalog import resolve
    from ..store.location import Location

    kind = Location.of(resolve(name, catalog)).group().attrs.get("kind")
    if kind == "signature":
        return open_recording(name, catalog=catalog).load()
    return recording_of(name, site, catalog)

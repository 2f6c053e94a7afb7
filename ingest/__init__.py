"""The only room that runs a model: recording, lesions, scores. It knows the store, not the analyses."""

from ..store.errors import MissingDependencyError

try:
    import torch  # noqa: F401
    import transformers  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"running a model needs {error.name}, which is not installed here: pip install 'actome[ingest]'"
    ) from error

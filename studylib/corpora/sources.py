"""The sources of corpora by name; none is imported before it is used."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from studylib.corpora.store import Corpus
from studylib.errors import StudyError

# Name of a source -> module and name of its settings, module with its function `prepare`.
_RECORDINGS = "studylib.corpora.preparation"
_EMBEDDED = "studylib.corpora.synthetic"
SOURCES = {
    "embedded": (f"{_EMBEDDED}.settings", "EmbeddedSettings", f"{_EMBEDDED}.embedded"),
    "folder": ("studylib.corpora.folder", "FolderSettings", _RECORDINGS),
    "librispeech": ("studylib.corpora.librispeech", "LibriSpeechSettings", _RECORDINGS),
    "voxceleb": ("studylib.corpora.voxceleb", "VoxCelebSettings", _RECORDINGS),
}


def prepare_corpus(
    source: str, settings: Mapping[str, Any], folder: Path, *, overwrite: bool = False
) -> Corpus:
    """Prepare the corpus of a source in a folder, unless it is there.

    Parameters
    ----------
    source : str
        embedded, folder, librispeech or voxceleb.
    settings : mapping
        Of the source.
    folder : Path
        Of the corpus.
    overwrite : bool
        Replace another corpus in this folder.

    Raises
    ------
    StudyError
        If a setting is wrong, a recording cannot be used, or the folder holds another corpus.
    """
    settings = check_settings(source, settings)
    return import_module(SOURCES[source][2]).prepare(settings, folder, overwrite=overwrite)


def check_settings(source: str, settings: Mapping[str, Any]) -> Any:
    """The settings of a source, checked; the files and folders that they name need not exist."""
    from studylib.files.documents import validated  # pydantic

    if source not in SOURCES:
        raise StudyError(f"the corpus's source is {source!r}: expected one of {', '.join(SOURCES)}")
    module, name, _ = SOURCES[source]
    return validated(getattr(import_module(module), name), settings, source)

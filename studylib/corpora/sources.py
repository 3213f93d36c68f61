"""The sources of corpora by name; apart from the package, so that reading imports none of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studylib.corpora.folder import FolderSettings
from studylib.corpora.folder import prepare as prepare_folder
from studylib.corpora.librispeech import LibriSpeechSettings
from studylib.corpora.librispeech import prepare as prepare_librispeech
from studylib.corpora.reader import Corpus
from studylib.corpora.settings import validated
from studylib.corpora.synthetic.embedded import prepare as prepare_embedded
from studylib.corpora.synthetic.settings import EmbeddedSettings
from studylib.corpora.voxceleb import VoxCelebSettings
from studylib.corpora.voxceleb import prepare as prepare_voxceleb
from studylib.errors import StudyError

# Name of a source -> function that prepares its corpus in a folder.
SOURCES = {
    "embedded": prepare_embedded,
    "folder": prepare_folder,
    "librispeech": prepare_librispeech,
    "voxceleb": prepare_voxceleb,
}
SETTINGS = {
    "embedded": EmbeddedSettings,
    "folder": FolderSettings,
    "librispeech": LibriSpeechSettings,
    "voxceleb": VoxCelebSettings,
}


def prepare_corpus(
    source: str,
    settings: Mapping[str, Any],
    folder: Path,
    *,
    keep_going: bool = False,
    overwrite: bool = False,
) -> Corpus:
    """Prepare the corpus of a source, named as in `SOURCES`; a StudyError names those there are."""
    prepare = _prepare_of(source)
    if prepare is prepare_embedded:  # made, not read: it has nothing to skip
        return prepare(settings, folder, overwrite=overwrite)
    return prepare(settings, folder, keep_going=keep_going, overwrite=overwrite)


def settings_at(source: str, path: Path | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A source's settings, with where its recordings are said by one path.

    The path is the folder of speakers or the manifest (folder), the folder that holds LibriSpeech/
    (librispeech), or the folder that holds voxceleb1/, voxceleb2/ and meta/ (voxceleb). What
    `settings` say goes before it.
    """
    _prepare_of(source)
    if path is None:
        return dict(settings)
    if source == "embedded":
        raise StudyError(f"the embedded corpus is made, not read: {path} has no use")
    if source == "voxceleb":
        sets = [name for name in ("voxceleb1", "voxceleb2") if (path / name).is_dir()]
        return {name: path / name for name in (*sets, "meta")} | settings
    key = "manifest" if source == "folder" and path.is_file() else "root"
    return {key: path} | settings


def check_settings(source: str, settings: Mapping[str, Any]) -> None:
    """StudyError if a source does not understand its settings; what they name need not be there."""
    _prepare_of(source)
    validated(SETTINGS[source], settings, source)


def _prepare_of(source: str):
    if source not in SOURCES:
        known = ", ".join(SOURCES)
        raise StudyError(f"the source of a corpus is {source!r}: expected one of {known}")
    return SOURCES[source]

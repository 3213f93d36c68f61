"""The sources of corpora by name; apart from the package, so that reading imports none of them."""

from studylib.corpus.embedded import prepare as prepare_embedded
from studylib.corpus.folder import prepare as prepare_folder
from studylib.corpus.librispeech import prepare as prepare_librispeech
from studylib.corpus.voxceleb import prepare as prepare_voxceleb

# Name of a source -> function that prepares its corpus in a folder.
SOURCES = {
    "embedded": prepare_embedded,
    "folder": prepare_folder,
    "librispeech": prepare_librispeech,
    "voxceleb": prepare_voxceleb,
}

"""Where utterances come from: one file a source, one on-disk format for all."""

from studylib.corpus.embedded import prepare as prepare_embedded

# Name of a source -> function that prepares its corpus in a folder.
SOURCES = {
    "embedded": prepare_embedded,
}

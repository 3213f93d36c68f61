"""Corpora: where utterances come from. One file a source, one on-disk format for all."""

from studylib.corpora.sources import prepare_corpus
from studylib.corpora.store import open_corpus

__all__ = ["open_corpus", "prepare_corpus"]

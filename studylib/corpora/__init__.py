"""Where utterances come from: one file a source, one on-disk format for all."""

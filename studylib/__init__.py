"""Losses for open-set speaker verification, compared fairly: the study's own library."""

import os
import sys

# Waiting OpenMP threads should sleep. Spinning, the default of torch's OpenMP library on Linux,
# takes cores from other processes: with one other busy process a training step took up to three
# times as long. Read when torch is first imported; the environment variable overrides it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Validating a notebook imports jsonschema, which builds a grammar of URIs, 2 s in every process,
# for a check that notebooks do not need. jsonschema skips it where this module is missing.
sys.modules.setdefault("rfc3987_syntax", None)

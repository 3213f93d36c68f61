"""Losses for open-set speaker verification, compared fairly: the study's own library."""

import os
import sys

# Threads that wait should sleep. Spinning ones, the default of the OpenMP library that torch brings
# on Linux, take the cores from whatever else runs there: with one other busy process a training
# step took up to three times as long. Read when torch is first imported; set it yourself to differ.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Checking a notebook's form imports jsonschema, which would build a grammar of URIs, 2 s in every
# process, for a check that notebooks have no use for. It does without where this is missing.
sys.modules.setdefault("rfc3987_syntax", None)

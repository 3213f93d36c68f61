"""Losses for open-set speaker verification, compared fairly: the study's own library."""

import os

# Threads that wait should sleep. Spinning ones, the default of the OpenMP library that torch brings
# on Linux, take the cores from whatever else runs there: with one other busy process a training
# step took up to three times as long. Read when torch is first imported; set it yourself to differ.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

"""Losses for open-set speaker verification, compared fairly: the study's own library."""

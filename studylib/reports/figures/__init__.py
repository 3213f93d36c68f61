"""Frames -> figures. Results are computed elsewhere; nothing is saved here."""

"""Frames -> figures. Nothing is computed here that a table would not show; nothing is saved."""

"""Files and documents: written whole or not at all, checked when read."""

"""Files and documents: written whole or not at all, read with one sentence where they are wrong."""

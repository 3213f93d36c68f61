"""Made-up results, for tests of what reads results, and trunks small enough for tests."""

import numpy as np
import pandas as pd

# What is claimed of every trunk hangs on its layers, not on how many channels they have.
SMALL = {
    "compact_tdnn": {"channels": 16},
    "thin_resnet34": {"width": 8},
    "fast_resnet34": {"width": 8},
    "half_resnet34": {"width": 4},
    "ecapa_tdnn": {"channels": 64},
}


def all_trials(n_speakers: int, utterances: int) -> pd.DataFrame:
    """Every pair of utterances, as `evaluate` writes trials; speaker s has the s-th few rows."""
    first, second = np.triu_indices(n_speakers * utterances, 1)
    one, other = first // utterances, second // utterances
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            "target": one == other,
            "first_speaker": one.astype(str),
            "second_speaker": other.astype(str),
        }
    )

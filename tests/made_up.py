"""Made-up results, for tests of what reads results."""

import numpy as np
import pandas as pd


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

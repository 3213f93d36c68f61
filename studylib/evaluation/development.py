"""The development EER, computed several times during training."""

import numpy as np
import torch

from studylib.corpora.store import Corpus
from studylib.evaluation.scores import trial_scores
from studylib.models.embedder import Embedder, embed
from studylib.statistics.error_rates import equal_error_rate


def development_eer(model: Embedder, corpus: Corpus, scoring: str, device: torch.device) -> float:
    """EER on the trial list `dev` with one 4-s crop of each utterance."""
    trials = corpus.trials("dev")
    rows = np.unique(trials[["first", "second"]].to_numpy())
    embeddings = embed(model, corpus, rows, crops=1, crop_seconds=4.0, device=device)
    first, second = (np.searchsorted(rows, trials[side].to_numpy()) for side in ("first", "second"))
    scores = trial_scores(embeddings, first, second, scoring=scoring)
    return float(equal_error_rate(scores, trials["target"].to_numpy()))

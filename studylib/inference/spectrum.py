"""A trained compact TDNN, the long-term spectrum put beside it, measured again."""

import shutil
from pathlib import Path

import numpy as np
import torch

from studylib.corpora.store import Corpus, open_corpus
from studylib.errors import StudyError
from studylib.evaluation.baselines import MOST_TRAINING_UTTERANCES, mean_and_deviation, whitening
from studylib.evaluation.protocols import training_rows
from studylib.evaluation.run import evaluate
from studylib.evaluation.settings import EvaluateSettings
from studylib.inference.publishing import read_results
from studylib.inference.speaker_model import MODEL
from studylib.models.compact_tdnn_spectrum import SPECTRUM
from studylib.models.embedder import Embedder, load_model, save_model


def add_spectrum(experiment: Path, data: Path, out: Path) -> None:
    """Make `out`, an experiment's results of the trunk `compact_tdnn_spectrum`, of another's model.

    The network is as trained. The spectrum's part is what the baseline `logmel_whitened` computes:
    whitened by the covariance within the training speakers of the experiment's corpus. Nothing is
    trained; the measures are taken again, with the experiment's settings.

    Parameters
    ----------
    experiment : Path
        results/<study>/experiment/<run>-<seed>/, of a run with the trunk `compact_tdnn`.
    data : Path
        The folder of the corpora.
    out : Path

    Raises
    ------
    StudyError
        Results or a corpus that are not there; another trunk.
    """
    manifest = read_results(experiment)[0]
    settings = EvaluateSettings.model_validate(manifest["settings"]["evaluate"])
    model, scoring = load_model(experiment / "model" / MODEL)
    if (model.name, scoring) != ("compact_tdnn", "cosine"):
        found = f"the trunk {model.name} and the scoring {scoring}"
        raise StudyError(f"{experiment} has {found}: expected compact_tdnn and cosine")
    corpus = open_corpus(data / manifest["settings"]["corpus"]["name"])
    both = with_spectrum(model, corpus, settings.crop_seconds)
    shutil.copytree(experiment / "model", out / "model", dirs_exist_ok=True)
    file = out / "model" / MODEL
    save_model(both, file, scoring="cosine")
    further = [open_corpus(data / name) for name in settings.also]
    evaluate(file, corpus, settings, out, manifest=manifest, further=further)


def with_spectrum(model: Embedder, corpus: Corpus, crop_seconds: float | None) -> Embedder:
    """A `compact_tdnn` as the network of a `compact_tdnn_spectrum`, in evaluation mode."""
    rows, speakers = training_rows(corpus)
    few = np.linspace(0, len(rows) - 1, min(len(rows), MOST_TRAINING_UTTERANCES)).astype(np.int64)
    moments = mean_and_deviation(corpus, rows[few], 1, crop_seconds)[:, 0]
    centre, deviation = moments.mean(axis=0), moments.std(axis=0)
    projection = whitening(moments - centre, speakers[few]) * deviation[:, None]
    keywords = model.keywords | {"embedding_dim": model.embedding_dim + SPECTRUM}
    both = Embedder("compact_tdnn_spectrum", keywords)
    weights, network = both.trunk.state_dict(), model.trunk.state_dict()
    weights["fc.weight"].zero_()
    weights["fc.bias"].zero_()
    for name, value in network.items():  # what is larger than the network's comes after it
        weights[name][tuple(slice(size) for size in value.shape)] = value
    weights["fc.weight"][-SPECTRUM:, -SPECTRUM:] = torch.from_numpy(projection.T)
    weights["bn_spectrum.running_mean"].copy_(torch.from_numpy(centre))
    weights["bn_spectrum.running_var"].copy_(torch.from_numpy(deviation**2))
    return both.eval()

"""Real speech from files to error rates; skipped where the samples of LibriSpeech are not."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from safetensors.numpy import load_file
from trees import write

from studylib.corpora.sources import prepare_corpus
from studylib.evaluation.run import evaluate
from studylib.evaluation.settings import EvaluateSettings
from studylib.training.loop import train
from studylib.training.settings import RunSettings

SAMPLES = Path(__file__).parents[2] / "shared" / "librispeech-samples" / "LibriSpeech"
SUBSET = "train-clean-100"
RUN = RunSettings.model_validate(
    {
        "study": "s",
        "name": "angular_prototypical",
        "corpus": {"name": "c", "source": "folder"},
        "loss": {"name": "angular_prototypical"},
        "trunk": {"name": "compact_tdnn", "embedding_dim": 32, "channels": 16},
        "train": {
            "crops": 80,
            "crop_seconds": 1.0,
            "speakers_per_batch": 8,
            "utterances_per_speaker": 2,
            "threads": 1,
        },
    }
)
EVALUATION = EvaluateSettings(trials=["test"], crops=3, crop_seconds=2.0, resamples=50, threads=1)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """LibriSpeech of 16 speakers: each one's only utterance, as two files of one half each."""
    if not SAMPLES.is_dir():
        pytest.skip("the samples of LibriSpeech are not here")
    root = tmp_path_factory.mktemp("speech") / "LibriSpeech"
    for path in sorted((SAMPLES / SUBSET).rglob("*.flac"))[::16]:
        samples, _ = soundfile.read(path, dtype="int16")
        place = (root / path.relative_to(SAMPLES)).parent
        stem = path.stem.rpartition("-")[0]
        for number, half in enumerate(np.array_split(samples, 2)):
            write(place / f"{stem}-{number:04}.flac", half)
    (root / "SPEAKERS.TXT").write_bytes((SAMPLES / "SPEAKERS.TXT").read_bytes())
    return root


def scored(source, settings, folder):
    """Prepare, train and evaluate; the weights, the metrics, and the scores by trial."""
    settings = {"splits": {"test": 6}} | settings
    corpus = prepare_corpus(source, settings, folder / "corpus")
    quiet = {"report": lambda line: None}
    train(RUN, corpus, 0, folder / "train", checkpoints=folder / "checkpoints", key="", **quiet)
    model_file = folder / "train" / "model.safetensors"
    evaluate(model_file, corpus, EVALUATION, folder / "evaluate", **quiet)
    trials = pd.read_parquet(folder / "evaluate" / "scores" / "test.parquet")
    stems = corpus.utterances["id"].map(lambda name: Path(name).stem)
    scores = {
        (stems[trial.first], stems[trial.second]): (trial.target, trial.score)
        for trial in trials.itertuples()
    }
    metrics = json.loads((folder / "evaluate" / "metrics.json").read_text())
    weights = {name: value.tobytes() for name, value in load_file(model_file).items()}
    return weights, metrics, scores


def test_both_sources_packed_and_in_place_give_identical_weights_and_scores(tree, tmp_path):
    sources = {
        "librispeech": {"root": tree.parent, "subsets": {SUBSET: "train"}},
        "folder": {"root": tree / SUBSET},
    }
    found = [
        scored(source, own | {"storage": storage}, tmp_path / source / storage)
        for source, own in sources.items()
        for storage in ("packed", "in_place")
    ]
    _, metrics, scores = found[0]
    assert metrics["n_target"] == 6
    assert len(scores) == len({score for _, score in scores.values()}) == 12 * 11 // 2
    assert all(each == found[0] for each in found[1:])

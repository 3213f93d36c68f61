"""A model on a user's own recordings: measured, calibrated, fine-tuned."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from studylib.corpora.folder import tree_recordings
from studylib.corpora.report import Report
from studylib.corpora.sources import prepare_corpus
from studylib.corpora.store import Corpus, open_corpus
from studylib.errors import StudyError
from studylib.evaluation.measures import measure_lists
from studylib.evaluation.run import evaluate
from studylib.evaluation.scores import mean_unit_embeddings, trial_scores
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.checksums import sha256
from studylib.files.tables import read_parquet
from studylib.inference.publishing import card_with, cost_of_ratios, percent, write_published
from studylib.inference.speaker_model import MODEL, load_speaker_model, model_file
from studylib.models.embedder import load_model
from studylib.training.loading import training_data
from studylib.training.loop import train
from studylib.training.settings import RunSettings

CROPS_AN_UTTERANCE = 50  # more did not lower the error rate (see LOG.md)
FEWEST = 6  # speakers
FEW_SPEAKERS = 150  # below, training the frames' layers raised the error rate (see LOG.md)
PIECES = 3  # of each recording, where a speaker has a single one


def measure(model: str | Path, corpus: Path, trials: str, out: Path) -> str:
    """Measure a model on a trial list; write the results as `evaluation.run.evaluate` does.

    Parameters
    ----------
    model : str or Path
        Its name in pretrained/, its folder or its file.
    corpus : Path
        A prepared corpus; or a folder of recordings, prepared in <out>.corpus.
    trials : str
        The name of a list of the prepared corpus. For recordings, a file in VoxCeleb's format that
        names them by their paths below the folder; or "test", all pairs.

    Returns
    -------
    str
        The EER.
    """
    if out.exists() and not (out / "manifest.json").exists():  # it would be replaced
        raise StudyError(f"{out} is there, and holds no results: choose another folder")
    model, protocol = model_file(model), load_speaker_model(model).protocol
    if (corpus / "corpus.json").is_file():
        prepared = open_corpus(corpus)
    else:
        wanted = {"recipe": "all_pairs"} if trials == "test" else {"file": trials}
        settings = {"root": corpus, "splits": {"test": 1.0}, "trials": {"test": wanted}}
        prepared, trials = prepare_corpus("folder", settings, Path(f"{out}.corpus")), "test"
    how = EvaluateSettings(trials=[trials], **protocol)
    found = evaluate(model, prepared, how, out)
    return f"EER {percent(found)} over {found['n_speakers']} speakers; results in {out}"


def calibrate(model: str | Path, recordings: Path, out: Path) -> str:
    """Learn centre, scale, offset and threshold on half of the speakers; measure on the others.

    The centre is the mean of the crops' embeddings of length 1, which is then subtracted from
    each: it takes away what these recordings have in common. Models that compare distances, which
    it would not change, have none.

    Parameters
    ----------
    model : str or Path
        As for `measure`.
    recordings : Path
        A folder speaker/[session/]utterance.
    out : Path
        Folder of the calibrated model; work/ in it has the corpus, the scores and all measures.

    Returns
    -------
    str
        What was learned on whom, and measured.

    Raises
    ------
    StudyError
        Fewer than six speakers, recordings that cannot be used, scores that separate the trials
        perfectly.
    """
    model, before = model_file(model), load_speaker_model(model)
    results, name = out / "work" / "test", recordings.resolve().name
    corpus = _prepared(recordings, out / "work" / "corpus", test=0.5, calibrate_on="dev")
    how = EvaluateSettings(trials=["test", "dev"], **before.protocol)
    evaluate(model, corpus, how, results)
    centre, earlier = None, ""
    if before.scoring == "cosine":
        of_dev = read_parquet(results / "utterances.parquet")["split"] == "dev"
        centre = mean_unit_embeddings(np.load(results / "embeddings.npy")[of_dev]).mean(axis=0)
    found = measure_lists(_scored(results, centre), "score", how.resamples, corpus=name)
    calibration, test, dev = found["calibration"], found["lists"]["test"], found["lists"]["dev"]
    if "skipped" in calibration:
        raise StudyError(f"{recordings}: {calibration['skipped']}")
    learned_on = f"{dev['n_speakers']} speakers of {name}"
    if old := before.calibration:
        cost = cost_of_ratios(_scored(results, before.centre)["test"], old)
        earlier = f", where the earlier calibration ({old['corpus']}) has {cost:.3f}"
    text = (
        f"Learned on {learned_on}. On its {test['n_speakers']} other speakers Cllr is "
        f"{test['cllr']:.3f} bits{earlier}; EER {percent(test)}."
    )
    calibration |= {"corpus": learned_on, "source": "folder"}
    use = {"calibration": calibration, "protocol": before.protocol}
    if centre is not None:
        use["centre"] = centre.tolist()
    write_published(out, model, use, card_with(model, "Calibrated again", text))
    return text


def _scored(results: Path, centre: np.ndarray | None) -> dict[str, pd.DataFrame]:
    """The lists of an evaluation; with a centre, scored by the cosine of crops less that centre."""
    lists = {name: read_parquet(results / "scores" / f"{name}.parquet") for name in ("test", "dev")}
    if centre is None:
        return lists
    crops = np.load(results / "embeddings.npy")
    crops = crops / np.linalg.norm(crops, axis=2, keepdims=True) - centre
    rows = np.unique(pd.concat(lists.values())[["first", "second"]])
    for frame in lists.values():
        sides = (np.searchsorted(rows, frame[side]) for side in ("first", "second"))
        frame["score"] = trial_scores(crops, *sides, scoring="cosine")
    return lists


def finetune(model: str | Path, recordings: Path, out: Path) -> str:
    """Train a model further on a user's speakers, some of whom are held out to measure it.

    Batch, length and trial lists follow from how many speakers and recordings there are. The
    calibration is learned on the held-out speakers. The same training of random weights shows what
    the model is worth.

    Parameters
    ----------
    model, recordings, out : Path
        As for `calibrate`.

    Returns
    -------
    str
        The error rates before, after and from scratch on the held-out speakers.
    """
    model, protocol = model_file(model), load_speaker_model(model).protocol
    work = out / "work"
    corpus = _prepared(recordings, work / "corpus", test=0.3, calibrate_on="test")
    how = EvaluateSettings(trials=["test", "dev"], **protocol)
    measured = {"before": evaluate(model, corpus, how, work / "before")}
    for name in ("fine-tuned", "from scratch"):
        settings = finetune_settings(model, corpus, scratch=name == "from scratch")
        key = settings.model_dump_json() + sha256(model)
        train(settings, corpus, 0, work / name / "model", checkpoints=work, key=key)
        measured[name] = evaluate(work / name / "model" / MODEL, corpus, how, work / name)
    n_held_out = measured["before"]["n_speakers"]
    learned_on = f"{n_held_out} held-out speakers of {recordings.resolve().name}"
    eers = "; ".join(f"{name} {percent(each)}" for name, each in measured.items())
    n_speakers = len(training_data(corpus).names)
    text = f"Trained on {n_speakers} speakers. EER on {learned_on}: {eers}."
    own = measured["fine-tuned"]["calibration"] | {"corpus": learned_on, "source": "folder"}
    own = None if "skipped" in own else own  # few speakers, all told apart
    use, file = {"calibration": own, "protocol": protocol}, work / "fine-tuned" / "model" / MODEL
    write_published(out, file, use, card_with(model, "Fine-tuned", text))
    return text


def finetune_settings(
    model: Path, corpus: Corpus, n_speakers: int | None = None, *, scratch: bool = False
) -> RunSettings:
    """The settings of a training that fit the training speakers of a corpus, or its first so many.

    Of few speakers only what follows the frames' layers is learned. From random weights
    (`scratch`) all is, and the learning rate is four times as high.
    """
    counts = np.bincount(training_data(corpus, n_speakers).speakers)
    embedder, rate = load_model(model)[0], 0.002 if scratch else 0.0005
    parts = [name for name, _ in embedder.trunk.named_children()]
    few = not scratch and len(counts) < FEW_SPEAKERS
    utterances = int(np.clip(np.median(counts), 2, 3))
    return RunSettings(
        study="finetune",
        name="from scratch" if scratch else "fine-tuned",
        corpus={"name": corpus.folder.name, "source": "folder"},
        loss={"name": "softmax_prototypical"},
        trunk={"name": embedder.name, "parameters": embedder.keywords},
        train={
            "crops": CROPS_AN_UTTERANCE * int(counts.sum()),
            "speakers_per_batch": min(64, int((counts >= utterances).sum())),
            "utterances_per_speaker": utterances,
            "training_speakers": n_speakers,
            "learning_rate": {"initial": rate, "final": 5e-5, "shape": "cosine"},
            "initial_weights": None if scratch else str(model.resolve()),
            "freeze": parts[: parts.index("pooling")] if few else [],
            "loss_warmup": 0.0 if scratch else 0.15,
        },
    )


def _prepared(recordings: Path, folder: Path, *, test: float, calibrate_on: str) -> Corpus:
    """The recordings as a corpus: this share of the speakers in the split "test".

    Scores are calibrated on the list "dev": of the others, which are then the split "dev"; or,
    where these train, of "test", too.
    """
    counts = Counter(each.speaker for each in tree_recordings(recordings, Report()))
    if len(counts) < FEWEST:
        raise StudyError(f"{recordings} has {len(counts)} speakers: expected at least {FEWEST}")
    n_test = round(test * len(counts))
    lists = {"test": "test", "dev": calibrate_on}
    settings = {
        "root": recordings,
        "splits": {"test": n_test, "dev": len(counts) - n_test if calibrate_on == "dev" else 0},
        "trials": {name: {"recipe": "all_pairs", "split": split} for name, split in lists.items()},
        "pieces_per_utterance": PIECES if min(counts.values()) < 2 else 1,
    }
    return prepare_corpus("folder", settings, folder, overwrite=True)

"""A trained run -> a folder to publish: model.safetensors, known_speakers.json, card.md."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from studylib.corpora.hygiene import KNOWN_SPEAKERS
from studylib.corpora.store import open_corpus
from studylib.errors import StudyError
from studylib.evaluation.calibration import fit_calibration
from studylib.evaluation.measures import read_metrics
from studylib.evaluation.run import evaluate
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.atomic import read_json
from studylib.files.tables import read_parquet
from studylib.inference.speaker_model import CROPS, MODEL, SYNTHETIC
from studylib.losses import LOSSES
from studylib.models.embedder import load_model, save_model
from studylib.statistics.error_rates import log_likelihood_ratio_cost

CARD = "card.md"
Facts = Mapping[str, Any]


def publish(experiment: Path, out: Path, further: Path | None = None) -> None:
    """Make a published model of an experiment's results.

    Parameters
    ----------
    experiment : Path
        results/<study>/experiment/<run>-<seed>/; results on further test sets are in its also/.
    out : Path
        Folder of the published model.
    further : Path, optional
        A corpus whose development trials join the experiment's own for the calibration, such as
        voices without session effects.

    Raises
    ------
    StudyError
        Results that are missing, that are not of the protocol `crops` and the back-end `cosine`,
        or that have no calibration.
    """
    manifest, metrics = read_results(experiment)
    settings, calibration = manifest["settings"], metrics["calibration"]
    if (settings["evaluate"]["protocol"], metrics["backend"]) != ("crops", "cosine"):
        raise StudyError(f"{experiment}: expected the protocol crops and first the back-end cosine")
    if "skipped" in calibration:
        raise StudyError(f"{experiment} has no calibration: {calibration['skipped']}")
    model = experiment / "model" / MODEL
    if further:
        metrics["calibration"] = calibration = _calibration_with(model, metrics, settings, further)
    calibration |= {"source": settings["corpus"]["source"]}
    protocol = {key: settings["evaluate"][key] for key in CROPS}
    use = {"calibration": calibration, "protocol": protocol}
    write_published(out, model, use, _card(experiment, manifest, metrics))


def read_results(experiment: Path) -> tuple[Facts, dict[str, Any]]:
    """The manifest and the metrics of a trained run; StudyError where results are missing."""
    for name in ("details.json", f"model/{MODEL}"):  # git holds neither; a baseline has no model
        if not (experiment / name).is_file():
            raise StudyError(f"{experiment} has no {name}: expected a trained and measured run")
    return read_json(experiment / "manifest.json"), read_metrics(experiment)


def write_published(out: Path, model: Path, use: dict[str, Any], card: str) -> None:
    """Write a model's folder: its weights in half precision, its training speakers, its card.

    Parameters
    ----------
    out : Path
    model : Path
        The file of the weights; known_speakers.json lies beside it.
    use : dict
        Plain values: calibration, protocol and perhaps centre, see `SpeakerModel`.
    card : str
        In Markdown.
    """
    embedder, scoring = load_model(model)
    embedder.further = use
    out.mkdir(parents=True, exist_ok=True)
    save_model(embedder.half(), out / MODEL, scoring=scoring)
    known = model.with_name(KNOWN_SPEAKERS)
    if known.is_file():
        (out / KNOWN_SPEAKERS).write_bytes(known.read_bytes())  # perhaps its own place
    (out / CARD).write_text(card, encoding="utf-8")


def percent(measures: Facts) -> str:
    """An EER in per cent with its interval."""
    low, high = measures["eer_interval"]
    return f"{100 * measures['eer']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def card_with(model: Path, title: str, text: str) -> str:
    """The card beside a model's file, if there is one, and a further section."""
    card = model.with_name(CARD)
    before = card.read_text(encoding="utf-8") if card.is_file() else f"# {model}\n"
    return f"{before}\n## {title}\n\n{text}\n"


def _calibration_with(
    model: Path, metrics: Facts, settings: Facts, further: Path
) -> dict[str, Any]:
    """The calibration on the development trials of an experiment and of a further corpus."""
    own = read_parquet(model.parents[1] / "scores" / "dev.parquet")
    corpus = open_corpus(further)
    changes = {"trials": ["dev"], "also": [], "backends": ["cosine"]}
    how = EvaluateSettings.model_validate(settings["evaluate"] | changes)
    with TemporaryDirectory() as folder:
        evaluate(model, corpus, how, Path(folder))
        trials = pd.concat([own, read_parquet(Path(folder) / "scores" / "dev.parquet")])
    names = f"{metrics['calibration']['corpus']} and {corpus.folder.name}"
    return fit_calibration(trials["score"], trials["target"]) | {"corpus": names}


def cost_of_ratios(trials: pd.DataFrame, calibration: Facts) -> float:
    """The cost in bits (Cllr) of a list's scores as log-likelihood ratios by a calibration."""
    ratios = calibration["scale"] * trials["score"].to_numpy() + calibration["offset"]
    return log_likelihood_ratio_cost(ratios, trials["target"])


def _card(experiment: Path, manifest: Facts, metrics: Facts) -> str:
    settings, (embedder, scoring) = manifest["settings"], load_model(experiment / "model" / MODEL)
    folders = {settings["corpus"]["name"]: experiment}
    folders |= {path.name: path for path in sorted(experiment.glob("also/*"))}
    rows = []
    for name, folder in folders.items():
        measured = read_metrics(folder)
        trials = read_parquet(folder / "scores" / f"{measured['trials']}.parquet")
        cost = cost_of_ratios(trials, metrics["calibration"])
        rows.append(f"| `{name}` | {percent(measured)} | {measured['n_speakers']} | {cost:.3f} |")
    real = settings["corpus"]["source"] != SYNTHETIC
    template = Path(__file__).with_name(CARD).read_text(encoding="utf-8")
    return template.format(
        title=LOSSES[settings["loss"]["name"]].title,
        embedder=embedder,
        scoring=scoring,
        kind="real recordings" if real else "synthetic voices",
        trained=read_json(experiment / "model" / "training.json"),
        rows="\n".join(rows),
        calibration=metrics["calibration"],
        licence=" The recordings trained on have their own." if real else "",
        **(manifest | settings),
    )

"""Embeddings of several runs, of the same utterances, ready to be compared."""

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from studylib.errors import StudyError
from studylib.evaluation.scores import mean_unit_embeddings
from studylib.files.paths import run_folder
from studylib.files.tables import read_parquet
from studylib.pipeline.params import Params, RunEntry
from studylib.reports.geometry import cosine_histogram, geometry, pair_cosines

FEWEST_ON_A_MAP = 10


@dataclass(frozen=True)
class RunEmbeddings:
    """What one run makes of the utterances that are compared.

    Attributes
    ----------
    loss : str or None
        None for untrained networks and baselines.
    eer : float
        Of the trial list named as the split, else of the headline list; a fraction.
    vectors : (U, D) float64
        The mean of each utterance's crops (each crop scaled to length 1), scaled to length 1.
    """

    loss: str | None
    eer: float
    vectors: np.ndarray = field(repr=False)


def read_embeddings(
    root: Path,
    params: Params,
    runs: list[str],
    seed: int,
    *,
    split: str = "test",
    most_speakers: int = 200,
    most_utterances: int = 20,
) -> tuple[pd.DataFrame, dict[str, RunEmbeddings]]:
    """The same utterances of one split, as every run embeds them.

    Parameters
    ----------
    runs : list of str
        Runs, and baselines (whose only seed is 0).
    most_speakers, most_utterances : int
        A large split is thinned out: see `choose`.

    Returns
    -------
    DataFrame
        The U utterances: id, speaker, and what the corpus knows of them.
    dict
        Run -> RunEmbeddings, in the order asked for.

    Raises
    ------
    StudyError
        If a run has not been evaluated, or not on the same utterances as the first.
    """
    common, found = None, {}
    for run in runs:
        trained = _entry(params, run) is not None
        folder = run_folder(root, params.study.name, "evaluate", run, seed if trained else 0)
        if not (folder / "metrics.json").exists():
            raise StudyError(_missing(params, run, seed, folder, trained))
        utterances = read_parquet(folder / "utterances.parquet").reset_index(drop=True)
        if common is None:
            common, chosen = utterances, choose(utterances, split, most_speakers, most_utterances)
        elif not utterances["id"].equals(common["id"]):
            raise StudyError(
                f"{folder} holds other utterances than those of {runs[0]}: evaluate both again"
            )
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        crops = np.load(folder / "embeddings.npy", mmap_mode="r")
        vectors = mean_unit_embeddings(crops[chosen])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found[run] = RunEmbeddings(
            loss=_loss(params, run),
            eer=metrics["lists"].get(split, metrics)["eer"],
            vectors=vectors,
        )
    if common is None:
        raise StudyError("no runs to compare: expected at least one name in `runs`")
    return common.iloc[chosen].reset_index(drop=True), found


def choose(
    utterances: pd.DataFrame, split: str, n_speakers: int, n_utterances: int, seed: int = 0
) -> np.ndarray:
    """Rows (R,) of at most so many speakers of a split, and of each at most so many utterances.

    Drawn at random, independent of the order of the table's rows among speakers; ascending.
    """
    part = utterances.reset_index(drop=True)
    part = part[part["split"] == split]
    if part.empty:
        known = ", ".join(sorted(utterances["split"].unique()))
        raise StudyError(f"no utterance of the split {split!r} was evaluated (only of: {known})")
    rng = np.random.default_rng(seed)
    speakers = rng.permutation(np.sort(part["speaker"].unique()))[:n_speakers]
    part = part[part["speaker"].isin(speakers)]
    shuffled = part.sort_values("id").iloc[rng.permutation(len(part))]
    return np.sort(shuffled.groupby("speaker").head(n_utterances).index.to_numpy())


@threadpool_limits.wrap(limits=1)  # matrices this small take 100 times longer on busy cores
def geometry_table(runs: Mapping[str, RunEmbeddings], speakers: np.ndarray) -> pd.DataFrame:
    """One row a run: run, loss, eer, and the measures of `studylib.reports.geometry`."""
    rows = [
        {"run": name, "loss": run.loss, "eer": run.eer} | geometry(run.vectors, speakers)
        for name, run in runs.items()
    ]
    return pd.DataFrame(rows)


def histograms(runs: Mapping[str, RunEmbeddings], speakers: np.ndarray) -> pd.DataFrame:
    """Densities of all pairs' cosines: columns run, cosine, within, between."""
    parts = [
        cosine_histogram(*pair_cosines(run.vectors, speakers)).assign(run=name)
        for name, run in runs.items()
    ]
    return pd.concat(parts, ignore_index=True)


@threadpool_limits.wrap(limits=1)
def speaker_maps(
    runs: Mapping[str, RunEmbeddings], utterances: pd.DataFrame, rows: np.ndarray
) -> pd.DataFrame:
    """A map of the chosen utterances for each run: columns run, x, y, and those of the utterances.

    Each map is turned onto the first one, so that a speaker is found at about the same place.
    """
    parts, first = [], None
    for name, run in runs.items():
        points = speaker_map(run.vectors[rows])
        points = points if first is None else turned_onto(points, first)
        first = points if first is None else first
        parts.append(utterances.iloc[rows].assign(run=name, x=points[:, 0], y=points[:, 1]))
    return pd.concat(parts, ignore_index=True)


def speaker_map(vectors: np.ndarray) -> np.ndarray:
    """UMAP of vectors (U, D) by their cosines, (U, 2); the same vectors give the same map."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # no widgets wanted
        from umap import UMAP  # late: it compiles itself, which takes many seconds

    if len(vectors) < FEWEST_ON_A_MAP:
        raise StudyError(
            f"a map of {len(vectors)} utterances: expected at least {FEWEST_ON_A_MAP}; choose more "
            f"speakers or utterances"
        )
    neighbours = min(15, len(vectors) - 1)
    layout = UMAP(n_neighbors=neighbours, metric="cosine", random_state=0, n_jobs=1)
    return layout.fit_transform(vectors)


def turned_onto(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Points (U, 2) turned, and mirrored if need be, to lie as near to a reference as they can.

    A map has no up and no left; this lets the same points be found in another map (orthogonal
    Procrustes problem, Schönemann 1966). Distances stay what they are.
    """
    centred = points - points.mean(axis=0)
    left, _, right = np.linalg.svd(centred.T @ (reference - reference.mean(axis=0)))
    return centred @ (left @ right)


def save(folder: Path, table: pd.DataFrame, figures: Mapping) -> None:
    """Write geometry.csv and each figure as <name>.png into a folder, which is replaced whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    table.to_csv(partial / "geometry.csv", index=False)
    for name, figure in figures.items():
        figure.savefig(partial / f"{name}.png", dpi=150)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _entry(params: Params, run: str) -> RunEntry | None:
    """The entry of a run or of its variant (run+key=value); None for a baseline."""
    return params.runs.get(run.partition("+")[0])


def _loss(params: Params, run: str) -> str | None:
    entry = _entry(params, run)
    if entry is None or not (params.train | entry.train)["crops"]:
        return None
    return entry.loss["name"]


def _missing(params: Params, run: str, seed: int, folder: Path, trained: bool) -> str:
    if trained:
        return (
            f"{folder} has no evaluated run: train and evaluate {run} with seed {seed} "
            "(uv run dvc repro), or leave it out of the runs to be compared"
        )
    return (
        f"{folder} does not exist: expected {run} to be an evaluated baseline, or a run of "
        f"params.yaml ({', '.join(params.runs)})"
    )

"""The command line: the stages of the pipeline, and the same jobs without a notebook."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from studylib.errors import StudyError
from studylib.files.paths import corpus_folder, project_root, run_folder

app = typer.Typer(
    help="Losses for open-set speaker verification, compared fairly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

RunName = Annotated[str, typer.Argument(help="A run of params.yaml.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides weights, batches and crops.")]


def main() -> None:
    """Run the command; a user's mistake is one sentence and exit status 2."""
    try:
        app()
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def plan() -> None:
    """Check params.yaml and write what each run is made of (first stage of the pipeline)."""
    from studylib.pipeline.params import read_params
    from studylib.pipeline.plan import write_plan

    root = project_root()
    params = read_params(root / "params.yaml")
    study = root / "results" / params.study.name
    write_plan(params, root / "studylib", root / "notebooks", study / "plan")
    runs, seeds = len(params.study.runs), len(params.study.seeds)
    print(f"study {params.study.name}: {runs} runs x {seeds} seeds, corpus {params.corpus.name}")


@app.command()
def corpus(
    source: Annotated[
        str | None, typer.Argument(help="embedded, folder, librispeech or voxceleb.")
    ] = None,
    path: Annotated[
        Path | None, typer.Argument(help="The recordings: a folder, or a manifest.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Instead of data/<source>.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the source's settings.")
    ] = None,
    keep_going: Annotated[bool, typer.Option(help="Skip bad recordings, and list them.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace another corpus.")] = False,
) -> None:
    """Make the corpus of params.yaml under data/, unless it is there; or one of any SOURCE."""
    from studylib.corpora.report import skipped_file
    from studylib.corpora.sources import prepare_corpus, settings_at
    from studylib.pipeline.params import read_params

    if source is None:
        if path or out or changes:
            raise StudyError("--out and --set need a SOURCE; without one, params.yaml decides")
        root = project_root()
        wanted = read_params(root / "params.yaml").corpus
        source, settings, overwrite = wanted.source, wanted.settings, True
        out = corpus_folder(root, wanted.name)
    else:
        settings = settings_at(source, path, _nested(_pairs("--set", changes)))
        out = out or corpus_folder(project_root(), source)
    print(prepare_corpus(source, settings, out, keep_going=keep_going, overwrite=overwrite))
    if skipped_file(out).exists():
        print(f"what was left out, and why: {skipped_file(out)}")


@app.command()
def train(run: RunName, seed: Seed = 0) -> None:
    """Train one run, without its notebook; started by torchrun, in many processes."""
    from studylib.corpora.store import open_corpus
    from studylib.evaluation.development import development_eer
    from studylib.pipeline.params import read_params, run_settings
    from studylib.training.loop import train as train_run

    root = project_root()
    settings = run_settings(read_params(root / "params.yaml"), run)
    train_run(
        settings,
        open_corpus(corpus_folder(root, settings.corpus.name)),
        seed,
        run_folder(root, settings.study, "train", run, seed),
        checkpoints=root / ".checkpoints",
        key=settings.model_dump_json(),
        measure=development_eer,
    )


@app.command()
def evaluate(run: RunName, seed: Seed = 0) -> None:
    """Evaluate one trained run, without its notebook."""
    from studylib.corpora.store import open_corpus
    from studylib.evaluation.evaluate import evaluate as evaluate_run
    from studylib.pipeline.params import evaluate_settings, read_params

    root = project_root()
    params = read_params(root / "params.yaml")
    metrics = evaluate_run(
        run_folder(root, params.study.name, "train", run, seed) / "model.safetensors",
        open_corpus(corpus_folder(root, params.corpus.name)),
        evaluate_settings(params, run),
        run_folder(root, params.study.name, "evaluate", run, seed),
    )
    print(_eer_line(metrics))


@app.command()
def baseline(name: Annotated[str, typer.Argument(help="logmel_mean_std or logmel_whitened.")]):
    """Evaluate a baseline that learns no network."""
    from studylib.corpora.store import open_corpus
    from studylib.evaluation.baselines import evaluate_baseline
    from studylib.pipeline.params import read_params

    root = project_root()
    params = read_params(root / "params.yaml")
    metrics = evaluate_baseline(
        name,
        open_corpus(corpus_folder(root, params.corpus.name)),
        params.evaluate,
        run_folder(root, params.study.name, "evaluate", name, 0),
    )
    print(_eer_line(metrics))


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="A notebook of notebooks/, without .ipynb.")],
    output: Annotated[Path, typer.Argument(help="The executed copy.")],
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="key=value, as often as needed.")
    ] = None,
) -> None:
    """Execute a notebook with papermill; folders are made, mistakes told in one sentence."""
    from studylib.pipeline.notebooks import run_notebook

    parameters = _pairs("-p", parameter)
    run_notebook(project_root() / "notebooks" / f"{name}.ipynb", output, parameters)


@app.command()
def trunks(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    seconds: Annotated[float, typer.Option(help="Spent on each speed; 0 leaves them out.")] = 2.0,
) -> None:
    """Sizes, costs and speeds of the trunks beside the papers' figures."""
    import pandas as pd

    from studylib.models.trunk_table import trunk_table

    table = pd.DataFrame.from_dict(trunk_table(seconds=seconds), orient="index")
    print(table.to_json(orient="index", indent=2) if as_json else table.to_string())


@app.command("import")
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A checkpoint of voxceleb_trainer.")],
    out: Annotated[Path, typer.Argument(help="The model to write, for train.initial_weights.")],
    trunk: Annotated[str, typer.Option(help="fast_resnet34 or vgg_m40.")] = "fast_resnet34",
    pooling: Annotated[str, typer.Option(help="sap, asp or tap, as in the checkpoint.")] = "sap",
    embedding_dim: Annotated[int, typer.Option(help="As in the checkpoint.")] = 512,
) -> None:
    """Turn paper B's released weights into a model of ours, and report every key."""
    from studylib.models.embedder import Embedder, save_model
    from studylib.models.voxceleb_trainer import load_voxceleb_trainer

    parameters = {"embedding_dim": embedding_dim, "pooling": pooling}
    model = Embedder(trunk, parameters)
    print(load_voxceleb_trainer(file, model.trunk))
    save_model(model, out, scoring="cosine")


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="A parameter file, such as studies/laptop.yaml.")],
    crops_per_second: Annotated[
        float | None, typer.Option(help="Of training, if you know it; otherwise it is measured.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Measured for each trunk; 0 leaves it out.")] = 3.0,
) -> None:
    """Make a parameter file the active study: check it, then copy it to params.yaml.

    How many crops it trains on is told, and about how many hours that takes on this machine.
    """
    from studylib.corpora.sources import check_settings
    from studylib.pipeline.estimate import estimate
    from studylib.pipeline.params import read_params, run_settings
    from studylib.pipeline.report_runs import batch_size_runs

    params = read_params(file)
    check_settings(params.corpus.source, params.corpus.settings)
    for run in params.study.runs:
        run_settings(params, run)
    batch_size_runs(params)
    target = project_root() / "params.yaml"
    partial = target.with_name("params.yaml.partial")
    partial.write_bytes(file.read_bytes())
    partial.replace(target)
    print(f"params.yaml is now the study {params.study.name}; run it with: uv run dvc repro")
    print(estimate(params, crops_per_second=crops_per_second, seconds=seconds))


@app.command()
def grid(
    workers: Annotated[int | None, typer.Option(min=1, help="Tasks that run at once.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each task.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="tcp://host:port of a running dask scheduler.")
    ] = None,
    slurm: Annotated[
        list[str] | None, typer.Option(help="key=value of SLURM jobs, such as queue=gpu.")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="Of a task that fails or is lost.")] = 2,
) -> None:
    """Run the stale runs and seeds side by side, and commit them; then dvc repro has the rest.

    Without options: a task for each GPU of this machine, or without a GPU for each core.
    """
    import os
    import signal

    from studylib.pipeline.grid import run_grid
    from studylib.pipeline.tasks import python_first

    os.environ["PATH"] = python_first()
    # A batch system's notice, as Ctrl-C: what is done is committed, what runs is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failures = run_grid(
        project_root(),
        workers=workers,
        threads=threads,
        scheduler=scheduler,
        slurm=_pairs("--slurm", slurm),
        retries=retries,
        report=lambda line: print(line, flush=True),
    )
    for sentence in failures:
        print(f"error: {sentence}", file=sys.stderr)
    if failures:
        raise typer.Exit(1)


def _pairs(option: str, texts: list[str] | None) -> dict[str, Any]:
    """key=value texts -> values as YAML reads them."""
    import yaml

    pairs = [text.partition("=") for text in texts or []]
    for key, equals, _ in pairs:
        if not equals:
            raise StudyError(f"{option} {key}: expected key=value")
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """{"splits.test": 0.2} -> {"splits": {"test": 0.2}}."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return nested


def _eer_line(metrics: dict) -> str:
    low, high = metrics["eer_interval"]
    return f"EER {100 * metrics['eer']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"

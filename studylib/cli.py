"""The command line: the stages of the pipeline, and the same jobs without a notebook."""

import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option, Typer

from studylib.errors import StudyError
from studylib.files.disk import explained_full_disk
from studylib.files.paths import corpus_folder, project_root
from studylib.files.processes import end_with_parent
from studylib.inference import commands

HELP = "Losses for open-set speaker verification, compared fairly."
app = Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.add_typer(commands.app)

RunName = Annotated[str, Argument(help="A run of params.yaml.")]
Seed = Annotated[int, Option(min=0, help="Decides weights, batches and crops.")]


def main() -> None:
    """Run the command; a user's mistake is one sentence and exit status 2."""
    end_with_parent()
    try:
        with explained_full_disk(Path.cwd(), "writing"):
            app()
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def plan() -> None:
    """Check params.yaml; write the plan of each run, baseline and report (the first stage)."""
    from studylib.pipeline.params import read_params
    from studylib.pipeline.plan import write_plan

    root = project_root()
    params = read_params(root / "params.yaml")
    write_plan(root, params)
    print(f"results/{params.study.name}/plan: {len(params.study.runs)} runs")


@app.command()
def corpus(
    source: Annotated[str | None, Argument(help="embedded, folder, librispeech, voxceleb")] = None,
    path: Annotated[Path | None, Argument(help="The recordings' folder, or a manifest.")] = None,
    out: Annotated[Path | None, Option(help="Instead of data/<source>.")] = None,
    changes: Annotated[list[str] | None, Option("--set", help="key=value of its settings.")] = None,
    keep_going: Annotated[bool, Option(help="Skip bad recordings, and list them.")] = False,
    overwrite: Annotated[bool, Option(help="Replace another corpus.")] = False,
) -> None:
    """Make the corpora of params.yaml under data/, unless they are there; or one of any SOURCE."""
    from studylib.corpora.sources import prepare_corpus
    from studylib.corpora.store import skipped_file
    from studylib.pipeline.corpora import prepare_corpora
    from studylib.pipeline.params import read_params

    going = {"keep_going": True} if keep_going else {}
    if source is None:
        if path or out or changes:
            raise StudyError("--out and --set need a SOURCE; without one, params.yaml decides")
        root = project_root()
        made = prepare_corpora(root, read_params(root / "params.yaml"), going)
    else:
        place = {"manifest" if path.is_file() else "root": path} if path else {}
        settings = place | _pairs(changes or []) | going
        out = out or corpus_folder(project_root(), source)
        made = [prepare_corpus(source, settings, out, overwrite=overwrite)]
    for each in made:
        print(each)
        if skipped_file(each.folder).exists():
            print(f"what was left out, and why: {skipped_file(each.folder)}")


@app.command()
def experiment(run: RunName, seed: Seed = 0) -> None:
    """Train and measure one run by experiment.ipynb, as the pipeline does."""
    from studylib.pipeline.notebooks import run_experiment

    run_experiment(project_root(), run, seed)


@app.command()
def train(run: RunName, seed: Seed = 0) -> None:
    """Train one run without measuring it; torchrun may start it in many processes.

    `studylib experiment`, run afterwards, measures this model.
    """
    from studylib.pipeline.experiment import open_experiment, train_experiment
    from studylib.pipeline.notebooks import experiment_folder

    out = experiment_folder(project_root(), run, seed)
    train_experiment(open_experiment(run, seed, out=out))


@app.command()
def baseline(name: Annotated[str, Argument(help="logmel_mean_std or logmel_whitened.")]):
    """Measure a baseline without a learned network."""
    from studylib.pipeline.experiment import eer_line, measure_experiment, open_baseline

    opened = open_baseline(name)
    print(eer_line(opened, measure_experiment(opened)))


@app.command()
def notebook(name: Annotated[str, Argument(help="A report, such as losses.")]) -> None:
    """Execute a report's notebook, as the pipeline does; by hand, use papermill or Jupyter."""
    from studylib.pipeline.notebooks import run_report

    run_report(project_root(), name)


@app.command()
def page() -> None:
    """Write index.html of the active study, from its reports (the last stage)."""
    from studylib.files.documents import read_yaml
    from studylib.reports.page import write_page

    root = project_root()
    write_page(root / "results" / read_yaml(root / "params.yaml")["study"]["name"])


@app.command()
def trunks() -> None:
    """Print parameters and multiply-adds of the trunks beside the papers' figures."""
    import pandas as pd

    from studylib.models.trunk_table import trunk_table

    print(pd.DataFrame.from_dict(trunk_table(), orient="index").to_string())


@app.command("import")
def import_checkpoint(
    file: Annotated[Path, Argument(help="A checkpoint of voxceleb_trainer.")],
    out: Annotated[Path, Argument(help="The model to write, for train.initial_weights.")],
    trunk: Annotated[str, Option(help="fast_, thin_ or half_resnet34, or vgg_m40.")],
    log: Annotated[bool | None, Option("--log-input/--no-log-input", help="As theirs.")] = None,
    pooling: Annotated[str | None, Option(help="tap, where the file has no other.")] = None,
    window: Annotated[str | None, Option(help="hamming or hann.")] = None,
    mels: Annotated[int | None, Option(help="Number of mel filters.")] = None,
) -> None:
    """Convert paper B's released weights to a model file, and report every key.

    What the file does not tell is asked for.
    """
    from studylib.models.embedder import save_model
    from studylib.models.voxceleb_trainer import import_voxceleb_trainer

    answers = {"log": log, "pooling": pooling, "window": window, "mels": mels}
    given = {key: value for key, value in answers.items() if value is not None}
    model, report = import_voxceleb_trainer(file, trunk, given)
    print(*report, sep="\n")
    save_model(model, out, scoring="cosine")


@app.command()
def export(
    model: Annotated[Path, Argument(help="A model file.")],
    out: Annotated[Path, Argument(help="The ONNX file to write.")],
) -> None:
    """Write a model and its features as ONNX: 16-kHz samples in, embeddings out."""
    from studylib.models.embedder import load_model
    from studylib.models.export import export_onnx

    difference = export_onnx(load_model(model)[0], out)
    print(f"{out}: ONNX Runtime's embeddings differ from torch's by {difference:.0e} at most")


@app.command()
def study(file: Annotated[Path, Argument(help="Such as studies/laptop.yaml.")]) -> None:
    """Make a parameter file the active study: check all of it, then copy it to params.yaml."""
    from studylib.files.atomic import atomic_file
    from studylib.pipeline.params import read_params
    from studylib.pipeline.plan import plan_documents

    root = project_root()
    params = read_params(file)
    plan_documents(root, params)
    with atomic_file(root / "params.yaml") as partial:
        partial.write_bytes(file.read_bytes())
    print(f"params.yaml is now the study {params.study.name}; run it with: uv run dvc repro")


@app.command()
def grid(
    workers: Annotated[int | None, Option(min=1, help="Experiments at once.")] = None,
    scheduler: Annotated[str | None, Option(help="tcp://host:port of a dask scheduler.")] = None,
) -> None:
    """Run the stale experiments in parallel and record them; dvc repro then runs the rest.

    Without options: a worker for each GPU of this machine, or without a GPU for each core.
    """
    import signal

    from studylib.pipeline.grid import run_grid

    # A batch system's SIGTERM as Ctrl-C: finished experiments are recorded, running ones ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failures = run_grid(project_root(), workers, scheduler)
    for sentence in failures:
        print(f"error: {sentence}", file=sys.stderr)
    if failures:
        raise Exit(1)


def _pairs(texts: list[str]) -> dict[str, Any]:
    """key=value texts -> values as YAML reads them."""
    import yaml

    pairs = (text.partition("=") for text in texts)
    try:
        return {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError as error:
        raise StudyError(f"--set: {' '.join(str(error).split())}") from None

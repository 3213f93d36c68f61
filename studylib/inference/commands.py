"""The commands that use a model: verify, embed, evaluate, calibrate, finetune, publish.

Exit status: 0; of `verify` 1 where the speakers differ; 2 after a mistake, named in one sentence.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option, Typer

from studylib.errors import StudyError

app = Typer()

NAMED = "A name in pretrained/, a model's folder or its file."
Model = Annotated[str, Option(help=NAMED)]
Start = Annotated[str, Argument(metavar="MODEL", help=NAMED)]
Out = Annotated[Path, Option(help="The folder to write.")]
Recordings = Annotated[Path, Argument(help="A folder speaker/[session/]utterance.")]


@app.command()
def verify(
    first: Annotated[Path, Argument(help="A recording.")],
    second: Annotated[Path, Argument(help="Another one.")],
    model: Model = "best",
    prior: Annotated[float, Option(help="Probability of one speaker, beforehand.")] = 0.5,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """Are two recordings of the same speaker? Exit status 0 if so, 1 if not, 2 after a mistake."""
    from studylib.inference import speaker_model

    found = speaker_model.verify(speaker_model.load_speaker_model(model), first, second, prior)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("same speaker" if found["same"] else "different speakers")
        print(f"probability of one speaker {found['probability']:.3f}, at the prior {prior:g}")
        print(f"score {found['score']:.3f}, log-likelihood ratio {found['llr']:.2f}")
        print(f"calibrated on: {found['calibrated_on']}")
        for sentence in found["warnings"]:
            print(f"warning: {sentence}", file=sys.stderr)
    raise Exit(0 if found["same"] else 1)


@app.command()
def embed(
    folder: Annotated[Path, Argument(help="Holds recordings, at any depth.")],
    out: Annotated[Path, Option(help="The table to write, Parquet.")],
    model: Model = "best",
) -> None:
    """Embed all recordings of a folder: a table of paths and embeddings."""
    import pandas as pd

    from studylib.corpora.audio import audio_files
    from studylib.files.atomic import atomic_file
    from studylib.inference.speaker_model import load_speaker_model

    loaded, paths = load_speaker_model(model), sorted(audio_files(folder))
    if not paths:
        raise StudyError(f"{folder} has no recordings to embed")
    table = {
        "path": [Path(path).relative_to(folder).as_posix() for path in paths],
        "embedding": [loaded.embed_file(path).numpy() for path in paths],
    }
    with atomic_file(out) as partial:
        pd.DataFrame(table).to_parquet(partial)
    print(f"{len(paths)} recordings in {out}")


@app.command()
def evaluate(
    out: Out,
    corpus: Annotated[Path, Option(help="A prepared corpus, or a folder of speakers.")],
    model: Model = "best",
    trials: Annotated[str, Option(help="A list of the corpus, or its file.")] = "test",
) -> None:
    """Measure a model on the trials of a corpus, or of a folder of recordings."""
    from studylib.inference import adaptation

    print(adaptation.measure(model, corpus, trials, out))


@app.command()
def calibrate(model: Start, recordings: Recordings, out: Out) -> None:
    """Learn a model's threshold and probabilities on your own recordings."""
    from studylib.inference import adaptation

    print(adaptation.calibrate(model, recordings, out))


@app.command()
def finetune(model: Start, recordings: Recordings, out: Out) -> None:
    """Train a model further on your own speakers, and measure it on some held out."""
    from studylib.inference import adaptation

    print(adaptation.finetune(model, recordings, out))


@app.command()
def publish(
    experiment: Annotated[Path, Argument(help="Of a run: results/STUDY/experiment/RUN-SEED.")],
    out: Out,
    spectrum: Annotated[bool, Option(help="Put the long-term spectrum beside it.")] = False,
    calibrate_on: Annotated[
        Path | None, Option(help="A corpus whose development trials join the study's own.")
    ] = None,
) -> None:
    """Make a model and its card of a measured run, such as --out pretrained/NAME."""
    from studylib.inference import publishing

    if spectrum:
        from studylib.files.paths import project_root
        from studylib.inference.spectrum import add_spectrum

        measured = experiment.absolute().parents[1] / "published" / experiment.name
        add_spectrum(experiment, project_root() / "data", measured)
        experiment = measured
    publishing.publish(experiment, out, calibrate_on)
    print(f"{out}: read its card.md before you commit it")

"""How many real speakers does fine-tuning need, and what is the pretrained model worth?

Run `python -m benchmarks.finetuning READERS ACTORS [--model best]` in the project's folder.
READERS holds a folder for each of 251 readers with one recording of some 14 s each (cut into three
pieces), ACTORS a folder for each of ten actors of one room. It writes benchmarks/finetuning.csv, a
row for each training, and of these finetuning.md, .png and .pdf. Rows that are there are not made
again; rows of another model are dropped.
"""

from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from benchmarks.measuring import markdown, options_of, processor
from studylib.corpora.sources import prepare_corpus
from studylib.corpora.store import Corpus
from studylib.evaluation.run import evaluate
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.checksums import sha256
from studylib.files.paths import project_root
from studylib.inference.adaptation import finetune_settings
from studylib.inference.speaker_model import load_speaker_model, model_file
from studylib.reports.figures.style import nth_look, percent_axis, save_figure
from studylib.training.loop import train

SPEAKERS, SEEDS, STARTS = (0, 10, 30, 100, 200), (0, 1, 2), ("pretrained", "random weights")
TEST_SPEAKERS = 51
OUT = Path(__file__).with_suffix(".csv")
KEYS = ["model", "speakers", "start", "seed"]


def corpora_of(readers: Path, actors: Path, work: Path) -> list[Corpus]:
    """The readers, to train on and to test, with session effects; the actors, to test on."""
    pieces = {"pieces_per_utterance": 3, "session_effects": "mid"}
    given = {
        "readers": {"root": readers, "splits": {"test": TEST_SPEAKERS}, **pieces},
        "actors": {"root": actors, "splits": {"test": 1.0}},
    }
    return [prepare_corpus("folder", keys, work / name) for name, keys in given.items()]


def eers(
    model: Path, corpora: list[Corpus], start: str, speakers: int, seed: int, work: Path
) -> dict[str, float]:
    """The EER (fraction) on each corpus after fine-tuning on the first `speakers` readers."""
    readers, *further = corpora
    protocol = load_speaker_model(model).protocol
    if start == "pretrained" and not speakers:
        file = model
    else:
        scratch = start != "pretrained"
        settings = finetune_settings(model, readers, speakers or None, scratch=scratch)
        if not speakers:
            untrained = settings.train.model_copy(update={"crops": 0})
            settings = settings.model_copy(update={"train": untrained})
        name = f"{start}-{speakers}-{seed}"
        key = settings.model_dump_json() + sha256(model)
        folder = work / name / "model"
        train(settings, readers, seed, folder, checkpoints=work, key=key, report=lambda line: None)
        file = folder / "model.safetensors"
    how = EvaluateSettings(trials=["test"], resamples=2, **protocol)
    out = work / "measured"
    found = {"readers": evaluate(file, readers, how, out, further=further)["eer"]}
    also = pd.read_json(out / "also" / "actors" / "metrics.json", typ="series")
    return found | {"actors": also["eer"]}


def figure_of(rows: pd.DataFrame) -> plt.Figure:
    """One panel a test set, one line a start: the mean of the seeds, and a mark for each."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
    titles = {"readers": f"{TEST_SPEAKERS} readers held out", "actors": "ten actors"}
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for place, (start, part) in enumerate(rows.groupby("start")):
            own = nth_look(place, start)
            x = part["speakers"].map(SPEAKERS.index)
            axes.plot(x, 100 * part[column], own.mark, color=own.colour, alpha=0.4)
            means = 100 * part.groupby("speakers")[column].mean()
            axes.plot(range(len(means)), means, own.line, color=own.colour, label=start)
        axes.set(title=title, xlabel="real speakers trained on")
        axes.set_xticks(range(len(SPEAKERS)), SPEAKERS)
        percent_axis(axes.yaxis)
    panels[0].set_ylabel("EER (%), logarithmic\nmarks: seeds; line: their mean")
    panels[0].legend(title="start")
    return figure


def report(rows: pd.DataFrame, model: str) -> str:
    head = [
        "real speakers",
        "start",
        "readers: EER (%)",
        "deviation",
        "actors: EER (%)",
        "deviation",
    ]
    lines = [head]
    for (speakers, start), part in rows.groupby(["speakers", "start"]):
        numbers = 100 * part[["readers", "actors"]]
        means, deviations = numbers.mean(), numbers.std()
        cells = [f"{x[c]:.2f}" for c in numbers for x in (means, deviations)]
        lines.append([str(speakers), start, *cells])
    return f"""# Fine-tuning on real speakers

Made by `python -m benchmarks.finetuning` on {processor()}: the model `{model}`, and
random weights of the same trunk, trained on the first so many of 200 readers by the settings that
`studylib finetune` chooses (three pieces of one recording each, session effects `mid`; from random
weights four times the learning rate). Mean and standard deviation over {len(SEEDS)} seeds, on
{TEST_SPEAKERS} other readers with session effects and on ten actors recorded in one room. With 0
speakers: the published model as it is, and the untrained network.

{markdown(lines)}

![EER against the number of real speakers](finetuning.png)
"""


def main() -> None:
    options = options_of(__doc__)
    model, work = model_file(options.model), project_root() / ".checkpoints" / "finetuning"
    corpora, checksum = corpora_of(options.readers, options.actors, work), sha256(model)[:12]
    columns = [*KEYS, "readers", "actors"]
    rows = pd.read_csv(OUT) if OUT.exists() else pd.DataFrame(columns=columns)
    rows = rows[rows["model"] == checksum]
    for seed, speakers, start in product(SEEDS, SPEAKERS, STARTS):
        done = rows[KEYS].apply(tuple, axis=1).tolist()
        if (key := (checksum, speakers, start, seed)) in done:
            continue
        found = eers(model, corpora, start, speakers, seed, work)
        print(speakers, start, seed, found)
        row = dict(zip(KEYS, key, strict=True)) | found
        rows = pd.DataFrame([*rows.to_dict("records"), row])
        rows.to_csv(OUT, index=False)
    save_figure(figure_of(rows), OUT.parent, OUT.stem)
    OUT.with_suffix(".md").write_text(report(rows, options.model), encoding="utf-8")


if __name__ == "__main__":
    main()

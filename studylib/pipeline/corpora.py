"""The corpora of a study under data/: its own, and those that its runs are also measured on."""

from pathlib import Path

from studylib.corpora.sources import prepare_corpus
from studylib.corpora.store import Corpus, open_corpus
from studylib.files.atomic import write_json
from studylib.files.paths import corpus_folder
from studylib.pipeline.params import Params


def prepare_corpora(root: Path, params: Params, changes: dict) -> list[Corpus]:
    """Prepare each corpus that is described, unless it is there, and open the others.

    Writes results/<study>/test_sets.json, the checksums of the corpora of `evaluate.also`: what
    the stages after this one depend on.

    Parameters
    ----------
    root : Path
    params : Params
    changes : dict
        Of the settings of every corpus prepared.

    Raises
    ------
    StudyError
        As `prepare_corpus`, or as `open_corpus` for a corpus that `test_sets` does not describe.
    """
    sections = {params.corpus.name: params.corpus}
    sections |= {name: params.test_sets.get(name) for name in params.evaluate.also}
    made = {}
    for name, section in sections.items():
        folder = corpus_folder(root, name)
        if section is None:
            made[name] = open_corpus(folder)
        else:
            settings = section.settings | changes
            made[name] = prepare_corpus(section.source, settings, folder, overwrite=True)
    also = {name: made[name].provenance for name in params.evaluate.also}
    path = root / "results" / params.study.name / "test_sets.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, also)
    return list(made.values())

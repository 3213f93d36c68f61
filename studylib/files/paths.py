"""Paths below the project's root, whatever the working directory."""

from pathlib import Path

from studylib.errors import StudyError


def project_root() -> Path:
    """The nearest folder, from the present one upwards, that holds params.yaml and dvc.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").exists() and (folder / "dvc.yaml").exists():
            return folder
    raise StudyError(
        f"{here} is not inside the project: expected params.yaml and dvc.yaml above it"
    )


def corpus_folder(root: Path, name: str) -> Path:
    return root / "data" / name

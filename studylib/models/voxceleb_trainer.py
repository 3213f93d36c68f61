"""Reads the checkpoints of paper B's authors (voxceleb_trainer) into our trunks.

Only the trunk is read. What a file tells about its trunk and features is taken from it; what it
does not tell must be said: the same weights give embeddings with any answer, right with one alone.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studylib.errors import StudyError
from studylib.models.embedder import Embedder, check_weights
from studylib.models.features import N_MELS, WINDOW, WINDOWS, mel_filters
from studylib.models.trunks import trunk_keywords

# Our trunk -> their name of it, and a weight that it must have.
THEIRS = {
    "fast_resnet34": ("ResNetSE34L", "sap_linear.weight"),
    "thin_resnet34": ("ResNetSE34", "sap_linear.weight"),
    "half_resnet34": ("ResNetSE34V2", "attention.0.weight"),
    "vgg_m40": ("VGGVox", "netcnn.0.weight"),
}
# Their names -> ours; all other names agree.
NAMES = (
    (r"sap_linear\.", "pooling.attention.linear."),
    (r"attention$", "pooling.attention.context"),
    (r"attention\.", "pooling.attention."),
    (r"netcnn\.", "convolutions."),
    (r"(.*\.se\.)fc\.0\.", r"\1down."),
    (r"(.*\.se\.)fc\.2\.", r"\1up."),
    (r"(.*\.)downsample\.", r"\1shortcut."),
)
# What no keyword of our trunk can change.
FIXED = {"vgg_m40": {"mels": N_MELS}, "thin_resnet34": {"log": False}}
# What a user may have to say -> the option and its choices.
OPTIONS = {
    "log": "--log-input or --no-log-input, as in their training",
    "pooling": "--pooling tap if their encoder_type was TAP; MAX cannot be imported",
    "window": f"--window {' or '.join(WINDOWS)}",
    "mels": "--mels, their n_mels",
}


def import_voxceleb_trainer(
    path: Path, trunk: str, answers: Mapping[str, Any]
) -> tuple[Embedder, list[str]]:
    """A model with the weights of a voxceleb_trainer file.

    Parameters
    ----------
    path : Path
        A file that their code saved: a bare state dict, or one under "model_state_dict" or "model".
    trunk : str
        A key of `THEIRS`.
    answers : mapping
        Keywords of the trunk that the user has said, of `OPTIONS`.

    Returns
    -------
    Embedder
    list of str
        The report: a line for each key of the file, used or left, and the trunk's keywords.

    Raises
    ------
    StudyError
        If the file is missing, is no such checkpoint or not of this trunk, or if an answer is
        missing, contradicts the file or is none of the trunk's.
    """
    if trunk not in THEIRS:
        raise StudyError(f"--trunk {trunk}: expected one of {', '.join(THEIRS)}")
    state = read_state(path)
    named = {re.sub(r"^(module\.|__S__\.)+", "", key): key for key in state}
    their_name, mark = THEIRS[trunk]
    if not all(key in named and state[named[key]].ndim > 1 for key in (mark, "fc.weight")):
        raise StudyError(f"{path} has no {mark} as {their_name} has: it is no {trunk}")
    facts = dict(told(trunk, {name: state[key] for name, key in named.items()}, path))
    fixed = FIXED.get(trunk, {})
    for key, option in OPTIONS.items():
        values = [source[key] for source in (fixed, facts, answers) if key in source]
        if len(set(values)) > 1:
            raise StudyError(f"{path}: {key} cannot be both {values[0]!r} and {values[-1]!r}")
        needed = key == "log" or key in trunk_keywords(trunk, {})
        if needed and key not in answers and key not in facts:
            raise StudyError(f"{path} does not tell its {key}: say {option}")
    model = Embedder(trunk, {k: v for k, v in {**answers, **facts}.items() if k not in fixed})
    ours = model.trunk.state_dict()
    used = {our_name(name): key for name, key in named.items() if our_name(name) in ours}
    left = [key for key in state if key not in used.values()]
    for key in left:
        if not re.search(r"(^|\.)(__L__|torchfb)\.", key):
            raise StudyError(f"{path}: {key} is no weight of {their_name}")
    weights = {name: state[key] for name, key in used.items()}
    check_weights(weights, ours, path)
    model.trunk.load_state_dict(weights)
    report = [f"used     {key} -> {name}" for name, key in used.items()]
    report += [f"left     {key}" for key in left]
    return model.eval(), [*report, f"trunk    {trunk}: {model.keywords}"]


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, whichever of their forms it has; nothing is unpickled."""
    if not Path(path).exists():
        raise StudyError(f"{path} does not exist: expected a voxceleb_trainer checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file raises nearly any
        # Torch's own message advises to load with weights_only=False, which would run the file.
        raise StudyError(f"{path} is not a readable checkpoint of tensors alone") from None
    for wrapper in ("model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = isinstance(state, Mapping) and all(isinstance(v, Tensor) for v in state.values())
    if not tensors or not state:
        raise StudyError(f"{path} holds no state dict: expected names with tensors")
    return {str(key): value for key, value in state.items()}


def our_name(name: str) -> str:
    """Their name of a weight, without wrappers -> our name."""
    for theirs, ours in NAMES:
        name = re.sub(f"^{theirs}", ours, name)
    return name


def told(trunk: str, state: Mapping[str, Tensor], path: Path) -> Iterator[tuple[str, Any]]:
    """The keywords of the trunk that names, shapes and constants of a checkpoint decide."""
    n_out, n_in = state["fc.weight"].shape[:2]
    yield "embedding_dim", n_out
    if "conv1.weight" in state:
        yield "width", len(state["conv1.weight"])
    if "sap_linear.weight" in state:
        yield "pooling", "sap" if n_in == len(state["sap_linear.weight"]) else "asp"
    for key, value in state.items():
        if key.endswith("mel_scale.fb"):
            mels = value.shape[-1]
            if not same(value, mel_filters(mels)):
                raise StudyError(f"{path}: {key} holds other filters than {mels} from 0 to 8 kHz")
            yield "mels", mels
        if key.endswith("spectrogram.window"):
            windows = [name for name, make in WINDOWS.items() if same(value, make(WINDOW))]
            if not windows:
                raise StudyError(f"{path}: {key} is no 25-ms {' or '.join(WINDOWS)} window")
            yield "window", windows[0]
    filters = [key for key in state if key.endswith("flipped_filter")]
    if filters and trunk != "half_resnet34":
        raise StudyError(f"{path}: {filters[0]} is pre-emphasis, which {trunk} does not have")


def same(theirs: Tensor, ours: Tensor) -> bool:
    return theirs.shape == ours.shape and torch.allclose(theirs.float(), ours, atol=1e-4)

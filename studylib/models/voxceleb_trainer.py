"""Reads the checkpoints of paper B's authors (voxceleb_trainer) into our trunks.

Their `ResNetSE34L` is our fast_resnet34 and their `VGGVox` our vgg_m40. Only the trunk is read; the
loss, the optimizer and the constants of their features are listed in the report and ignored.
"""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.models.features import N_MELS, WINDOW, mel_filters

# Their names -> ours; all other names agree.
NAMES = (
    (r"sap_linear\.", "pooling.attention.linear."),
    (r"attention$", "pooling.attention.context"),
    (r"netcnn\.", "convolutions."),
    (r"(.*\.se\.)fc\.0\.", r"\1down."),
    (r"(.*\.se\.)fc\.2\.", r"\1up."),
    (r"(.*\.)downsample\.", r"\1shortcut."),
)


def load_voxceleb_trainer(path: Path, trunk: nn.Module) -> list[str]:
    """Copy the weights of a voxceleb_trainer file into `trunk`, in place.

    Parameters
    ----------
    path : Path
        A file that their code saved: a bare state dict, or one under "model_state_dict" or "model".
    trunk : nn.Module
        fast_resnet34 or vgg_m40, with the embedding length and the pooling of the checkpoint.

    Returns
    -------
    list of str
        The report: a line for each key of the file, used or left, and notes that matter for
        comparing numbers.

    Raises
    ------
    StudyError
        If the file is missing, is no such checkpoint, does not fit the trunk, or was trained on
        another number of mel filters.
    """
    state, ours = read_state(path), trunk.state_dict()
    named = {our_name(key): key for key in state if our_name(key) in ours}
    lacking = [name for name in ours if name not in named]
    if lacking:
        raise StudyError(
            f"{path}: {len(lacking)} of the trunk's {len(ours)} weights are missing, "
            f"{lacking[0]} for one; expected a ResNetSE34L for fast_resnet34, a VGGVox for vgg_m40"
        )
    for name, key in named.items():
        if state[key].shape != ours[name].shape:
            raise StudyError(
                f"{path}: {key} has shape {tuple(state[key].shape)}, but the trunk's {name} has "
                f"{tuple(ours[name].shape)}; expected the same embedding_dim, width and pooling"
            )
    notes = list(feature_notes(state, path))
    trunk.load_state_dict({name: state[key] for name, key in named.items()})
    used = [f"used     {key} -> {name}" for name, key in named.items()]
    left = [f"left     {key}" for key in state if key not in named.values()]
    return used + left + [f"note     {note}" for note in notes]


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, whichever of their forms it has; nothing is unpickled."""
    if not Path(path).exists():
        raise StudyError(f"{path} does not exist: expected a voxceleb_trainer checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError):
        # Torch's own message advises to load with weights_only=False, which would run the file.
        raise StudyError(f"{path} is not a readable checkpoint of tensors alone") from None
    for wrapper in ("model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = isinstance(state, Mapping) and all(isinstance(v, Tensor) for v in state.values())
    if not tensors or not state:
        raise StudyError(f"{path} holds no state dict: expected names with tensors")
    return dict(state)


def our_name(key: str) -> str:
    """Their name of a weight -> our name: without wrappers, renamed."""
    name = re.sub(r"^(module\.|__S__\.)+", "", key)
    for theirs, ours in NAMES:
        name = re.sub(f"^{theirs}", ours, name)
    return name


def feature_notes(state: Mapping[str, Tensor], path: Path) -> Iterator[str]:
    """Where the features that the checkpoint was trained on differ, or may differ, from ours."""
    for key, value in state.items():
        if key.endswith("mel_scale.fb") and not same(value, mel_filters(N_MELS)):
            raise StudyError(
                f"{path}: {key} holds {value.shape[-1]} filters that are not our {N_MELS} mel "
                f"filters: its embeddings would be wrong"
            )
        if key.endswith("spectrogram.window") and not same(value, torch.hamming_window(WINDOW)):
            yield f"{key}: trained with a window that is not our 25-ms Hamming window"
        if key.endswith("flipped_filter"):
            yield f"{key}: trained with pre-emphasis, which our features do not have"
    yield (
        "no checkpoint says whether it was trained with --log_input True and an average or "
        "attentive pooling (not MAX); others would give wrong embeddings here"
    )


def same(theirs: Tensor, ours: Tensor) -> bool:
    return theirs.shape == ours.shape and torch.allclose(theirs.float(), ours, atol=1e-4)

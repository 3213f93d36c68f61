"""Reads the checkpoints of paper B's authors (voxceleb_trainer) into our trunks.

Their `ResNetSE34L` is our fast_resnet34 and their `VGGVox` our vgg_m40. Only the trunk is read;
the loss, the optimizer and the constants of their features are reported and left.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.models.features import WINDOW

# Their names -> ours; all other names agree.
NAMES = (
    (r"sap_linear\.", "pooling.attention.linear."),
    (r"attention$", "pooling.attention.context"),
    (r"netcnn\.", "convolutions."),
    (r"(.*\.se\.)fc\.0\.", r"\1down."),
    (r"(.*\.se\.)fc\.2\.", r"\1up."),
    (r"(.*\.)downsample\.", r"\1shortcut."),
)


@dataclass(frozen=True)
class LoadReport:
    """What became of the keys of a checkpoint.

    Attributes
    ----------
    used : dict of str
        Key in the file -> name in our trunk.
    left : list of str
        Keys in the file that are not of the trunk: loss, feature constants.
    missing : list of str
        Names in our trunk that the file does not have; they keep their values.
    notes : list of str
        What a reader must know before comparing numbers.
    """

    used: dict[str, str]
    left: list[str]
    missing: list[str]
    notes: list[str]

    def __str__(self) -> str:
        lines = [f"used     {theirs} -> {ours}" for theirs, ours in self.used.items()]
        lines += [f"left     {key}" for key in self.left]
        lines += [f"missing  {name}" for name in self.missing]
        return "\n".join(lines + [f"note     {note}" for note in self.notes])


def load_voxceleb_trainer(path: Path, trunk: nn.Module, *, strict: bool = True) -> LoadReport:
    """Copy the weights of a voxceleb_trainer file into `trunk`, in place.

    Parameters
    ----------
    path : Path
        A file that their code saved: a bare state dict, or one under "model_state_dict" or "model".
    trunk : nn.Module
        fast_resnet34 or vgg_m40, with the embedding length and the pooling of the checkpoint.
    strict : bool
        Refuse a file that lacks any weight of the trunk. With False (fine-tuning a trunk with
        another last layer) what is missing, or has another shape, keeps its values.

    Returns
    -------
    LoadReport

    Raises
    ------
    StudyError
        If the file is missing, is no such checkpoint, or does not fit the trunk.
    """
    state, ours = read_state(path), trunk.state_dict()
    named = {our_name(key): key for key in state if our_name(key) in ours}
    lacking = [name for name in ours if name not in named]
    if not named or (strict and lacking):
        raise StudyError(
            f"{path}: {len(lacking)} of the trunk's {len(ours)} weights are missing, "
            f"{lacking[0]} for one; expected a ResNetSE34L for fast_resnet34, a VGGVox for vgg_m40"
        )
    fitting = {n: key for n, key in named.items() if state[key].shape == ours[n].shape}
    unfit = [name for name in named if name not in fitting]
    if strict and unfit:
        name, key = unfit[0], named[unfit[0]]
        raise StudyError(
            f"{path}: {key} has shape {tuple(state[key].shape)}, but the trunk's {name} has "
            f"{tuple(ours[name].shape)}; expected the same embedding_dim, width and pooling"
        )
    trunk.load_state_dict(ours | {name: state[key] for name, key in fitting.items()})
    return LoadReport(
        used={key: name for name, key in fitting.items()},
        left=[key for key in state if key not in fitting.values()],
        missing=[name for name in ours if name not in fitting],
        notes=feature_notes(state),
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, whichever of their forms it has; nothing is unpickled."""
    if not Path(path).exists():
        raise StudyError(f"{path} does not exist: expected a voxceleb_trainer checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StudyError(f"{path} is not a readable checkpoint of tensors: {reason}") from None
    for wrapper in ("model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = isinstance(state, Mapping) and all(isinstance(v, Tensor) for v in state.values())
    if not tensors or not state:
        raise StudyError(f"{path} holds no state dict: expected names with tensors")
    return dict(state)


def our_name(key: str) -> str:
    """Their name of a weight -> our name: without wrappers, with our words."""
    name = re.sub(r"^(module\.|__S__\.)+", "", key)
    for theirs, ours in NAMES:
        name = re.sub(f"^{theirs}", ours, name)
    return name


def feature_notes(state: Mapping[str, Tensor]) -> list[str]:
    """Where the features that the checkpoint was trained on differ from ours."""
    notes = []
    ours = torch.hamming_window(WINDOW)
    for key, value in state.items():
        if key.endswith("spectrogram.window"):
            window = value.float()
            if window.shape != ours.shape or not torch.allclose(window, ours, atol=1e-4):
                notes.append(f"{key}: trained with a window that is not our 25-ms Hamming window")
        if key.endswith("flipped_filter"):
            notes.append(f"{key}: trained with pre-emphasis, which our features do not have")
    return notes

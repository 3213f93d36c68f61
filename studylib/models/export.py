"""A model with its features as one ONNX file."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from studylib.errors import StudyError
from studylib.files.atomic import atomic_file
from studylib.models.embedder import Embedder
from studylib.models.features import SAMPLE_RATE, SHORTEST

LARGEST_DIFFERENCE = 1e-4
CHECKED = (1, SHORTEST), (9, SHORTEST + 1), (2, 5 * SAMPLE_RATE)  # batch size, samples


def export_onnx(model: Embedder, path: Path) -> float:
    """Write a file that maps `samples` (B, S) to `embeddings` (B, D), for any B and any S.

    The samples are floats in [-1, 1] at 16 kHz, half a second or more; the features are part of
    the file. Before it has its name, the file is compared with the model by ONNX Runtime.

    Parameters
    ----------
    model : Embedder
        In evaluation mode, on a processor.

    Returns
    -------
    float
        The largest difference between the two, relative to the embeddings' largest number, over
        noise of several lengths and batch sizes.

    Raises
    ------
    StudyError
        If the packages of the extra `onnx` are missing, the difference is above 1e-4, the trunk
        chooses by length what it computes (vgg_m40 repeats inputs under 0.62 s), or the exporter
        lacks a step (of pitch).
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, torch's exporter needs it
    except ImportError:
        raise StudyError("ONNX needs onnxruntime and onnxscript: install studylib[onnx]") from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing
    # The exporter refuses two precisions of cuDNN, and `choose_device` may have set one of them.
    cudnn = torch.backends.cudnn
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (noise(3, SAMPLE_RATE),), dynamic_shapes=(any_size,))
    names = {"input_names": ["samples"], "output_names": ["embeddings"]}
    with atomic_file(path) as partial, torch.inference_mode():
        try:
            torch.onnx.export(program, f=partial, external_data=False, verbose=False, **names)
        except torch.onnx.OnnxExporterError:
            raise StudyError(f"{model.name} with {model.keywords} cannot be exported") from None
        session = onnxruntime.InferenceSession(str(partial))
        largest = 0.0
        for sizes in CHECKED:
            samples = noise(*sizes)
            try:
                (exported,) = session.run(None, {"samples": samples.numpy()})
            except Exception:  # its classes are not public
                raise StudyError(f"{model.name} cannot be exported for samples {sizes}") from None
            ours = model(samples)
            difference = (torch.from_numpy(exported) - ours).abs().max() / ours.abs().max()
            if not difference <= LARGEST_DIFFERENCE:
                raise StudyError(f"{path}: ONNX Runtime differs from torch by {difference:.1e}")
            largest = max(largest, difference.item())
    return largest


def noise(batch: int, samples: int) -> Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(0))

"""ONNX files against the models that they were exported from."""

import sys

import onnxruntime
import pytest
import torch

from studylib.errors import StudyError
from studylib.models import Embedder
from studylib.models.export import export_onnx


@pytest.mark.parametrize(
    ("trunk", "keywords"),
    [("compact_tdnn", {"channels": 8}), ("fast_resnet34", {"width": 8, "mels": 24})],
)
def test_an_exported_model_embeds_any_batch_of_any_length_as_torch_does(trunk, keywords, tmp_path):
    torch.manual_seed(0)
    model = Embedder(trunk, {"embedding_dim": 12, **keywords})
    model(0.1 * torch.randn(8, 16_000))  # running statistics that are not 0 and 1
    assert export_onnx(model.eval(), tmp_path / "model.onnx") < 1e-4
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for shape in ((1, 8000), (1, 16_001), (17, 8159), (3, 40_000)):
        samples = 0.1 * torch.randn(*shape)
        (embeddings,) = session.run(["embeddings"], {"samples": samples.numpy()})
        ours = model(samples).detach()
        torch.testing.assert_close(torch.from_numpy(embeddings), ours, atol=1e-4, rtol=1e-4)


def test_without_its_packages_the_export_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(StudyError, match=r"install studylib\[onnx\]"):
        export_onnx(Embedder("compact_tdnn").eval(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_pitch_which_the_exporter_cannot_write_is_refused(tmp_path):
    model = Embedder("compact_tdnn", {"embedding_dim": 12, "channels": 8, "pitch": True})
    with pytest.raises(StudyError, match="'pitch': True} cannot be exported"):
        export_onnx(model.eval(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())

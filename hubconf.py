"""The published models, for torch.hub: `torch.hub.load("OWNER/REPOSITORY", "best")`.

Each entry returns a model that embeds recordings, `model.embed_file("a.wav")`, or waveforms in
[-1, 1], `model(waveform, rate)`, and compares two by the dot product of their embeddings (the
prototypical loss: by minus their squared distance). pretrained/<name>/card.md says what a model was
trained on, and what it must not be used for.
"""

dependencies = ["torch", "torchaudio", "numpy", "safetensors", "soundfile"]


def _load(name):
    from pathlib import Path

    from studylib.inference.speaker_model import load_speaker_model

    return load_speaker_model(Path(__file__).parent / "pretrained" / name)


def best():
    """The model of the lowest error rates on real speech: see pretrained/best/card.md."""
    return _load("best")


def softmax():
    """Trained with softmax."""
    return _load("softmax")


def am_softmax():
    """Trained with AM-softmax."""
    return _load("am_softmax")


def aam_softmax():
    """Trained with AAM-softmax."""
    return _load("aam_softmax")


def coco():
    """Trained with CoCo loss."""
    return _load("coco")


def center():
    """Trained with center loss."""
    return _load("center")


def contrastive():
    """Trained with contrastive loss."""
    return _load("contrastive")


def triplet():
    """Trained with triplet loss."""
    return _load("triplet")


def ge2e():
    """Trained with GE2E loss."""
    return _load("ge2e")


def prototypical():
    """Trained with prototypical loss."""
    return _load("prototypical")


def angular_prototypical():
    """Trained with angular prototypical loss."""
    return _load("angular_prototypical")


def softmax_prototypical():
    """Trained with the sum of softmax and angular prototypical loss."""
    return _load("softmax_prototypical")

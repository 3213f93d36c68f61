"""The losses of the study, one file each.

A loss is built as `LOSSES[name](embedding_dim, n_speakers, margin=..., ...)` and called with
embeddings (N, M, D) of N speakers by M utterances and their labels (N,); it returns a scalar. Its
`title` is its name in print, its `scoring` how embeddings are compared; the order here is the order
in print. A new loss is one new file and one line here: the class `CosineLoss` of the file
cosine_loss.py is "cosine_loss".
Initial weights come from torch's global generator: seed it before building the loss.
"""

from importlib import import_module

from torch import nn

NAMES = (
    # Classification: one label for each utterance, a learned weight for each training speaker
    "softmax",
    "am_softmax",
    "aam_softmax",
    "subcenter_aam_softmax",
    "sphereface2",
    "coco",
    "center",
    # Metric: the batch's utterances against each other
    "contrastive",
    "triplet",
    "ge2e",
    "prototypical",
    "angular_prototypical",
    "supcon",
    "circle",
    # Both
    "softmax_prototypical",
)

LOSSES: dict[str, type[nn.Module]] = {
    name: getattr(
        import_module(f"studylib.losses.{name}"), "".join(map(str.capitalize, name.split("_")))
    )
    for name in NAMES
}

__all__ = ["LOSSES"]

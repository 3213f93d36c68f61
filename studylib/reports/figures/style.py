"""One loss, one colour, in every figure.

Colours follow Okabe and Ito (2008) and Paul Tol's muted scheme, which stay apart for colour-blind
readers; where many losses meet, a name stands beside each mark: no reader depends on colour.
"""

COLOURS = {
    "softmax": "#0072B2",
    "am_softmax": "#56B4E9",
    "aam_softmax": "#332288",
    "subcenter_aam_softmax": "#6699CC",
    "sphereface2": "#88CCEE",
    "coco": "#44AA99",
    "center": "#117733",
    "contrastive": "#DDCC77",
    "triplet": "#E69F00",
    "circle": "#F0E442",
    "supcon": "#999933",
    "ge2e": "#CC6677",
    "prototypical": "#D55E00",
    "angular_prototypical": "#882255",
    "softmax_prototypical": "#CC79A7",
}
NO_LOSS = "#777777"  # untrained networks and baselines
TARGET, NONTARGET = "#0072B2", "#E69F00"


def colour(loss: str | None) -> str:
    """The colour of a loss; grey for anything else."""
    return COLOURS.get(loss or "", NO_LOSS)

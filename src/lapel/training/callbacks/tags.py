"""What TensorBoard is told of a number besides its value: the section of its curve, and a sentence about it."""

from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR, Summary  # pyright: ignore
from torch.utils.tensorboard.summary import scalar

from lapel.retrieval.words import told

# TensorBoard sorts sections by name, figures ahead of letters, and opens the first two; HParams shows the first five
# scores by the order of their characters, in which a bracket is ahead of both.
VAL, LOSS, BEST = "1_val", "2_loss", "(best)"

# The score on val whose highest value makes a checkpoint the best.
MONITORED = "map@r"

SENTENCES = {
    f"{LOSS}/total": "The loss that is made smaller: mean of the batches since the point before.",
    "distance/positive": "Mean euclidean distance of two images of an item, in the batch. It should fall.",
    "distance/negative": "Mean euclidean distance of images of different items, in the batch. It should stay well "
    "above that of positive pairs.",
    "embedding/effective_rank": "How many dimensions the batch's embeddings fill (Roy & Vetterli 2007). Near 1 they "
    "have collapsed.",
    "optim/lr": "Learning rate; of several groups of weights, the highest.",
    "optim/lr_lowest": "The lowest learning rate of all groups of weights.",
    "optim/matrix_lr": "Learning rate of the filters and matrices that Muon changes; of several groups, the highest.",
    "optim/matrix_lr_lowest": "The lowest learning rate of the filters and matrices that Muon changes.",
    "speed/images_per_second": "Images trained on a second, since the point before; validation is left out.",
}

# By their sections: one for each objective of the variant.
PARTS = {
    LOSS: "The part of the objective {name} in the loss, before its weight: mean since the point before.",
    "active": "Share of the batch's pairs or triplets of {name} that still have a loss. Near 0 little is left to learn "
    "from.",
}


def sentence(tag: str) -> str:
    """What a curve shows, for a person who has not read the docs; empty for a tag that is none of lapel's."""
    section, _, name = tag.partition("/")
    if section in (VAL, BEST):
        of = "the checkpoint that is kept as the best, on val" if section == BEST else "val"
        kept = " The best checkpoint is the one with the highest." if name == MONITORED else ""
        return f"{told(name).text} Of {of}.{kept}"
    return SENTENCES.get(tag, PARTS.get(section, "")).format(name=name)


def described(tag: str, value: float) -> Summary:
    """A point of a curve, with its sentence."""
    point = scalar(tag, value)
    told = point.value[0].metadata
    told.plugin_data.plugin_name = "scalars"
    told.data_class = DATA_CLASS_SCALAR  # without it TensorBoard's fast loader leaves the sentence out
    told.summary_description = sentence(tag)
    return point

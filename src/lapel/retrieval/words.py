"""What each score says, in words: told here once, for the report, for docs/evaluation.md, and for whoever asks."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Told:
    """A score in words.

    Args:
        name: as metrics.json has it; K and F stand for numbers.
        title: as the field writes it.
        text: a sentence or two, in which they stand, too.
    """

    name: str
    title: str
    text: str


# Each is from 0 to 1.
SCORES = (
    Told("recall@K", "recall@K", "Share of queries with at least one match among the first K images."),
    Told("precision@K", "precision@K", "Share of matches among the first K images."),
    Told(
        "map@r", "MAP@R",
        "Mean average precision at R: how well all R matches of a query are gathered at the top of its list.",
    ),
    Told("r_precision", "R-precision", "Share of matches among the first R images, of a query with R matches."),
    Told(
        "map", "MAP",
        "Mean average precision: the share of matches down to each match, however far down, averaged over them.",
    ),
    Told(
        "mrr", "MRR",
        "Mean reciprocal rank: 1 over the rank of the first match, thus 1 where it stands first, 1/2 where second.",
    ),
    Told(
        "ndcg@K", "nDCG@K",
        "Normalised discounted cumulative gain: what the first K images have in common with the query, the first ones "
        "weighing most, of the most that is possible.",
    ),
    Told(
        "category_accuracy@K", "category accuracy@K",
        "Share of queries whose category is the most frequent one among their K nearest images.",
    ),
    Told(
        "classifier_accuracy", "classifier accuracy",
        "Share of queries that the model's own classifier names rightly.",
    ),
    Told(
        "auc", "AUC",
        "Area under the ROC curve: the chance that two images of one item are more similar than two of different ones.",
    ),
    Told(
        "eer", "EER",
        "Equal error rate: the share of true pairs refused at the threshold where as large a share of false ones is "
        "accepted. The lower, the better.",
    ),
    Told(
        "tpr@fpr=F", "TPR at FPR F",
        "True positive rate: the share of true pairs that are accepted where the share F of false ones is, too.",
    ),
    Told("overlap@K", "overlap@K", "Mean share of the exact first K images that the index's first K hold."),
)  # fmt: skip


# Where K is 1.
FIRST, AT_FIRST = "among the first 1 images", "at the first rank"


def told(name: str) -> Told:
    """A score in words, with its own number in the place of K or F; without text where nothing is known of it.

    >>> told("recall@10").text
    'Share of queries with at least one match among the first 10 images.'
    """
    for each in SCORES:
        stem, letter = (each.name[:-1], each.name[-1]) if each.name[-1] in "KF" else (each.name, "")
        if name == each.name:
            return each
        if letter and name.startswith(stem):
            number = name.removeprefix(stem)
            return Told(name, *(_numbered(text, letter, number) for text in (each.title, each.text)))
    return Told(name, name.replace("_", " "), "")


def is_share(name: str) -> bool:
    """Whether a score is from 0 to 1, as all those are that are told in words.

    >>> is_share("recall@10"), is_share("loss")
    (True, False)
    """
    return bool(told(name).text)


def _numbered(text: str, letter: str, number: str) -> str:
    """A text with a number in the place of its letter; of one image it is told as such."""
    return re.sub(rf"\b{letter}\b", number, text).replace(FIRST, AT_FIRST)


def telling_decimals(scores: Iterable[float], fewest: int, most: int) -> int:
    """Decimals that tell apart all scores that differ, within bounds.

    >>> telling_decimals([0.9, 0.8], 3, 6), telling_decimals([0.99999, 0.99998], 3, 6), telling_decimals([1, 1], 3, 6)
    (3, 5, 3)
    """
    values = set(scores)
    fitting = (each for each in range(fewest, most) if len({f"{value:.{each}f}" for value in values}) == len(values))
    return next(fitting, most)

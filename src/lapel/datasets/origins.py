"""Where a data set that has to be got by hand is looked for, and what a person is told who does not have it yet."""

from dataclasses import dataclass
from pathlib import Path

from lapel.errors import DataNotFoundError, LapelError
from lapel.files.cache import cache_folder
from lapel.photos.tree import Tree

# Folder of the working directory below which data sets are looked for.
DATA = Path("data")


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from.

    Args:
        title: its own name.
        address: page to get it from.
        licence: what is known of it.
        files: what to get there.
        kaggle: handle by which `kagglehub` gets it; None where it cannot.
    """

    title: str
    address: str
    licence: str
    files: tuple[str, ...]
    kaggle: str | None = None


DEEPFASHION_LICENCE = (
    "for non-commercial research only; the archives' password is given to those who sign the agreement on that page"
)

ORIGINS = {
    "fashion_product": Origin(
        title="Fashion Product Images (Small)",
        address="https://www.kaggle.com/datasets/paramaggarwal/fashion-product-images-small",
        licence="not verified; the photos are a shop's",
        files=("the zip archive, as it is downloaded, or unpacked: styles.csv and images/",),
        kaggle="paramaggarwal/fashion-product-images-small",
    ),
    "deepfashion_inshop": Origin(
        title="DeepFashion, In-shop Clothes Retrieval Benchmark",
        address="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
        licence=DEEPFASHION_LICENCE,
        files=(
            "Eval/list_eval_partition.txt",
            "Anno/list_bbox_inshop.txt (for data.crop=box)",
            "Anno/list_description_inshop.json (for the column colour)",
            "Img/img.zip, or unpacked: Img/img/ (256x256), Img/img_highres/ (for data.high_resolution=true)",
        ),
    ),
    "deepfashion_category": Origin(
        title="DeepFashion, Category and Attribute Prediction Benchmark",
        address="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/AttributePrediction.html",
        licence=DEEPFASHION_LICENCE,
        files=(
            "Eval/list_eval_partition.txt, Anno_coarse/list_category_cloth.txt, Anno_coarse/list_category_img.txt and "
            "Anno_coarse/list_bbox.txt",
            "Anno_fine/ (for data.annotations=fine)",
            "Img/img.zip, or unpacked: Img/img/",
        ),
    ),
    "deepfashion_consumer2shop": Origin(
        title="DeepFashion, Consumer-to-shop Clothes Retrieval Benchmark",
        address="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/Consumer2ShopRetrieval.html",
        licence=DEEPFASHION_LICENCE,
        files=(
            "Eval/list_eval_partition.txt",
            "Anno/list_bbox_consumer2shop.txt (for data.crop=box)",
            "Img/img.zip, or unpacked: Img/img/",
        ),
    ),
}


def usual_folders(name: str) -> list[Path]:
    """The folders in which a data set is looked for when `data.root` is not given."""
    return [DATA / name, cache_folder() / name]


def find_tree(name: str, root: str | None, marker: str) -> tuple[Tree, str]:
    """The files of a data set, and the folder among them that holds `marker`.

    Raises:
        DataNotFoundError: it is in none of its places.
        LapelError: `root` is given, and does not hold it.
    """
    if root is not None:
        tree = Tree(root)
        base = tree.base(marker)
        if base is None:
            raise LapelError(f"data.root={root}: holds no {marker}, neither unpacked nor in a zip archive")
        return tree, base
    for folder in usual_folders(name):
        if folder.exists():
            tree = Tree(folder)
            base = tree.base(marker)
            if base is not None:
                return tree, base
    looked = " and ".join(map(str, usual_folders(name)))
    raise DataNotFoundError(
        f"{ORIGINS[name].title}: not in {looked}; lapel-data prepare data={name} says where to get it, "
        "or give data.root=FOLDER"
    )

"""Data sets of photos in the formats of their publishers, tiny, with drawn garments, written by the tests."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lapel.datasets.wardrobe import design, draw

SIDE = 32

STYLES_HEADER = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"


def photo(item: int, view: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    """A view of a drawn garment."""
    return Image.fromarray(draw(design(0, item), 0, item, view, max(width, height))).resize((width, height))


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)


def padded(rows: Sequence[tuple[object, ...]], header: str, count: int | None = None) -> str:
    """A DeepFashion list: count, header, columns padded with spaces, and spaces at the ends of lines."""
    widths = [max(len(str(row[column])) for row in rows) + 3 for column in range(len(rows[0]))]
    lines = ["".join(str(value).ljust(width) for value, width in zip(row, widths, strict=True)) for row in rows]
    return f"{len(rows) if count is None else count}\n{header}\n" + "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def fashion_product(root: Path, items: int = 12, views: int = 6) -> Path:
    """styles.csv with ids from 100 on; item i's article type is Type<i % 6>; a name with commas; a literal NA."""
    lines = [STYLES_HEADER]
    number = 100
    for item in range(items):
        for view in range(views):
            save(root / "images" / f"{number}.jpg", photo(item, view, 24, 32))
            name = "Shirt, blue, with dots" if view == 0 else f"Shirt {item}"
            gender = "Men" if item % 2 else "Women"
            lines.append(f"{number},{gender},Apparel,Sub{item % 2},Type{item % 6},NA,Fall,2011,Casual,{name}")
            number += 1
    write(root / "styles.csv", "\n".join(lines) + "\n")
    return root


def inshop(root: Path, items: int = 20, high_resolution: bool = False) -> Path:
    """Items 1 to `items`: the first half train (one image of item 1), the others 2 queries and 3 gallery images."""
    rows, boxes = [], []
    for item in range(1, items + 1):
        train = item <= items // 2
        for view in range(1 if item == 1 else 5):
            status = "train" if train else "query" if view < 2 else "gallery"
            kind = ("WOMEN/Dresses", "MEN/Shirts_Polos")[item % 2]
            name = f"img/{kind}/id_{item:08d}/0{view + 1}_1_front.jpg"
            rows.append((name, f"id_{item:08d}", status))
            boxes.append((name, 3, 1, "004", "002", "028", "030"))
            folder = name.replace("img/", "img_highres/", 1) if high_resolution else name
            save(root / "Img" / folder, photo(item, view, *((48, 64) if high_resolution else (SIDE, SIDE))))
    write(root / "Eval/list_eval_partition.txt", padded(rows, "image_name item_id evaluation_status"))
    write(root / "Anno/list_bbox_inshop.txt", padded(boxes, "image_name clothes_type pose_type x_1 y_1 x_2 y_2"))
    write(root / "Anno/list_item_inshop.txt", f"{items}\n" + "".join(f"id_{item + 1:08d} \n" for item in range(items)))
    described = [{"item": f"id_{item + 1:08d}", "color": "Blue", "description": "x"} for item in range(items)]
    write(root / "Anno/list_description_inshop.json", json.dumps(described))
    return root


CATEGORIES = [("Anorak", 1), ("Jeans", 2), ("Dress", 3)]


def category_rows() -> list[tuple[str, int, str]]:
    """Image, 1-based label and split: 3 categories, 4 products each, 3 images a product."""
    rows = []
    for label, (name, _) in enumerate(CATEGORIES, start=1):
        for product in range(4):
            split = ("train", "train", "val", "test")[product]
            rows += [(f"img/{name}_product_{product}/img_0000000{view}.jpg", label, split) for view in range(3)]
    return rows


def category(root: Path, annotation: str = "Anno_coarse") -> Path:
    """The coarse benchmark; `annotation="Anno"` as in older copies."""
    rows = category_rows()
    for number, (name, label, _) in enumerate(rows):
        save(root / "Img" / name, photo(label, number))
    folder = root / annotation
    write(folder / "list_category_cloth.txt", padded(CATEGORIES, "category_name  category_type"))
    write(folder / "list_category_img.txt", padded([row[:2] for row in rows], "image_name  category_label"))
    boxes = [(name, "002", "003", "030", "031") for name, _, _ in rows]
    write(folder / "list_bbox.txt", padded(boxes, "image_name  x_1  y_1  x_2  y_2"))
    write(root / "Eval/list_eval_partition.txt", padded([(row[0], row[2]) for row in rows], "image_name  status"))
    return root


def category_fine(root: Path) -> Path:
    """The fine annotation: a file a split and kind, without count and header."""
    rows = category_rows()
    for number, (name, label, _) in enumerate(rows):
        save(root / "Img" / name, photo(label, number))
    write(root / "Anno_fine/list_category_cloth.txt", padded(CATEGORIES, "category_name  category_type"))
    for split in ("train", "val", "test"):
        chosen = [row for row in rows if row[2] == split]
        write(root / f"Anno_fine/{split}.txt", "".join(f"{name} \n" for name, _, _ in chosen))
        write(root / f"Anno_fine/{split}_cate.txt", "".join(f"{label}\n" for _, label, _ in chosen))
        write(root / f"Anno_fine/{split}_bbox.txt", "002 003 030 031 \n" * len(chosen))
    return root


def consumer2shop(root: Path, items: int = 12) -> Path:
    """Pairs of 2 consumers' and 2 shops' photos an item; item 2's shop photo also serves item 1, in another split."""
    pairs, boxes = [], []
    splits = ["train"] * (items - 6) + ["val"] * 3 + ["test"] * 3
    for item in range(items):
        folder = f"img/{('DRESSES/Dress', 'TOPS/Blouse')[item % 2]}/id_{item:08d}"
        consumers = [f"{folder}/comsumer_0{view}.jpg" for view in (1, 2)]
        shops = [f"{folder}/shop_0{view}.jpg" for view in (1, 2)]
        for view, name in enumerate(consumers + shops):
            save(root / "Img" / name, photo(item, view))
            boxes.append((name, 1, 2 if "comsumer" in name else 1, 0, 0, SIDE, SIDE))
        pairs += [(one, other, f"id_{item:08d}", splits[item]) for one in consumers for other in shops]
    first = pairs[0]
    last = pairs[-1]
    pairs.append((first[0], last[1], first[2], first[3]))  # a test item's shop photo also serves a train item
    header = "image_pair_name_1 image_pair_name_2 item_id evaluation_status"
    write(root / "Eval/list_eval_partition.txt", padded(pairs, header, count=4 * items))
    write(root / "Anno/list_bbox_consumer2shop.txt", padded(boxes, "image_name clothes_type source x_1 y_1 x_2 y_2"))
    return root


def noise(seed: int, height: int = 8, width: int = 8) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))

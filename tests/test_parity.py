"""Two and four processes train as one does: the same loss and gradient of a global batch, the same scores on val."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

DRIVER = Path(__file__).parent / "recorded_training.py"

# No batch statistics, an odd batch, every augmentation; three steps that hardly change a weight.
OPTIONS = [
    "data=wardrobe", "data.items=40", "data.views=5", "data.size=32", "data.batch_size=33", "sampler.images=3",
    "encoder=trunk", "encoder.name=test_vit", "encoder.embedding=16", "augment=photo", "trainer=cpu",
    "trainer.precision=fp32", "optim=adamw",
    "trainer.threads=1", "trainer.max_steps=3", "optim.lr=1e-9", "optim.schedule=constant", "optim.weight_decay=0",
]  # fmt: skip

LOSSES = {
    "contrastive": ["variant=siam_cos", "loss=contrastive"],
    "given pairs": ["variant=siam_cat_cos", "sampler=pairs", "variant.objectives.pair.pairs=given", "~sampler.images"],
    "semi-hard": ["variant=triplet", "loss=triplet", "loss.triplets=semi_hard", "loss.margin=0.5"],
    "supcon": ["variant=supcon_cat"],
    "proxy_anchor": ["variant=supcon", "loss=proxy_anchor"],
    "multi_similarity": ["variant=supcon", "loss=multi_similarity", "miner=multi_similarity"],
    "memory": ["variant=supcon", "loss=multi_similarity", "loss.memory=80"],
    "drawing miner": ["variant=supcon", "loss=triplet", "miner=distance_weighted"],
    "parts": ["variant=supcon", "data.batch_size=66", "trainer.accumulate=2", "trainer.chunk=5", "optim.clip=0.1"],
}


def trained(folder: Path, processes: int, overrides: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What each step was of a training in so many processes, and its `train.json`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True)
    command = [sys.executable, str(DRIVER), str(folder / "run"), str(folder / "steps.pt"), *overrides]
    started = []
    for rank in range(processes):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "GROUP_RANK": "0"}
        place |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment = os.environ | (place if processes > 1 else {})
        started.append(
            subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
    told = [each.communicate(timeout=300)[1].decode() for each in started]
    assert [each.returncode for each in started] == [0] * processes, told
    steps = torch.load(folder / "steps.pt", weights_only=True)
    return steps, json.loads((folder / "run" / "train.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradient_and_scores_are_those_of_one_process(name: str, processes: int, tmp_path: Path) -> None:
    overrides = [each for each in OPTIONS if not (each.startswith("sampler") and name == "given pairs")]
    overrides += [each for each in LOSSES[name] if each[0] != "~"]
    alone, summary = trained(tmp_path / "alone", 1, overrides)
    shared, other = trained(tmp_path / "shared", processes, overrides)
    assert len(alone) == len(shared) == 3
    assert other["processes"] == processes
    for one, several in zip(alone, shared, strict=True):
        assert float(several["loss"]) == pytest.approx(float(one["loss"]), abs=1e-6)
        assert one["gradients"].keys() == several["gradients"].keys()
        found, expected = (flat(each["gradients"]) for each in (several, one))
        assert expected.norm() > 0
        assert float((found - expected).norm() / expected.norm()) < 1e-5
    for key in ("recall@1", "recall@5", "recall@10"):
        assert summary["history"][-1][key] == other["history"][-1][key]


def flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradients[name].flatten().double() for name in sorted(gradients)])


@pytest.mark.slow
@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_weights_are_changed_as_in_one_process(optim: str, tmp_path: Path) -> None:
    """At a rate that moves them: all optimizers are given the same gradients, but for the order of sums."""
    own = [each for each in OPTIONS if not each.startswith("optim.lr")]
    overrides = [*own, "variant=supcon_cat", f"optim={optim}", "optim.lr=1e-3"]
    trained(tmp_path / "alone", 1, overrides)
    trained(tmp_path / "shared", 2, overrides)
    alone, shared = (weights(tmp_path / name / "run") for name in ("alone", "shared"))
    assert alone.keys() == shared.keys()
    changes = {name: (shared[name] - each).norm() / each.norm() for name, each in alone.items() if each.norm() > 0.1}
    assert max(changes.values()) < 1e-3, changes


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: each.double() for name, each in state.items() if each.is_floating_point()}

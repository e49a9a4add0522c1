"""What took time, or spoke up, for nothing."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from conftest import TINY

import lapel


def test_an_evaluation_does_without_lightning() -> None:
    """Whose import, with torchmetrics and torchvision's models, took longer than to score a thousand images."""
    code = (
        "import sys, lapel.evaluation.evaluating\n"
        "print([name for name in ('pytorch_lightning', 'torchmetrics', 'torchvision', 'timm') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_resume_does_not_warn_of_its_own_embeddings(working_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of an attempt that was cut short after it had drawn them."""
    run = working_folder / "run"
    lapel.train(lapel.compose("train", [*TINY, "trainer.max_epochs=2"]), run)
    (run / "tensorboard" / "drawn.json").unlink()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lapel.train(lapel.compose("train", [f"resume={run}"]))
    told = "".join(capfd.readouterr())
    assert "warning" not in told.lower()
    assert len(list(run.rglob("metadata.tsv"))) == 1


@pytest.mark.parametrize("option", ["verification.fpr=[]", "graded=[]"])
@pytest.mark.usefixtures("working_folder")
def test_lists_of_an_evaluation_may_be_empty(option: str, trained_run: Path) -> None:
    result = lapel.evaluate(lapel.compose("evaluate", [f"bundle={trained_run / 'bundle'}", option, "report=true"]))
    assert not any(name.startswith("tpr@fpr") for name in result) or option != "verification.fpr=[]"

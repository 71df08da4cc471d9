"""Accuracy and calibration of the documented classifiers on their test examples.

    python benchmarks/after_training/evaluation.py RUNS [DATA]

RUNS is a folder of run directories named after their recipes; missing runs are trained there first.
DATA is the folder of the texts of sentiment-lstm; without DATA this recipe is left out.
"""

import subprocess
import sys
from pathlib import Path

import record

from jaxnets import load, reports
from jaxnets.pages.wording import percent


def main() -> None:
    runs, texts = Path(sys.argv[1]), sys.argv[2:]
    options = {name: {} for name in ("mnist-mlp", "mnist-lenet", "mnist-lstm")}
    options |= {"sentiment-lstm": {"data_dir": texts[0]}} if texts else {}
    rows = [row(name, runs / name, where) for name, where in options.items()]
    about = {
        "title": "Evaluation of the documented classifiers",
        "method": (
            "All test examples are used. The confidence is the mean probability of the "
            "predicted class; the expected calibration error (ECE) has 15 bins. A network whose "
            "confidence is higher than its accuracy is overconfident."
        ),
        "columns": ["recipe", "accuracy", "macro F1", "confidence", "ECE", "Brier score"],
        "rows": rows,
        "command": "python benchmarks/after_training/evaluation.py RUNS DATA",
    }
    record.write("evaluation", about)
    print(*rows, sep="\n")


def row(name: str, folder: Path, where: dict[str, str]) -> list[str]:
    """A recipe's scores in words."""
    if not folder.exists():
        options = [f"--{option.replace('_', '-')}={value}" for option, value in where.items()]
        words = [sys.executable, "-m", "jaxnets", "train", name, "--out", str(folder), *options]
        subprocess.run(words, check=True)
    saved = load(folder)
    found = reports.of_run(saved, reports.data_of(saved, options=where))
    scores, bins = found.scores, found.found.calibration
    shares = (scores["accuracy"], scores["macro_f1"], bins.mean_confidence, scores["ece"])
    return [name, *map(percent, shares), f"{scores['brier_score']:.4f}"]


if __name__ == "__main__":
    main()

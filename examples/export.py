"""Train a network on MNIST, export it to ONNX, and run the file without jaxnets.

Teaches:  `TrainingRun.save`, `SavedRun.program`, `export.save_onnx`, the metadata of the file.
Data:     MNIST, included, normalized.
Run:      python examples/export.py
Time:     about 10 s on 2 CPU cores.
Accuracy: 97.37 % after 4 epochs, for the network and for the file.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from flax import nnx

import jaxnets
from jaxnets import export, losses, optimizers
from jaxnets.data import Compose, Normalize, ToFloat, load


def trained(folder, data, epochs):
    """Trains a network and saves the run: weights, transform and class names."""
    run = jaxnets.fit(
        jaxnets.MLP(rngs=nnx.Rngs(0)),
        data,
        loss=losses.cross_entropy,
        optimizer=optimizers.sgd(lr=0.01, momentum=0.9),
        epochs=epochs,
        batch_size=64,
        transform=Compose(ToFloat(), Normalize(0.1307, 0.3081)),
    )
    run.save(folder)
    return jaxnets.load(folder)


def main():
    """Trains and exports a network, and compares its outputs with those of the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=4, help="4 by default")
    parser.add_argument("--fast", action="store_true", help="640 images instead of 60,000")
    args = parser.parse_args()
    part = "[:640]" if args.fast else ""
    data = load("mnist", train=f"train{part}", test=f"test{part}")
    images, labels = data.test.gather(np.arange(len(data.test)))
    with tempfile.TemporaryDirectory() as folder:
        saved = trained(Path(folder) / "run", data, args.epochs)
        file = Path(folder) / "mlp.onnx"
        export.save_onnx(saved.program(), file)
        session = onnxruntime.InferenceSession(file)
    about = json.loads(session.get_modelmeta().custom_metadata_map["about"])
    print(
        f"takes {about['inputs'][0]['shape']} {about['inputs'][0]['dtype']}, gives {about['gives']}"
    )
    (logits,) = session.run(None, {"inputs": images})  # raw pixels, any number of images
    print(f"largest difference: {np.abs(logits - saved.predict(images)).max():.1e}")
    print(f"accuracy of the file: {np.mean(logits.argmax(1) == labels):.2%}")


if __name__ == "__main__":
    main()

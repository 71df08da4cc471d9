"""Find digits on a canvas: object detection with CenterNet.

Teaches:    labels are boxes and classes, padded to one number for each image; the training images
            are made in the compiled step, by an augmentation that changes labels too; outputs
            become boxes with ``detections``, and are measured by COCO's average precision.
Data:       digits of MNIST, one to five of them scattered on canvases of 64×64 pixels; or a folder
            of images in the layout of YOLO, COCO or Pascal VOC: --data FOLDER.
Settings:   Adam with one cycle of the learning rate up to 0.003, batch 64, 8 epochs.
Run:        python examples/detection.py --out digits.png
Time:       about 4 minutes of CPU time.
Result:     as the recipe digits-detector, mAP@[.50:.95] 0.82 and mAP@.50 0.98.
"""

import argparse
from functools import partial

import numpy as np
from flax import nnx
from PIL import Image

from jaxnets import CenterNet, fit, optimizers, predict
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import Dataset, ToFloat, load
from jaxnets.detection import draw_boxes, mean_average_precision
from jaxnets.models.center_net import detection_loss, detections

LOSS = partial(detection_loss, size_weight=0.3)


def picture(images, found, names):
    """The images with the objects that have a score of at least 0.3, side by side."""
    sheets = []
    for image, boxes, scores, labels in zip(images, *found, strict=False):
        sure = scores >= 0.3
        words = [
            f"{names[k]} {score:.2f}" for k, score in zip(labels[sure], scores[sure], strict=True)
        ]
        sheets.append(np.asarray(draw_boxes(image, boxes[sure], words, labels[sure].tolist())))
    return Image.fromarray(np.concatenate(sheets, axis=1))


def main():
    """Trains the detector, prints its average precision, and draws what it finds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="scattered-digits", help="a folder of images with boxes")
    parser.add_argument("--size", type=int, help="the side to which the images are resized")
    parser.add_argument("--width", type=int, default=24, help="channels of the first convolution")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, help="the first training images only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="the PNG to draw four test images in, with their boxes")
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        data = load(args.data, size=args.size)
        train = data.train.take(args.images) if args.images else data.train
        channels = train.inputs.shape[-1]
        model = CenterNet(data.num_classes, channels, args.width, rngs=nnx.Rngs(args.seed))
        steps = -(-len(train) // 64)
        rate = optimizers.one_cycle_lr(max_lr=0.003, epochs=args.epochs, steps_per_epoch=steps)
        run = fit(
            model,
            Dataset(data.name, train),
            loss=LOSS,
            optimizer=optimizers.adam(lr=rate),
            epochs=args.epochs,
            batch_size=64,
            transform=ToFloat(),
            augment=data.scatter,
            seed=args.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    test = data.test
    found = detections(predict(run.model, test.inputs, transform=ToFloat()))
    found = type(found)(*map(np.asarray, found))
    measured = mean_average_precision(found, test.labels["boxes"], test.labels["labels"])
    names = data.class_names
    for name, share in zip(names, measured.of_classes(), strict=False):
        print(f"{name:>12}  AP {share:.3f}")
    print(f"mAP@[.50:.95] {measured.scores['map']:.3f}, mAP@.50 {measured.scores['map_50']:.3f}")
    if args.out:
        picture(test.inputs[:4], found, names).save(args.out)


if __name__ == "__main__":
    keep_programs()
    main()

"""Boxes, average precision, CenterNet and its loss, images with boxes, and the commands on them."""

import csv
import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from PIL import Image

from jaxnets import detection, recipes, runs
from jaxnets.arrays import InputError
from jaxnets.cli import main
from jaxnets.data import Dataset, DetectionDataset, ScatterDigits, Split, load
from jaxnets.data.detection import padded
from jaxnets.data.detection.folder import fitted
from jaxnets.data.image_files import read_header
from jaxnets.detection import AREAS, MOST, Detections
from jaxnets.interop import to_numpy
from jaxnets.models import CenterNet
from jaxnets.models.center_net import STRIDE, detection_loss, detections
from jaxnets.reports import data_of, of_run
from jaxnets.torch_models import twin
from jaxnets.torch_models.center_net import detection_loss as loss_in_torch
from tests.parity.oracle import copy_weights

STORED = json.loads((Path(__file__).parent / "detection_cases.json").read_text())
DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("case", STORED["average_precision"])
def test_average_precision_has_the_numbers_of_pycocotools(case):
    found = Detections(*(np.array(case[name]) for name in ("boxes", "scores", "labels")))
    truth = np.array(case["true_boxes"]), np.array(case["true_labels"])
    measured = detection.mean_average_precision(found, *truth, num_classes=case["classes"])
    for ours, theirs in (
        (list(measured.scores.values()), case["stats"]),
        (measured.of_classes(), case["of_classes"]),
    ):
        np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), theirs, rtol=1e-12, atol=1e-15)
    alone = detection.mean_average_precision(found, *truth, sizes=False)
    assert alone.scores["map"] == measured.scores["map"]
    assert "map_small" not in alone.scores
    kinds = truth[1]
    assert measured.support.tolist() == [int((kinds == k).sum()) for k in range(case["classes"])]


def test_areas_may_be_those_of_masks_and_classes_without_objects_do_not_count():
    boxes = np.array([[[0.0, 0, 40, 40], [50, 50, 150, 150]]])
    found = Detections(boxes, np.array([[0.9, 0.8]]), np.array([[0, 2]]))
    labels, small = np.array([[0, 2]]), np.array([[500.0, 500.0]])
    scores = detection.mean_average_precision(found, boxes, labels, num_classes=4).scores
    means = [scores[name] for name in ("map", "map_medium", "map_large")]
    assert means == pytest.approx([1, 1, 1])
    assert np.isnan(scores["map_small"])
    scores = detection.mean_average_precision(found, boxes, labels, areas=small).scores
    assert scores["map_small"] == pytest.approx(1)
    assert np.isnan(scores["map_large"])
    nothing = np.full((1, 2), -1)
    measured = detection.mean_average_precision(found, boxes, nothing, num_classes=3)
    assert np.isnan(list(measured.scores.values())).all()


@pytest.mark.parametrize("case", STORED["nms"])
def test_suppression_leaves_the_boxes_that_torchvision_leaves(case):
    boxes, scores = (np.array(case[name], np.float32) for name in ("boxes", "scores"))
    for threshold, kept in case["kept"].items():
        assert detection.nms(boxes, scores, float(threshold)).tolist() == kept
    for threshold, kept in case["kept_of_classes"].items():
        found = detection.batched_nms(boxes, scores, np.array(case["classes"]), float(threshold))
        assert sorted(found.tolist()) == sorted(kept)
        np.testing.assert_array_equal(scores[found], scores[kept])


def test_overlaps_have_torchvisions_numbers():
    with jax.enable_x64(True):
        boxes = jnp.array(STORED["iou"]["boxes"])
        for function, name in ((detection.box_iou, "iou"), (detection.generalized_box_iou, "giou")):
            np.testing.assert_allclose(function(boxes, boxes), STORED["iou"][name], rtol=1e-14)


def test_a_score_of_all_batches_does_not_depend_on_their_sizes():
    case = STORED["average_precision"][0]
    names = ("boxes", "scores", "labels", "true_boxes", "true_labels")
    arrays = [np.array(case[name], np.int32 if "l" in name[-6:-4] else None) for name in names]
    measure = detection.collected("map", 3)
    parts = []
    for rows in (slice(0, 3), slice(3, None)):
        found, boxes, labels = Detections(*(a[rows] for a in arrays[:3])), arrays[3], arrays[4]
        parts.append(measure(found, boxes[rows], labels[rows]))
    stacked = jax.tree.map(lambda *some: np.stack(some), *jax.device_get(parts))
    assert stacked.over() == pytest.approx(case["stats"][0], rel=1e-6)
    joined = jax.tree.map(lambda x: np.asarray(x)[None], jax.device_get(stacked.combined()))
    assert joined.filled.shape == (1, 3)


def test_the_network_its_loss_and_all_gradients_equal_pytorch():
    images = DRAW.normal(size=(3, 24, 32, 2))
    boxes = np.array(
        [
            [[0, 0, 9, 13], [8, 4, 30, 22], [9, 5, 31, 24]],  # the last two have the same position
            [[4, 4, 12, 12], [20, 3, 32, 8], [0, 0, 0, 0]],
            [[1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]],
        ],
        np.float64,
    )
    labels = np.array([[0, 2, 2], [1, -4, -1], [-1, -1, -1]], np.int32)
    with jax.enable_x64(True):
        model = CenterNet(3, 2, 4, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
        network = twin(model).double()
        copy_weights(model, network)
        graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

        @jax.jit
        def graded(parameters):
            def of(parameters):
                outputs = nnx.merge(graphdef, parameters, rest, copy=True)(jnp.asarray(images))
                given = {"boxes": jnp.asarray(boxes), "labels": jnp.asarray(labels)}
                return detection_loss(outputs, given), outputs

            return jax.value_and_grad(of, has_aux=True)(parameters)

        (value, outputs), gradient = graded(parameters)
        found = to_numpy(nnx.merge(graphdef, gradient, rest))
    theirs = network(torch.tensor(images).permute(0, 3, 1, 2))
    their_outputs = theirs.detach().permute(0, 2, 3, 1)
    np.testing.assert_allclose(outputs, their_outputs, rtol=1e-10, atol=1e-12)
    loss = loss_in_torch(theirs, torch.tensor(boxes), torch.tensor(labels))
    loss.backward()
    np.testing.assert_allclose(float(value), loss.item(), rtol=1e-10)
    for name, parameter in network.named_parameters():
        scale = parameter.grad.abs().max().item()
        np.testing.assert_allclose(
            found[name], parameter.grad, rtol=1e-10, atol=1e-10 * scale, err_msg=name
        )


def test_outputs_that_equal_the_truth_decode_to_it():
    boxes = np.array([[[2.0, 4, 18, 12], [20, 20, 31, 30]]], np.float32)
    labels = np.array([[1, 0]])
    outputs = np.full((1, 8, 8, 6), -9.0, np.float32)
    for box, label in zip(boxes[0], labels[0], strict=True):
        center, size = (box[:2] + box[2:]) / 2 / STRIDE, (box[2:] - box[:2]) / STRIDE
        column, row = center.astype(int)
        outputs[0, row, column] = [-9, -9, *size, *(center - center.astype(int))]
        outputs[0, row, column, label] = 3 + label
        outputs[0, row, column + 1, label] = 2  # a neighbor of the peak is not a peak
    found = detections(jnp.asarray(outputs), top_k=5)
    np.testing.assert_allclose(found.boxes[0, :2], boxes[0], rtol=1e-6)
    assert found.labels[0, :2].tolist() == [1, 0]
    assert found.scores[0, 2] < 0.01
    assert detections(jnp.asarray(outputs)).labels.shape == (1, 100)
    ranked = np.asarray(found.scores[0])
    assert (np.diff(ranked) <= 0).all()


@pytest.mark.slow
def test_scattered_digits_are_drawn_from_their_key_with_boxes_around_them():
    data = load("scattered-digits")
    assert isinstance(data, DetectionDataset)
    assert (len(data.train), len(data.test), data.num_classes) == (15_000, 1000, 10)
    assert "objects: 60,000 in train, 3,0" in repr(data)
    sheets = data.train.take(16)
    scatter = jax.jit(ScatterDigits())
    first, again, other = (
        scatter(sheets.inputs, sheets.labels, jax.random.key(seed)) for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first[0], other[0])
    for images, labels in (first, (data.test.inputs[:200], data.test.labels)):
        for image, boxes, kinds in zip(images, labels["boxes"], labels["labels"], strict=False):
            real = np.asarray(kinds) >= 0
            assert 1 <= real.sum() <= 5
            around = np.zeros((64, 64), bool)
            for x1, y1, x2, y2 in np.asarray(boxes)[real]:
                assert 0 <= x1 < x2 <= 64.001
                assert 0 <= y1 < y2 <= 64.001
                rows, columns = slice(int(y1), int(y2) + 1), slice(int(x1), int(x2) + 1)
                assert np.asarray(image)[rows, columns].max() > 60
                around[max(int(y1) - 2, 0) : int(y2) + 3, max(int(x1) - 2, 0) : int(x2) + 3] = True
            assert np.asarray(image)[~around].max(initial=0) < 100
    with pytest.raises(InputError, match=r"x: expected sheets \[B, S, S, 1\]"):
        ScatterDigits()(np.zeros((1, 28, 28, 1), np.uint8), sheets.labels, jax.random.key(0))
    with pytest.raises(InputError, match="labels: expected 6 objects of each sheet, got 5"):
        ScatterDigits(most=6)(sheets.inputs, sheets.labels, jax.random.key(0))


#: Two classes, images of 24×16 pixels with bright rectangles on black, and the boxes of these.
NAMES = ("dark", "light")
BOXES = [[(2, 3, 10, 9, 1)], [(0, 0, 6, 8, 0), (10, 4, 22, 14, 1)], [], [(4, 4, 12, 12, 0)]]


def write_image(path, boxes):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((16, 24), np.uint8)
    for x1, y1, x2, y2, kind in boxes:
        pixels[y1:y2, x1:x2] = 100 + 100 * kind
    Image.fromarray(pixels).save(path)


def write_yolo(folder, splits=("train", "val")):
    for split in splits:
        for number, boxes in enumerate(BOXES):
            write_image(folder / "images" / split / f"{number}.png", boxes)
            labels = folder / "labels" / split / f"{number}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                f"{kind} {(x1 + x2) / 48} {(y1 + y2) / 32} {(x2 - x1) / 24} {(y2 - y1) / 16}"
                for x1, y1, x2, y2, kind in boxes
            ]
            if lines:
                labels.write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text("path: .\nnames:\n  0: dark\n  1: 'light'  # bright\nnc: 2\n")
    return folder


def coco_record():
    objects = [(number, *box) for number, boxes in enumerate(BOXES) for box in boxes]
    return {
        "images": [{"id": k, "file_name": f"{k}.png"} for k in range(len(BOXES))],
        "annotations": [
            {"id": k, "image_id": image, "category_id": 10 * kind + 3, "iscrowd": int(k == 1),
             "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for k, (image, x1, y1, x2, y2, kind) in enumerate(objects, start=1)
        ],
        "categories": [{"id": 13, "name": "light"}, {"id": 3, "name": "dark"}],
    }  # fmt: skip


def write_coco(folder):
    for split in ("train", "valid"):
        for number, boxes in enumerate(BOXES):
            write_image(folder / split / f"{number}.png", boxes)
        (folder / split / "_annotations.coco.json").write_text(json.dumps(coco_record()))
    return folder


def write_voc(folder):
    (folder / "Annotations").mkdir(parents=True)
    for number, boxes in enumerate(BOXES):
        write_image(folder / "JPEGImages" / f"{number}.png", boxes)
        objects = "".join(
            f"<object><name>{NAMES[kind]}</name><difficult>{int(kind == 0 and number == 1)}"
            f"</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>\n"
            for x1, y1, x2, y2, kind in boxes
        )
        text = f"<annotation>\n{objects}</annotation>"
        (folder / "Annotations" / f"{number}.xml").write_text(text)
    sets = folder / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    for name in ("train", "val"):
        (sets / f"{name}.txt").write_text("0\n1\n2\n3\n")
    return folder


@pytest.mark.parametrize("write", [write_yolo, write_coco, write_voc])
def test_each_layout_is_read_to_the_same_boxes(write, tmp_path):
    data = load(write(tmp_path / "mine"))
    assert data.class_names == NAMES
    left_out = 0 if write is write_yolo else 1
    for split in (data.train, data.test):
        assert split.inputs.shape == (4, 16, 24, 1)
        assert split.labels["boxes"].shape == (4, 2, 4)
        for image, boxes, kinds in zip(
            split.inputs, split.labels["boxes"], split.labels["labels"], strict=True
        ):
            made = np.zeros_like(image)
            for (x1, y1, x2, y2), kind in zip(boxes.round().astype(int), kinds, strict=True):
                if kind != -1:
                    made[y1:y2, x1:x2] = 100 + 100 * (kind if kind >= 0 else -2 - kind)
            np.testing.assert_array_equal(made, image)
        assert (split.labels["labels"] < -1).sum() == left_out
    small = load(tmp_path / "mine", size=(8, 8))
    assert small.train.inputs.shape == (4, 8, 8, 1)
    assert small.train.labels["boxes"].max() <= 8
    numbers = data.renumbered(("other", "light", "dark")).train.labels["labels"]
    old = data.train.labels["labels"]
    np.testing.assert_array_equal(numbers[old >= 0], 2 - old[old >= 0])
    with pytest.raises(InputError, match="data mine: expected the classes light, as in training"):
        data.renumbered(("light",))


def test_boxes_follow_their_image_and_come_back():
    boxes = np.array([[4.0, 2, 20, 12]])
    there = fitted(boxes, (16, 24), (8, 8))
    np.testing.assert_allclose(there, [[0, 1, 8, 6]])
    np.testing.assert_allclose(fitted(there, (16, 24), (8, 8), inverse=True), boxes)


def test_other_layouts_of_names_and_splits(tmp_path):
    for number, boxes in enumerate(BOXES):
        write_image(tmp_path / "images" / f"{number}.png", boxes)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0.txt").write_text("1 0.25 0.375 0.5 0.25\n")
    assert load(tmp_path, test_fraction=0.5).class_names == ("0", "1")
    (tmp_path / "classes.txt").write_text("dark\nlight\n")
    assert load(tmp_path, test_fraction=0.5).class_names == NAMES
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "data.yaml").write_text("names: ['dark', light]\n")
    data = load(tmp_path, test_fraction=0.5)
    assert data.class_names == NAMES
    assert (len(data.train), len(data.test)) == (2, 2)


def test_a_damaged_annotation_is_one_sentence_with_its_place(tmp_path):
    yolo = write_yolo(tmp_path / "yolo")
    label = yolo / "labels" / "train" / "1.txt"
    for text, message in (
        ("0 0.5 0.5 0.1 0.1\n1 0.5 0.5\n", "1.txt, line 2: expected a class number and four"),
        ("0 0.5 0.5 1.5 0.1\n", "1.txt, line 1: expected a class number and four numbers from 0"),
        ("0 0.5 x 0.5 0.1\n", "1.txt, line 1: expected a class number"),
        ("7 0.5 0.5 0.5 0.1\n", "1.png: expected classes below 2, the number of class names, got"),
    ):
        label.write_text(text)
        with pytest.raises(InputError, match=message):
            load(yolo)
    coco = write_coco(tmp_path / "coco")
    file = coco / "train" / "_annotations.coco.json"
    record = coco_record()
    record["annotations"][0]["category_id"] = 4
    for text, message in (
        (json.dumps(record), r"json, annotations\[0\]: expected an id of the categories, got 4"),
        (json.dumps(coco_record())[:-2] + "\n", "json, line 2: expected a JSON file of COCO"),
        (json.dumps({**coco_record(), "images": 3}), "json: expected a list images of objects"),
        (json.dumps(coco_record()).replace("2.png", "9.png"), r"images\[2\]: expected an image in"),
        (
            json.dumps(coco_record()).replace('"bbox": [2, 3,', '"bbox": [2,'),
            r"bbox: \[x, y, width",
        ),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            load(coco)
    voc = write_voc(tmp_path / "voc")
    file = voc / "Annotations" / "0.xml"
    good = file.read_text()
    for text, message in (
        (good.replace("</object>", "", 1), "0.xml, line 3: expected an XML file of Pascal VOC"),
        (
            good.replace("xmax", "ymax"),
            "0.xml, object 1: expected bndbox with xmin, ymin, xmax and",
        ),
        (good.replace("<xmin>3", "<xmin>30"), "0.xml, object 1: expected a box from its smaller"),
        (good.replace("<name>light</name>", ""), "0.xml, object 1: expected the name of a class"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            load(voc)
    file.unlink()
    (voc / "ImageSets" / "Main" / "train.txt").write_text("0\n")
    with pytest.raises(InputError, match="0.xml: expected an XML file of Pascal VOC, got No such"):
        load(voc)
    with pytest.raises(InputError, match="streaming: expected images that are not annotated with"):
        load(write_yolo(tmp_path / "again"), streaming=True)


def test_wrong_boxes_and_arguments_are_one_sentence():
    split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32))
    boxes = {"boxes": np.zeros((2, 3, 4), np.float32), "labels": np.full((2, 3), 4, np.int32)}
    good = Split(split.inputs, boxes)
    found = Detections(np.zeros((2, 3, 4)), np.zeros((2, 3)), np.zeros((2, 3), int))
    with pytest.raises(InputError, match=r"labels: expected boxes float32 \[N, K, 4\] and labels"):
        DetectionDataset("mine", split, split)
    with pytest.raises(InputError, match="class_names: expected at least 5 names, as label 4"):
        DetectionDataset("mine", good, good, NAMES)
    assert DetectionDataset("mine", good, good).num_classes == 5
    with pytest.raises(InputError, match=r"boxes1: expected floats \[..., N, 4\]"):
        detection.box_iou(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(InputError, match=r"boxes: expected floats \[N, 4\]"):
        detection.nms(np.zeros((2, 3)), np.zeros(2), 0.5)
    with pytest.raises(InputError, match=r"scores: expected floats \[2\]"):
        detection.nms(np.zeros((2, 4)), np.zeros(3), 0.5)
    with pytest.raises(InputError, match=r"idxs: expected integers \[2\]"):
        detection.batched_nms(np.zeros((2, 4)), np.zeros(2), np.zeros(2), 0.5)
    with pytest.raises(InputError, match="boxes: expected 2 images, as detections, got 1"):
        detection.mean_average_precision(found, np.zeros((1, 3, 4)), np.zeros((1, 3), int))
    with pytest.raises(InputError, match=r"boxes: expected labels, integers \[2, 3\]"):
        detection.mean_average_precision(found, found.boxes, found.scores)
    with pytest.raises(InputError, match="score: expected one of map, map_50"):
        detection.collected("ap", 10)
    with pytest.raises(InputError, match="threshold: expected 0.5, 0.55, … or 0.95, got 0.4"):
        detection.mean_average_precision(found, *found[::2]).of_classes(0.4)
    with pytest.raises(InputError, match=r"words: expected 1 strings, one for each box, got"):
        detection.draw_boxes(np.zeros((8, 8, 1), np.uint8), [[0, 0, 4, 4]], [])
    with pytest.raises(InputError, match="outputs: expected floats .batch, rows, columns"):
        detections(jnp.zeros((2, 3, 4)))
    outputs = jnp.zeros((2, 2, 2, 6))
    for labels, message in (
        (boxes["boxes"], "labels: expected a dictionary of boxes and labels"),
        ({**boxes, "boxes": np.zeros((1, 3, 4))}, r"labels.boxes: expected floats \[2, objects, 4"),
        ({**boxes, "labels": np.zeros((2, 2), int)}, r"labels.labels: expected integers \[2, 3\]"),
    ):
        with pytest.raises(InputError, match=message):
            detection_loss(outputs, labels)
    with pytest.raises(InputError, match=r"boxes\[0\]: expected at most 1 boxes \[n, 4\], and a"):
        padded([[[0, 0, 1, 1], [0, 0, 2, 2]]], [[0, 1]], 1)
    with pytest.raises(InputError, match="images: expected height and width that are multiples of"):
        CenterNet(rngs=nnx.Rngs(0))(jnp.zeros((1, 28, 28, 1)))
    with pytest.raises(InputError, match="data: expected images with boxes, such as scattered-dig"):
        recipes.fit_settings(recipes.recipe("digits-detector"), Dataset("mine", split))
    assert (next(iter(AREAS)), MOST[-1]) == ("all", 100)


def test_scattering_comes_before_the_augmentation_of_a_recipe():
    split = Split(
        np.zeros((2, 64, 64, 1), np.uint8),
        {"boxes": np.zeros((2, 5, 4), np.float32), "labels": np.zeros((2, 5), np.int32)},
    )
    data = DetectionDataset("made", split, split, scatter=ScatterDigits())
    recipe = recipes.recipe("digits-detector")
    assert recipes.fit_settings(recipe, data)[1]["augment"] == ScatterDigits()
    jittered = dataclasses.replace(recipe, augment="jitter")
    made = recipes.fit_settings(jittered, data)[1]["augment"]
    assert made.transforms[0] == ScatterDigits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in YOLO's layout; a run on it, interrupted and resumed; and an uninterrupted one."""
    made = tmp_path_factory.mktemp("detector")
    data = write_yolo(made / "boxes")
    common = ["train", "digits-detector", "--data", str(data), "--model-option", "width=4"]
    common += ["--batch-size", "4", "--lr", "0.01", "--quiet", "--scheduler", "none"]
    assert main([*common, "--epochs", "2", "--out", str(made / "whole")]) == 0
    saving = ["--save-every", "1", "--out", str(made / "parts")]
    assert main([*common, "--epochs", "1", *saving]) == 0
    assert main(["train", "--resume", str(made / "parts"), "--epochs", "2", "--quiet"]) == 0
    return made


@pytest.mark.slow
def test_a_detector_of_a_folder_trains_and_resumes_bit_for_bit(folder, capsys):
    whole, parts = (runs.read(folder / name) for name in ("whole", "parts"))
    for ours, theirs in zip(
        *(jax.tree.leaves(nnx.state(run.model, nnx.Param)) for run in (whole, parts)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert whole.history[-1].test == parts.history[-1].test
    assert set(whole.history[-1].test) == {"loss", "map", "map_50"}
    assert set(whole.history[-1].train) == {"loss"}
    assert whole.class_names == NAMES
    assert whole.model.options == {"num_classes": 2, "in_channels": 1, "width": 4}


@pytest.mark.slow
def test_evaluate_prints_average_precision_of_each_class(folder, capsys, tmp_path):
    run = folder / "whole"
    saved = runs.read(run)
    report = of_run(saved)
    test = data_of(saved).test
    found = detections(saved.predict(test.inputs))
    measured = detection.mean_average_precision(
        found, test.labels["boxes"], test.labels["labels"], num_classes=2
    )
    assert report.scores["map"] == measured.scores["map"]
    assert report.scores["map"] == pytest.approx(saved.history[-1].test["map"], abs=1e-6)
    assert main(["evaluate", str(run), "--out", str(tmp_path / "report")]) == 0
    out = capsys.readouterr().out
    assert "mAP@[.50:.95]" in out
    assert "class           AP      AP50      AP75    recall   objects" in out
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [row["class"] for row in record["classes"]] == list(NAMES)
    assert [row["objects"] for row in record["classes"]] == [2, 2]
    assert "average precision" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.slow
def test_predict_prints_boxes_and_draws_them_onto_the_file(folder, capsys, tmp_path):
    run = str(folder / "whole")
    large = tmp_path / "large.png"
    with Image.open(folder / "boxes" / "images" / "val" / "1.png") as image:
        image.resize((48, 32)).save(large)
    assert main(["predict", run, str(large), "--index", "1", "--score", "0.01",
                 "--out", str(tmp_path / "drawn")]) == 0  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{large}: ")
    assert lines[2] == f"wrote 2 images to {tmp_path / 'drawn'}"
    drawn = {path.name: read_header(path)[:2] for path in (tmp_path / "drawn").iterdir()}
    assert drawn == {"large.png": (192, 288), "test-example-1.png": (208, 312)}
    assert main(["predict", run, "--index", "0", "--score", "1"]) == 0
    assert capsys.readouterr().out == "test example 0: nothing found\n"
    one = tmp_path / "one.png"
    assert main(["predict", run, "--index", "0", "--out", str(one)]) == 0
    assert read_header(one) == (208, 312, False)
    for flags, message in (
        (
            ["--index", "0", "--out", str(one)],
            "out: expected a new .png file for one example, or a",
        ),
        (["--index", "0", "--top", "2"], "top: expected none, as CenterNet detects objects"),
        (["--index", "0", "--csv", "x.csv"], "csv: expected none, as CenterNet detects objects"),
        (["--out", str(tmp_path / "new.png")], "examples: expected a file, a text, --row or"),
        (["--prompt", "x"], "prompt: expected none, as CenterNet detects objects"),
    ):
        assert main(["predict", run, *flags]) != 0
        assert message in capsys.readouterr().err
    flags = ["train", "digits-detector", "--data", str(folder / "boxes"), "--augment", "flip", "-q"]
    assert main(flags) != 0
    assert "augment: expected none or jitter, as others move objects but not their" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_the_commands_on_data_tell_of_boxes(folder, capsys):
    boxes = str(folder / "boxes")
    assert main(["data", "info", boxes]) == 0
    assert "light        2        2" in capsys.readouterr().out
    assert main(["data", "head", boxes, "-n", "1"]) == 0
    assert "labels.boxes" in capsys.readouterr().out
    sheet = folder / "sheet.png"
    assert main(["data", "head", boxes, "-n", "3", "--out", str(sheet)]) == 0
    assert read_header(sheet)[:2] == (208 + 2 * 4, 3 * 312 + 4 * 4)  # with lines of 4 pixels
    assert main(["data", "check", boxes]) == 0
    assert "train 4, validation 4, all readable" in capsys.readouterr().out
    with (folder / "whole" / "history.csv").open() as file:
        assert "test_map" in next(csv.reader(file))

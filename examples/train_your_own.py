"""Trains a detector on a folder of images, evaluates it, and scores single images: python examples/train_your_own.py

    python examples/train_your_own.py --data DIR --run runs/mine

DIR contains train/real, train/fake, test/real and test/fake. Without --data, the script draws demo faces into such a
folder and trains on them; that takes less than a minute on a CPU.
"""

import argparse
import pathlib
import sys

import fakeimg
from fakeimg.config import default_config
from fakeimg.console import Console
from fakeimg.data.demo import DemoFaces
from fakeimg.evaluation.evaluator import evaluate
from fakeimg.runtime.start import start
from fakeimg.training.loop import train


def write_demo_faces(folder: pathlib.Path) -> None:
    """Writes small splits of drawn faces, real and fake, as JPEG files."""
    for split, count in {'train': 600, 'validation': 200, 'test': 200}.items():
        faces = DemoFaces(split, num_examples=count)
        for index, name in enumerate(faces.names):  # such as train/fake/000123.jpg
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(faces[index])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=pathlib.Path, help='folder of images; default: demo faces in RUN/faces')
    parser.add_argument('--run', type=pathlib.Path, default=pathlib.Path('runs/own'), help='run folder')
    arguments = parser.parse_args()
    data = arguments.data
    if data is None:
        data = arguments.run / 'faces'
        write_demo_faces(data)

    # 1. Describe the run. Every field has a default; fakeimg/config.py explains them.
    config = default_config()
    config.data.path = str(data)
    config.data.image_size = config.data.resize_size = 64  # pixels
    config.model.name = 'cnn'
    config.batch_size = 64
    config.epochs = 8.0
    config.optimizer.base_learning_rate = 4e-3

    # 2. Train. Calling this again continues from the last checkpoint.
    start()
    console = Console(sys.stdout)
    train(config, arguments.run, console)

    # 3. Evaluate the best checkpoint on images that were not used for training.
    detector = fakeimg.load(arguments.run)
    metrics, folder = evaluate(detector, 'test', console=console)
    print(f'test accuracy {metrics["accuracy"]:.4f}, AUC {metrics["auc"]:.4f}; report: {folder / "report.html"}')

    # 4. Score single images.
    images = sorted(data.glob('test/*/*'))
    for prediction in detector.predict([*images[:3], *images[-3:]]):
        print(f'{prediction.name}: {prediction.probability:.3f}')


if __name__ == '__main__':
    main()

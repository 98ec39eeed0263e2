"""Three small sets of real and forged faces from public repositories: python benchmarks/face_sets.py CLONES OUT

CLONES holds clones of the repositories in `SETS`, in folders OWNER+NAME. Both classes of a set go the same way: the
square in the middle, at most 256 px, one JPEG encoder, no metadata, names that are hashes. What belongs together is in
one split: the same photograph in two sets, a forgery and its original. Writes OUT/SET/{train,test}/{real,fake}/*.jpg.
"""

import hashlib
import io
import pathlib
import re
import sys

import numpy as np
import PIL.Image
import PIL.ImageOps

SIDE, MOST = 256, 1100  # pixels; images of a class
ALIKE = 0.9  # correlation of two images around the face, from which on they belong together

FFHQ, FFHQ_LARGE = 'zoya2244+AI-Lab-Final-Project-FALL25', 'dinablachman+realorfake'
CIPLAB = 'EASONTAN03+fake-face-detection/data/interim/real_and_fake_face_5'
SETS = {
    'stylegan1_ffhq': {'real': [f'{FFHQ}/dataset/real/*.jpg'], 'fake': [f'{FFHQ}/dataset/ai/*.jpg']},
    'stylegan2_ffhq': {
        'real': [f'{FFHQ_LARGE}/data/real/*.jpg'],
        'fake': ['junguler+TPDNE_example_images/**/*.jpg', f'{FFHQ_LARGE}/data/fake/*.jpg'],
    },
    'ciplab': {'real': [f'{CIPLAB}/t*/real/*.jpg'], 'fake': [f'{CIPLAB}/t*/fake/*.jpg']},
}


def digest(data: bytes | str) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def source(path: pathlib.Path, clones: pathlib.Path) -> str:
    """OWNER/NAME/path; of a photograph of FFHQ, that of the smaller copy, so that two sets split it alike."""
    name = str(path.relative_to(clones)).replace('+', '/', 1)
    number = re.match(FFHQ_LARGE.replace('+', '/') + r'/data/real/(\d+)\.jpg', name)
    return f'{FFHQ.replace("+", "/", 1)}/dataset/real/{int(number[1]):05d}.jpg' if number else name


def squares(clones: pathlib.Path, patterns: list[str], seen: set[str]) -> list[tuple[PIL.Image.Image, str]]:
    """Up to `MOST` images and their sources, none twice, in the order of hashes."""
    found: list[tuple[PIL.Image.Image, str]] = []
    paths = [path for pattern in patterns for path in clones.glob(pattern)]
    for path in sorted(paths, key=lambda path: digest(str(path.relative_to(clones)).replace('+', '/', 1))):
        image = PIL.ImageOps.exif_transpose(PIL.Image.open(path)).convert('RGB')
        side = min(image.size)
        image = PIL.ImageOps.fit(image, (side, side))
        if digest(image.tobytes()) not in seen and len(found) < MOST:
            seen.add(digest(image.tobytes()))
            size = min(SIDE, image.width)
            found.append((image.resize((size, size), PIL.Image.Resampling.LANCZOS), source(path, clones)))
    return found


def together(images: list[PIL.Image.Image], sources: list[str]) -> list[str]:
    """A name of the group of each: images that agree in hair, clothes and background, all but the middle."""
    around = np.ones((32, 32), bool)
    around[8:30, 8:24] = False
    rows = [np.asarray(image.resize((32, 32), PIL.Image.Resampling.BOX), float)[around].ravel() for image in images]
    x = np.stack(rows) - np.mean(rows, 1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    groups = list(sources)
    for one, other in np.argwhere(np.triu(x @ x.T, 1) > ALIKE):
        first, second = sorted((groups[one], groups[other]))
        groups = [first if group == second else group for group in groups]
    return groups


def main(clones: pathlib.Path, out: pathlib.Path) -> None:
    for name, classes in SETS.items():
        seen: set[str] = set()
        found = {label: squares(clones, patterns, seen) for label, patterns in classes.items()}
        number = min(map(len, found.values()))
        side = min(image.width for images in found.values() for image, _ in images[:number])
        items = [(label, *item) for label, images in found.items() for item in images[:number]]
        groups = together([image for _, image, _ in items], [place for _, _, place in items])
        counts = {(split, label): 0 for split in ('train', 'test') for label in classes}
        for group in sorted(set(groups), key=lambda group: digest(f'split {group}')):
            members = [item for item, other in zip(items, groups, strict=True) if other == group]
            labels = [label for label, *_ in members]
            fits = all(counts['test', label] + labels.count(label) <= number // 4 for label in classes)
            for label, image, _ in members:
                split = 'test' if fits else 'train'
                counts[split, label] += 1
                buffer = io.BytesIO()
                image = image if image.width == side else image.resize((side, side), PIL.Image.Resampling.LANCZOS)
                PIL.Image.fromarray(np.asarray(image)).save(buffer, 'JPEG', quality=90, subsampling='4:2:0')
                folder = out / name / split / label
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f'{digest(buffer.getvalue())[:20]}.jpg').write_bytes(buffer.getvalue())
        print(f'{name}, {side} px:', ', '.join(f'{" ".join(key)} {count:,}' for key, count in counts.items()))


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))

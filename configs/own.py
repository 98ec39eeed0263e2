"""One's own images: looks at the set and the machine, and takes the recipe that is meant for such.

Change `choose` in a copy of this file where your images are not of that kind.
"""

from fakeimg.config import Config, default_config
from fakeimg.data.summary import Summary

# Images that a recipe sees in all, where a set has many: about twelve and twenty minutes of two CPU cores.
SEEN_BY_SMALL_SET, SEEN_BY_CIFAKE_FAST = 140_000, 450_000


def get_config() -> Config:
    return default_config()


def choose(images: Summary, has_gpu: bool, weights: str) -> tuple[str, dict, str]:
    """Returns the name of a recipe, the fields to change in it, and why; `weights`: none, imagenet or detector."""
    if weights == 'detector':
        return 'own_pretrained', {'finetune.head_epochs': 0.0}, 'for it goes on from a detector, head included'
    if weights == 'imagenet':
        return 'own_pretrained', {}, 'for it starts from the weights of ImageNet'
    if images.side <= 40:
        side = max(16, images.side)
        size = {'data.image_size': side, 'data.resize_size': side} if side != 32 else {}
        epochs = min(40.0, max(5.0, round(SEEN_BY_CIFAKE_FAST / images.count)))
        changes = {'epochs': epochs, 'optimizer.warmup_epochs': epochs / 5}
        return 'cifake_fast', {**size, **(changes if epochs != 5 else {})}, 'for images that are small already'
    if has_gpu and images.count >= 20_000 and images.side >= 128:
        return 'resnet50', {}, 'for there is a GPU, and images enough for a large network'
    epochs = float(min(100, max(4, round(SEEN_BY_SMALL_SET / images.count))))
    changes = {'epochs': epochs, 'optimizer.warmup_epochs': epochs / 5, 'validate_every_epochs': epochs / 5}
    reason = 'a small network on whole images, which a CPU trains in minutes'
    return 'small_set', changes if epochs != 100 else {}, reason

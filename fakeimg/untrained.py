"""A detector that has learned nothing yet: a network with the weights that a training would start from."""

from fakeimg import initial
from fakeimg.config import Config
from fakeimg.detector import Detector, describe
from fakeimg.models import create_model
from fakeimg.runtime import parallel, precision


def from_recipe(config: Config) -> Detector:
    """Builds a detector with the weights that a training with this configuration would start from.

    Raises:
        UserError: a configuration that cannot work, no such weights, or a batch size that the devices do not divide.
    """
    config = initial.complete(config)
    devices = parallel.Devices.create(config.parallel, config.batch_size)
    model = create_model(config, precision.resolve(config.precision))
    variables, origin = initial.create(config, model)
    random = (
        f'RANDOM WEIGHTS (config.init.weights={config.init.weights}): these are features of a network that has '
        'learned nothing'
    )
    notes = () if origin else (random,)
    origin = f'weights {origin}' if origin else f'random weights, seed {config.seed}'
    variables = devices.replicate(variables)
    return Detector(config, model, variables, devices, describe(config, None), origin, notes=notes)

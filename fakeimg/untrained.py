"""A detector that has learned nothing yet: a network with the weights that a training would start from."""

from fakeimg.config import Config
from fakeimg.detector import Detector, describe
from fakeimg.models import create_model, init_variables
from fakeimg.pretrained import initial
from fakeimg.runtime import parallel, precision


def from_recipe(config: Config) -> Detector:
    """Builds a detector with the weights that a training with this configuration would start from.

    Raises:
        UserError: a configuration that cannot work, no such weights, or a batch size that the devices do not divide.
    """
    config = initial.complete(config)
    devices = parallel.Devices.create(config.parallel, config.batch_size)
    model = create_model(config, precision.resolve(config.precision))
    path = initial.find_weights(config)
    variables = init_variables(model, config.data.image_size, config.seed)
    origin, notes = f'weights {path}', ()
    if path is None:
        origin = f'random weights, seed {config.seed}'
        notes = (
            f'RANDOM WEIGHTS (config.init.weights={config.init.weights}): these are features of a network that has '
            'learned nothing',
        )
    else:
        variables = initial.load_weights(path, variables, config)
    variables = devices.replicate(variables)
    return Detector(config, model, variables, devices, describe(config, None), origin, notes=notes)

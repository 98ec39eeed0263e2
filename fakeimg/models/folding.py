"""BatchNorm folded into the convolution before it, for evaluation."""

from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax

from fakeimg.models.layers import EPSILON


def fold(model: nn.Module, variables: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """Scales every kernel by what BatchNorm multiplies its channels with, and leaves a bias of BatchNorm.

    y = scale (kernel x + bias' - mean) / sqrt(var + epsilon) + bias is a convolution again (Jacob et al. 2018, section
    3.2). Within the compiled step this costs little: in half precision kernels are read and cast there in any case.

    Args:
        model: a network; one without BatchNorm is returned as it is.
        variables: `params`, and `batch_stats` where it has BatchNorm, named like the convolutions (`bn1` of `conv1`).

    Returns:
        The network with `folded`, and its `params`.
    """
    statistics: dict[Any, Any] = flax.traverse_util.flatten_dict(variables.get('batch_stats', {}))
    if not statistics:
        return model, variables
    params: dict[Any, Any] = flax.traverse_util.flatten_dict(variables['params'])
    for *path, name in sorted({key[:-1] for key in statistics}):
        norm = (*path, name)
        conv = (*path, name.replace('bn', 'conv'))
        factor = params.pop((*norm, 'scale'), 1.0) * jax.lax.rsqrt(statistics[(*norm, 'var')] + EPSILON)
        params[(*conv, 'kernel')] *= factor
        bias = params.pop((*norm, 'bias')) - statistics[(*norm, 'mean')] * factor
        if (*conv, 'bias') in params:
            params[(*conv, 'bias')] = params[(*conv, 'bias')] * factor + bias
        else:
            params[(*norm, 'bias')] = bias
    return model.clone(folded=True), {'params': flax.traverse_util.unflatten_dict(params)}

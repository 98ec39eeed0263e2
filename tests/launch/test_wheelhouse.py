"""launch/wheelhouse.py: which packages a machine with JAX lacks."""

import runpy

from tests.support.verbs import ROOT


def test_the_wheelhouse_has_what_a_machine_with_jax_lacks() -> None:
    script = runpy.run_path(str(ROOT / 'launch/wheelhouse.py'))
    present = script['required'](list(script['PRESENT']), '3.12')
    lacking = script['required'](['fakeimg'], '3.12') - present
    assert {'fakeimg', 'array-record', 'clu', 'grain', 'simplejpeg', 'tensorflow-datasets'} <= lacking
    assert {'dm-tree', 'immutabledict', 'promise', 'termcolor'} <= lacking  # they are required by others
    assert {'absl-py', 'etils', 'jaxlib', 'numpy', 'scipy', 'tensorstore', 'threadpoolctl'} <= present
    assert lacking & {'torch', 'pytest'} == set()  # extras and groups are not followed

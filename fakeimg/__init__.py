"""fakeimg: trains, evaluates and applies detectors of generated and forged face pictures."""

__version__ = '0.1.0'

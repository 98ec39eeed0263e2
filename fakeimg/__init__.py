"""fakeimg: trains, evaluates and applies detectors of generated and forged face images."""

__version__ = '0.1.0'

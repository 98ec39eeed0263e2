"""Detectors applied to images of users: inputs in, one row each out."""

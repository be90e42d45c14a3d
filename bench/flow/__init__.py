"""Optical flow: estimators, a source that keeps what they find, and how good it is."""

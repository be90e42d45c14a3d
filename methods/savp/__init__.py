"""SAVP: Stochastic Adversarial Video Prediction (Lee et al., arXiv 1804.01523, 2018)."""

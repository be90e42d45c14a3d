"""Hao, Huang, Belongie: Controllable Video Generation with Sparse Trajectories, CVPR 2018."""

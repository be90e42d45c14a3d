"""The poking model: A. Blattmann, T. Milbich, M. Dorkenwald, B. Ommer, "Understanding Object Dynamics for Interactive
Image-to-Video Synthesis", CVPR 2021. Called "the paper" in this package; "the released program" is the authors'.
"""
